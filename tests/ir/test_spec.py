"""The specification runs: every example on golden, every table against the code it describes."""

from __future__ import annotations

import doctest
import re
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from strategies import small_net, with_formats

from eqcompile.toolchain import ir
from eqcompile.toolchain.golden import labels, run
from eqcompile.toolchain.ir import Encoding, Format, Input, IntNet, Output, Param, Schedule, ops
from eqcompile.toolchain.ir.ops import Op

SPEC = (files("eqcompile.toolchain.ir") / "SPEC.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^(##+ [^\n]+)\n(.*?)(?=^##|\Z)", SPEC, re.M | re.S)
EXAMPLES = {head: body for head, body in SECTIONS if "```python" in body}


def value(operation: type[Op], /, *, params: Any = None, formats: Any = None, **fields: Any) -> Any:
    """Golden's value of one operation, its operands and parameters given as lists."""
    made = [Param(name, np.array(v, np.int64), "example") for name, v in (params or {}).items()]
    inputs, named, before = [], {}, []
    for field, role in operation.reference_fields():
        if field not in fields:
            continue
        array = np.array(fields[field], np.int64)
        named[field] = f"{field}_"
        if role == "param" or (operation is ops.Divide and field == "b"):  # a constant divisor is proved positive
            made.append(Param(f"{field}_", array, "example"))
            continue
        fmt = Format.holding(int(array.min()), int(array.max()))
        if operation is ops.Embedding:
            inputs.append((Input("x_", array.shape, "index", rows=int(array.max()) + 1), array))
        elif field == "condition":
            made.append(Param("zero", np.array(0), "example"))
            inputs.append((Input("c", array.shape, encoding=Encoding(fmt, 1.0)), array))
            before.append(ops.Greater(out="condition_", a="c", b="zero"))
        else:
            inputs.append((Input(f"{field}_", array.shape, encoding=Encoding(fmt, 1.0)), array))
    op = operation(out="y", **{**fields, **named})
    after = []
    if operation is ops.Greater:
        made += [Param("yes", np.array(1), "example"), Param("no", np.array(0), "example")]
        after.append(ops.Select(out="shown", condition="y", a="yes", b="no"))
    net = IntNet(
        name="example",
        family="example",
        inputs=tuple(i for i, _ in inputs),
        params=tuple(made),
        states=(),
        drive=(*before, op, *after),
        step=(),
        readout=(),
        outputs=(Output("o", "shown" if after else "y", "values", 1.0),),
        schedule=Schedule(1),
        formats=formats or {},
    )
    return run(with_formats(net), {i.name: array[None] for i, array in inputs}).outputs["o"][0].tolist()


def encode(x: list[float], *, scale: float, format: Format) -> list[int]:
    """The encoding rule, in the words of `Encoding`."""
    codes: list[int] = np.clip(np.rint(np.array(x) / scale), format.lo, format.hi).astype(int).tolist()
    return codes


@pytest.mark.parametrize("section", EXAMPLES)
def test_examples_run_on_golden(section: str) -> None:
    """An example that golden no longer fulfils: either the document or the definition of right has drifted."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", EXAMPLES[section], re.S))
    names = {name: getattr(ir, name) for name in ir.__all__}
    names |= {"np": np, "run": run, "labels": labels, "value": value, "encode": encode, "loop": small_net}
    test = doctest.DocTestParser().get_doctest(code, names, section, "SPEC.md", 0)
    assert test.examples
    report: list[str] = []
    failed = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST).run(test, out=report.append)
    assert failed.failed == 0, "".join(report)


def test_every_integer_operation_has_an_example() -> None:
    """An operation that the specification states without numbers."""
    integer = {kind.__name__ for kind, levels in ir.LEGAL.items() if "intnet" in levels}
    assert integer == set(re.findall(r"value\(ops\.(\w+)", SPEC))


def table(head: str) -> list[list[str]]:
    body = next(body for h, body in SECTIONS if head in h)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines() if line.startswith("|")]
    return rows[2:]


def test_legality_table_is_the_verifiers() -> None:
    """A row of the table that the verifier does not enforce, or the other way."""
    want = {kind.mnemonic: ("eqnet" in levels, "intnet" in levels) for kind, levels in ir.LEGAL.items()}
    assert {name: (eq == "yes", integer == "yes") for name, eq, integer in table("Legality")} == want


def test_float_table_lists_the_float_operations() -> None:
    """A float operation that the specification leaves out."""
    want = {kind.mnemonic for kind, levels in ir.LEGAL.items() if "intnet" not in levels}
    assert {row[0] for row in table("The float level")} == want


def test_fault_table_lists_every_code() -> None:
    """A diagnostic that the specification does not explain, or explains and nothing raises."""
    source = (files("eqcompile.toolchain.ir") / "verify.py").read_text(encoding="utf-8")
    assert {row[0] for row in table("Faults")} == set(re.findall(r'Diagnostic\(\s*"(ir-[a-z-]+)"', source))


def test_a_wrong_number_in_the_specification_is_caught() -> None:
    """The example runner itself: a changed expectation must fail."""
    test = doctest.DocTestParser().get_doctest(
        ">>> value(ops.Abs, x=[-1])\n[2]\n", {"value": value, "ops": ops}, "mutant", "SPEC.md", 0
    )
    assert doctest.DocTestRunner().run(test, out=lambda text: None).failed == 1
