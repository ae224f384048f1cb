"""The control domain: which registers hardening votes over, whatever the source looks like.

`python tests/rtl/test_control.py` writes the golden lists anew.
"""

from __future__ import annotations

import ast
import importlib
import importlib.resources
import itertools
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import rtl_mutants
from amaranth.hdl import Fragment
from amaranth.hdl import SyntaxError as DriverConflict
from rtl_mutant import Mutant
from rtl_mutant_nets import subjects
from strategies import small_net

from eqcompile.rtl.architecture import Architecture
from eqcompile.rtl.parallel.options import Parallel
from eqcompile.rtl.serial.options import Serial
from eqcompile.targets.rtl.emit import shell_of
from eqcompile.toolchain.ir import IntNet

GOLDEN = Path(__file__).parent / "golden"
SERIAL, PARALLEL = subjects("serial")[0].net, subjects("parallel")[1].net
ALL = ("watchdog", "safe-fsm", "secded", "tmr", "residue")
PROTECTED = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=list(range(-80, 81)), first=-80, steps=6)
CORES = {
    "serial_tmr": (SERIAL, Serial(lanes=2, harden="tmr")),
    "serial_tmr_parity": (SERIAL, Serial(lanes=2, harden="parity,tmr")),
    "serial_all": (SERIAL, Serial(lanes=2, harden=",".join(ALL))),
    "parallel_tmr": (PARALLEL, Parallel(levels=3, harden="tmr")),
    "parallel_tmr_steps": (PARALLEL, Parallel(levels=2, step_levels=2, harden="tmr")),
    "parallel_tmr_protect": (PROTECTED, Parallel(harden="tmr", protect="h=0,2")),
}
"""Net and architecture of each golden list of voted registers."""


def elaborated(core: tuple[IntNet, Architecture]) -> Fragment:
    net, architecture = core
    return Fragment.get(shell_of(net, architecture, trace=False), None)


def named(paths: Iterable[tuple[tuple[str, ...], Iterable[Any]]]) -> str:
    lines = [f"{'.'.join((*path, register.name))} {len(register)}" for path, held in paths for register in held]
    return "".join(f"{line}\n" for line in sorted(lines))


def voted(top: Fragment) -> str:
    """Hierarchical name and width of each voted register, in all three copies alike."""
    control = importlib.import_module("eqcompile.rtl.control")
    copies = []
    for number in range(3):
        held = [(p, f) for p, f in control.fragments(top) if p and p[-1] == f"vote_copy_{number}"]
        text = named((path[:-1], control.registers(fragment, "sync")) for path, fragment in held)
        copies.append(re.sub(rf"(^|\.)vote{number}_", r"\1", text, flags=re.MULTILINE))
    assert copies[0] == copies[1] == copies[2]
    return copies[0]


def lattice_control() -> str:
    """Control registers of a lattice engine, which has no votes."""
    control = importlib.import_module("eqcompile.rtl.control")
    engine = importlib.import_module("eqcompile.rtl.lattice.engine")
    subject = subjects("lattice")[0]
    built = engine.LatticeEngine(subject.net, trace=False, **subject.options)
    top = Fragment.get(built.build(), None)
    return named((path, control.registers(fragment, control.CONTROL)) for path, fragment in control.fragments(top))


def golden(name: str) -> str:
    return (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CORES)
def test_the_voted_registers_are_those_of_the_golden_list(name: str) -> None:
    """A register that loses its votes, or its name, shows here and nowhere else."""
    assert voted(elaborated(CORES[name])) == golden(name)


def test_control_of_the_lattice_is_that_of_the_golden_list() -> None:
    """An architecture without votes keeps its control apart all the same."""
    assert lattice_control() == golden("lattice")


def test_without_votes_control_is_an_ordinary_domain() -> None:
    """A domain that is left over has a clock of its own that nothing drives."""
    from eqcompile.rtl.control import fragments

    for harden in ((), ("watchdog", "safe-fsm", "secded", "residue")):
        top = elaborated((SERIAL, Serial(lanes=2, harden=",".join(harden))))
        assert voted(top) == ""
        assert {domain for _, fragment in fragments(top) for domain in fragment.statements} == {"comb", "sync"}


