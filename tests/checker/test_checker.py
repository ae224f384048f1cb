"""The checker of certificates: it replays what is true, and refuses what was changed or does not follow."""

from __future__ import annotations

import ast
import copy
import hashlib
import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from certificates import Document, certificate_of, sealed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from quantize_nets import latch, loop
from zoo_nets import zoo_net

from eqcompile.quantization.lower import lower
from eqcompile.toolchain import checker
from eqcompile.toolchain.checker.__main__ import main as check_files
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import IntNet, Param
from eqcompile.toolchain.ir.serial import load, save

boxes, flow, norms, recovery, spread, tables = (
    importlib.import_module(f"eqcompile.toolchain.certificate.{name}")
    for name in ("boxes", "flow", "norms", "recovery", "spread", "tables")
)

EXAMPLES = Path(__file__).parents[2] / "examples"
CHECKER = Path(__file__).parents[2] / "toolchain" / "checker"


def small(seed: int, *, units: int = 6, bits: int = 6, alpha: float = 1.0, gain: float = 0.6) -> IntNet:
    made = loop(np.random.default_rng(seed), units=units, steps=10, gain=gain, alpha=alpha)
    return lower(made.net, QuantizeOptions(state_bits=bits), calibration=None).net


def samples(seed: int, count: int = 4) -> dict[str, Any]:
    return {"x": np.random.default_rng(seed).uniform(-1.0, 1.0, (count, 5))}


@pytest.fixture
def document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Document:
    return certificate_of(small(3), samples(3), tmp_path, capsys)


