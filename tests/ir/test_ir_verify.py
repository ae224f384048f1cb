"""The verifier: a broken net for every diagnostic, and the legality table over every operation."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any, get_args

import numpy as np
import pytest
from broken_nets import BROKEN, I8, INT, X, also, fix, floating, formats, integer, nested, schedule, token
from strategies import with_formats

from eqcompile.toolchain.diagnostics import VerifyError
from eqcompile.toolchain.ir import (
    LEGAL,
    EqNet,
    Format,
    Input,
    IntNet,
    Net,
    Output,
    Param,
    Schedule,
    State,
    check,
    ops,
    verify,
)
from eqcompile.toolchain.ir.ops import Op
from eqcompile.toolchain.ir.verify import level_of


@pytest.mark.parametrize(("code", "net", "what"), BROKEN, ids=[f"{i}-{c}" for i, (c, _, _) in enumerate(BROKEN)])
def test_broken_net_is_refused(code: str, net: Net, what: str) -> None:
    """A rule of the IR that nothing enforces."""
    net = fix(net)
    with pytest.raises(VerifyError) as caught:
        verify(net)
    found = [d for d in caught.value.diagnostics if d.code == code and what in d.what + d.where]
    assert found, str(caught.value)


def test_every_code_has_a_broken_net() -> None:
    """A diagnostic that nobody triggers is a broken message waiting to be read."""
    source = (files("eqcompile.toolchain.ir") / "verify.py").read_text(encoding="utf-8")
    assert {code for code, _, _ in BROKEN} == set(re.findall(r'Diagnostic\(\s*"([a-z-]+)"', source))


def test_the_unbroken_nets_are_valid() -> None:
    """If the nets were broken to begin with, every case above would pass for the wrong reason."""
    for net in (integer(), floating(), nested(), with_formats(token(3, 3))):  # type: ignore[arg-type]
        assert check(net) == []


def test_all_faults_are_found_in_one_run() -> None:
    """One fault a run makes a user run the compiler ten times."""
    net = schedule(also(INT, ops.Abs(out="w", x="nowhere"), p=1.0), steps=0, tolerance=-2)
    assert {d.code for d in check(net)} == {"ir-name-twice", "ir-undefined", "ir-dtype", "ir-steps", "ir-tolerance"}
    several = [d.where for d in check(formats(INT, w=I8, a=I8, y=Format(2, True)))]
    assert several == ["a", "w", "y"]


def operations() -> tuple[type[Op], ...]:
    """Every operation class of the IR."""
    return get_args(Op)


FIELDS: dict[type[Op], dict[str, Any]] = {
    ops.Linear: {"weight": "W"},
    ops.Stencil: {"weight": "V", "index": "J"},
    ops.Conv: {"x": "i", "weight": "C", "stride": 1, "padding": 0},
    ops.Embedding: {"x": "t", "table": "W"},
    ops.MatMul: {"a": "i", "b": "i"},
    ops.Select: {"condition": "c"},
    ops.Reduce: {"kind": "sum", "axes": (-1,), "keep": False},
    ops.Reshape: {"shape": (1, 2)},
    ops.Transpose: {"axes": (0,)},
    ops.Repeat: {"init": "h", "count": 1, "carry": "g", "body": (), "result": "g"},
    ops.Scale: {"factor": 0.5},
    ops.Activation: {"kind": "tanh"},
    ops.Clip: {"lo": -0.5, "hi": 1.0},
    ops.Damp: {"alpha": 0.5},
    ops.Mod: {"period": 1.0},
    ops.Normalize: {"axes": (-1,), "groups": 1, "eps": 1e-5, "eps_on": "variance"},
    ops.Rescale: {"multiplier": "one", "shift": 1},
    ops.Lookup: {"table": "T", "first": 0},
    ops.Interpolate: {"base": "T", "slope": "T", "first": 0, "shift": 1},
    ops.DampFixed: {"multiplier": 1, "shift": 1},
    ops.Divide: {"b": "one", "shift": 1},
}


def with_operation(kind: type[Op], level: str) -> Net:
    """A net of `level` that is valid but perhaps for its one operation of `kind`."""
    operands = {name: "h" for name, role in kind.reference_fields() if role == "value"}
    op = kind(out="z", **{**operands, **FIELDS.get(kind, {})})
    dtype = np.float64 if level == "eqnet" else np.int64
    params = {
        "W": np.ones((2, 2), dtype),
        "V": np.ones((2, 1), dtype),
        "J": np.zeros((2, 1), np.int64 if level == "intnet" or kind is ops.Stencil else dtype),
        "C": np.ones((1, 1, 1), dtype),
        "T": np.arange(2).astype(dtype),
        "one": np.array(1, dtype),
    }
    net = (EqNet if level == "eqnet" else IntNet)(
        name="one",
        family="test",
        inputs=(Input("x", (2,), encoding=None if level == "eqnet" else X), Input("t", (), "index", rows=2)),
        params=tuple(Param(n, v, "test") for n, v in params.items()),
        states=(State("h", (2,), "h"),),
        drive=(),
        step=(ops.Greater(out="c", a="h", b="x"), ops.Reshape(out="i", x="C", shape=(1, 1)), op),
        readout=(),
        outputs=(Output("o", "h", "values", None if level == "eqnet" else 1.0),),
        schedule=Schedule(1),
    )
    if isinstance(net, IntNet) and level in LEGAL[kind]:
        return with_formats(formats(net, h=I8, g=I8) if kind is ops.Repeat else formats(net, h=I8))
    return net


@pytest.mark.parametrize("level", ["eqnet", "intnet"])
@pytest.mark.parametrize("kind", sorted(operations(), key=lambda k: k.__name__))
def test_operations_are_legal_where_the_table_says(kind: type[Op], level: str) -> None:
    """An operation that stands at a level without semantics there; a new class that is missing in the table."""
    assert kind in LEGAL
    net = with_operation(kind, level)
    assert level_of(net) == level
    faults = [d.code for d in check(net)]
    assert faults == ([] if level in LEGAL[kind] else ["ir-illegal"])


def test_legality_table_has_no_other_rows() -> None:
    """A row for something that is no operation, and two operations that print alike."""
    kinds = list(operations())
    assert set(LEGAL) == set(kinds)
    assert all(LEGAL.values())
    mnemonics = [kind.mnemonic for kind in kinds]
    assert len(set(mnemonics)) == len(mnemonics)
    assert all(mnemonics)


def test_an_unknown_operation_is_illegal() -> None:
    """A plug-in's own operation must not slip through either level."""

    class Strange(ops.Operation):
        mnemonic = "strange"

    assert [d.what for d in check(also(INT, Strange(out="q")))] == ["strange (q) is not legal in an intnet"]