def is_declaration(node: ast.stmt) -> bool:
    """A register or wire on a line of its own: `NAME = Signal(...)`."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
        return False
    return len(node.targets) == 1 and ast.unparse(node.value.func) == "Signal"


class Joined(ast.NodeTransformer):
    """Neighbouring declarations in one statement."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for field in ("body", "orelse"):
            body = getattr(node, field, None)
            if isinstance(body, list):
                setattr(node, field, list(itertools.chain(*map(self._one, itertools.groupby(body, is_declaration)))))
        return node

    def _one(self, group: tuple[bool, Iterable[Any]]) -> list[Any]:
        declarations, nodes = group[0], list(group[1])
        if not declarations or len(nodes) < 2:
            return nodes
        targets = ast.Tuple([n.targets[0] for n in nodes], ast.Store())
        return [ast.Assign([targets], ast.Tuple([n.value for n in nodes], ast.Load()))]


class Split(ast.NodeTransformer):
    """Each declaration of a joined one in a statement of its own."""

    def visit_Assign(self, node: ast.Assign) -> Any:
        (target, *more), value = node.targets, node.value
        if more or not isinstance(target, ast.Tuple) or not isinstance(value, ast.Tuple):
            return node
        parts = [ast.Assign([t], v) for t, v in zip(target.elts, value.elts, strict=True)]
        return parts if all(is_declaration(part) for part in parts) else node


def reformatted(text: str, visitor: type[ast.NodeTransformer]) -> str:
    return ast.unparse(ast.fix_missing_locations(visitor().visit(ast.parse(text))))


REWRITTEN = (
    "shell",
    "serial.core",
    "serial.applier",
    "serial.changes",
    "serial.sweep",
    "harden.memory",
    "harden.residue",
)
REWRITTEN += ("harden.guard", "harden.watchdog", "parallel.engine", "parallel.intake", "lattice.engine")
REWRITTEN += ("lattice.cells", "lattice.sites", "relaxation")
"""Modules with control registers."""


@pytest.mark.slow
@pytest.mark.parametrize("visitor", [Joined, Split])
def test_the_lists_depend_on_no_line_break(visitor: type[ast.NodeTransformer]) -> None:
    """Names that Amaranth takes from the source change with its lines; what is voted must not."""
    root = Path(str(importlib.resources.files("eqcompile.rtl")))
    with rtl_mutants.rewritten(dict.fromkeys(REWRITTEN, lambda text: reformatted(text, visitor))) as texts:
        assert {n: voted(elaborated(core)) for n, core in CORES.items()} == {n: golden(n) for n in CORES}
        assert lattice_control() == golden("lattice")
    before = {m: root.joinpath(*m.split(".")).with_suffix(".py").read_text(encoding="utf-8") for m in REWRITTEN}
    assert sum(texts[m] != ast.unparse(ast.parse(before[m])) for m in REWRITTEN) >= 4


MOVED = (
    Mutant("last", "serial.core", "self.m.d.control += self.last", "self.m.d.sync += self.last"),
    Mutant("at", "harden.memory", "m.d.control += at.eq", "m.d.sync += at.eq"),
    Mutant("flags", "harden.guard", "m.d.control += self.flags", "m.d.sync += self.flags"),
    Mutant("restart", "shell", "m.d.control += both", "m.d.sync += both"),
)


@pytest.mark.parametrize("mutant", MOVED, ids=lambda m: m.name)
def test_a_register_that_leaves_the_domain_is_missed(mutant: Mutant) -> None:
    """The golden list must notice what changes no clock and no code."""
    with rtl_mutants.mutated(mutant):
        found = voted(elaborated(CORES["serial_all"]))
    missing = Counter(golden("serial_all").splitlines()) - Counter(found.splitlines())
    assert missing
    assert all(line.split()[0].endswith(mutant.name) for line in missing.elements())


def test_no_register_is_half_control() -> None:
    """A register that one line assigns as control and another one as data would be voted in some clocks."""
    half = Mutant(
        "half", "serial.core", "m.d.control += self.phase.eq(self.program", "m.d.sync += self.phase.eq(self.program"
    )
    with rtl_mutants.mutated(half), pytest.raises(DriverConflict, match="phase"):
        elaborated(CORES["serial_tmr"])


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, core in CORES.items():
        (GOLDEN / f"{name}.txt").write_text(voted(elaborated(core)), encoding="utf-8")
    (GOLDEN / "lattice.txt").write_text(lattice_control(), encoding="utf-8")
    sys.exit(0)