@pytest.mark.slow
@given(
    seed=st.integers(0, 2**32 - 1),
    units=st.sampled_from([1, 2, 7]),
    bits=st.integers(3, 9),
    alpha=st.sampled_from([1.0, 0.5]),
    gain=st.floats(0.1, 3.0),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_certificate_of_the_compiler_is_replayed(
    seed: int, units: int, bits: int, alpha: float, gain: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Contracting or not, damped or not: the claims are proved a second time by code that has nothing in common."""
    net = small(seed, units=units, bits=bits, alpha=alpha, gain=gain)
    document = certificate_of(net, samples(seed), tmp_path, capsys)
    lines = checker.check(json.dumps(document).encode(), (tmp_path / "net.onnx").read_bytes())
    assert len(lines) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits_layered.npz", "digits_cube.pt", "digits_mlp.pt"])
def test_certificates_of_the_examples_are_replayed(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A dense net that contracts, a lattice that does not, and a net without recurrence; by the command."""
    with np.load(EXAMPLES / "data" / "digits_test.npz") as file:
        x = file["x"][:3].astype(np.float64)
    net = lower(import_model(EXAMPLES / "checkpoints" / name).net, QuantizeOptions(), calibration={"x": x}).net
    document = certificate_of(net, {"x": x}, tmp_path, capsys)
    (tmp_path / "certificate.json").write_text(json.dumps(document))
    assert check_files([str(tmp_path / "certificate.json"), str(tmp_path / "net.onnx")]) == 0
    assert "every claim is replayed" in capsys.readouterr().out


def changes_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    """Every leaf of a document with another value."""
    if isinstance(value, dict):
        return [c for k, v in value.items() for c in changes_of(v, (*path, k))]
    if isinstance(value, list) and value:
        return [c for k, v in enumerate(value) for c in changes_of(v, (*path, k))]
    other = {bool: not value, int: 7 if value != 7 else 8, float: 0.123, str: "x", list: ["x"], type(None): 1}
    return [(path, other[type(value)])]


def changed(document: Document, path: tuple[Any, ...], value: Any) -> Document:
    result = copy.deepcopy(document)
    at: Any = result
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return result


def test_a_certificate_that_was_changed_in_any_field_is_refused(document: Document, tmp_path: Path) -> None:
    """A weaker claim too: it is not what was written."""
    net = (tmp_path / "net.onnx").read_bytes()
    paths = changes_of(document)
    assert len(paths) > 100
    for path, value in paths:
        with pytest.raises(checker.RefusalError):
            checker.check(json.dumps(changed(document, path, value)).encode(), net)


def test_a_stronger_claim_does_not_follow(document: Document, tmp_path: Path) -> None:
    """With the digest made anew, each number of a block and of the samples is refused once it claims too much."""
    net = (tmp_path / "net.onnx").read_bytes()
    checker.check(sealed(document), net)
    (block,) = document["certificate"]["blocks"]
    at = ("certificate", "blocks", 0)
    stronger: list[tuple[tuple[Any, ...], Any]] = [
        *(((*at, key), block[key] * 0.999) for key in ("bound", "rounding_lsb", "ball_lsb", "ball_lsb_per_unit")),
        ((*at, "steps_to_1_lsb_of_the_ball"), block["steps_to_1_lsb_of_the_ball"] - 1),
        ((*at, "units"), 5),
        ((*at, "upset_adds_lsb", "10"), block["upset_adds_lsb"]["10"] * 0.9),
        ((*at, "gates"), ["new"]),
        (("recovery", "count"), 3),
        (("recovery", "settled", "value"), 0.123),
        (("recovery", "harmless_from", 0), 1),
        (("recovery", "rows", 4, "safe", "value"), 1.5),
        (("net_sha256",), "0" * 64),
        (("certificate", "kind"), "measured"),
        (("other",), 1),
    ]
    for number, norm in enumerate(block["norms"]):
        place = (*at, "norms", number)
        stronger += [((*place, key), norm[key] * 0.999) for key in ("bound", "slack", "diameter")]
        stronger += [((*place, "codes_after", t), n - 1) for t, n in norm["codes_after"].items()]
        stronger.append(((*place, "weights"), "1 2"))
        stronger.append(((*place, "norm"), "3"))
    for path, value in stronger:
        with pytest.raises(checker.RefusalError):
            checker.check(sealed(changed(document, path, value)), net)


@pytest.mark.parametrize("name", ["safe", "apart"])
def test_a_label_or_a_code_that_is_not_proved_is_refused(name: str, document: Document, tmp_path: Path) -> None:
    """Of one sample after one tick, with rows and digest that agree with it."""
    from eqcompile.app.certification import _packed
    from eqcompile.toolchain.checker.samples import _unpacked

    forged = copy.deepcopy(document)
    samples_ = forged["recovery"]
    count, ticks = samples_["count"], samples_["proof"]["ticks"]
    values = _unpacked(samples_["proof"][name], (count, ticks)).copy()
    if name == "safe":
        assert not values[0, 0]
        values[0, 0] = 1
        samples_["rows"][0]["safe"]["value"] = float(values[:, 0].mean())
        samples_["harmless_from"][0] = 1
    else:
        values[0, -1] -= 1
        samples_["rows"][-1]["apart_median"]["value"] = float(np.median(values[:, -1]))
        samples_["rows"][-1]["apart_most"]["value"] = float(values[:, -1].max())
    samples_["proof"][name] = _packed(values)
    with pytest.raises(checker.RefusalError, match="sample 0: its"):
        checker.check(sealed(forged), (tmp_path / "net.onnx").read_bytes())


def test_radii_and_counterexamples_are_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a latch, which has two fixed points; a larger radius, or another end of the run, does not follow."""
    document = certificate_of(latch(), {"x": np.ones((1, 5))}, tmp_path, capsys)
    net = (tmp_path / "net.onnx").read_bytes()
    checker.check(json.dumps(document).encode(), net)
    samples_ = document["recovery"]
    (example,) = samples_["counterexamples"]
    assert samples_["local"]["radius"][0] > 0
    assert samples_["theorem"].startswith("vacuous")
    stronger: list[tuple[tuple[Any, ...], Any]] = [
        (("local", "radius", 0), 31),
        (("local", "apart", 0), -1),
        (("local", "share", "value"), 0.5),
        (("local", "rate", "value"), 0.01),
        *((("counterexamples", 0, key), example[key] + 1) for key in ("codes", "period")),
        (("counterexamples", 0, "labels"), [0, 0]),
        (("counterexamples", 0, "what"), "cycle"),
        (("counterexamples", 0, "start", "h"), samples_["proof"]["safe"]),
    ]
    for path, value in stronger:
        with pytest.raises(checker.RefusalError):
            checker.check(sealed(changed(document, ("recovery", *path), value)), net)


def test_another_net_is_refused(document: Document, tmp_path: Path) -> None:
    """By its digest, and if that is forged by what its weights do."""
    net = load(tmp_path / "net.onnx")
    assert isinstance(net, IntNet)
    (weight,) = (p for p in net.params if p.name.startswith("W"))
    # Rows that all pull the same way: each is one that the formats hold, their norm is larger.
    wider = np.tile(weight.value[np.abs(weight.value).sum(axis=1).argmin()], (len(weight.value), 1))
    save(replace(net, params=tuple(Param(p.name, wider, "") if p is weight else p for p in net.params)), tmp_path / "o")
    content = (tmp_path / "o").read_bytes()
    with pytest.raises(checker.RefusalError, match="another net"):
        checker.check(json.dumps(document).encode(), content)
    other = load(tmp_path / "o")
    forged = document | {"net_sha256": hashlib.sha256(content).hexdigest(), "ir_digest": other.digest}
    with pytest.raises(checker.RefusalError, match="L = "):
        checker.check(sealed(forged), content)


def _narrower(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *a, **k: boxes.Box(*(lambda b: (b.lo + (b.hi - b.lo) // 3, b.hi))(original(*a, **k)))


MUTANTS: dict[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "norm of the certificate": (flow, "spectral_bound", lambda f: lambda m: 0.99 * f(m)),
    "norm of the norms": (norms, "Square", lambda f: type("Less", (f,), {"bound": lambda self: 0.99 * f.bound(self)})),
    "slope of a table": (spread, "growth", lambda f: lambda t: (0.99 * f(t)[0], f(t)[1])),
    "jump of a table": (spread, "growth", lambda f: lambda t: (f(t)[0], 0)),
    "rounding in the 2-norm": (norms, "_root_of_squares", lambda f: lambda v: 0.9 * f(v)),
    "local norms": (recovery, "spectral_bounds", lambda f: lambda m: 0.3 * f(m)),
    "slope in a window": (tables, "_slopes", lambda f: lambda t: 0.3 * f(t)),
    "boxes of linear maps": (boxes.Boxes, "_mapped", _narrower),
    "distance of boxes": (recovery._Run, "_norms", lambda f: lambda self: 0.8 * f(self)),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_wrong_arithmetic_is_noticed(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler that proves too much: the checker does not follow on one of these nets."""
    place, attribute, change = MUTANTS[name]
    monkeypatch.setattr(place, attribute, change(getattr(place, attribute)))
    for seed in range(4):
        document = certificate_of(small(seed, bits=8), samples(seed), tmp_path, capsys)
        try:
            checker.check(json.dumps(document).encode(), (tmp_path / "net.onnx").read_bytes())
        except checker.RefusalError:
            return
    pytest.fail("no certificate was refused")


@pytest.mark.slow
def test_what_the_checker_does_not_know_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A layer normalisation: not replayed is another answer than refused. So are files that cannot be read."""
    source, inputs = zoo_net("ModernEqProp_archive_sn")
    net = lower(source, QuantizeOptions(), calibration=inputs).net
    document = certificate_of(net, inputs, tmp_path, capsys)
    (tmp_path / "c.json").write_text(json.dumps(document))
    assert check_files([str(tmp_path / "c.json"), str(tmp_path / "net.onnx")]) == 2
    assert "does not know isqrt" in capsys.readouterr().err
    assert check_files([str(tmp_path / "c.json"), str(tmp_path / "none")]) == 2
    assert check_files([]) == 2
    (tmp_path / "o.onnx").write_bytes(b"no net")
    forged = document | {"net_sha256": hashlib.sha256(b"no net").hexdigest()}
    (tmp_path / "f.json").write_bytes(sealed(forged))
    assert check_files([str(tmp_path / "f.json"), str(tmp_path / "o.onnx")]) == 1
    (tmp_path / "c.json").write_text("{}")
    assert check_files([str(tmp_path / "c.json"), str(tmp_path / "net.onnx")]) == 1


def test_the_checker_imports_nothing_of_the_compiler() -> None:
    """NumPy, onnx with its protobuf, the standard library and its own folder."""
    for path in CHECKER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {a.name.partition(".")[0] for a in node.names} <= {
                    "numpy",
                    "onnx",
                    "google",
                } | sys.stdlib_module_names
            if isinstance(node, ast.ImportFrom):
                known = {"numpy", "onnx", "google"} | sys.stdlib_module_names
                assert node.level == 1 or (node.level == 0 and str(node.module).partition(".")[0] in known)
