"""What the lattice engine computes, in which shares: a net taken apart into its three maps and what follows each.

drive:   map of the input  -> operations a site -> values that the step reads, initial codes
step:    map of one state  -> operations a site -> new codes
readout: map of that state -> operations a row  -> the output
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np

from eqcompile.rtl.datapath import ELEMENTWISE, weight_format
from eqcompile.rtl.interface import foreseen_refusals, live_taps, refusals, too_many_taps, unknown_operations
from eqcompile.rtl.parallel.matrix import Array, LinearMap, matrix_of
from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import Format, IntNet, ops
from eqcompile.toolchain.ir.ops import Op
from eqcompile.toolchain.passes import Analysis
from eqcompile.toolchain.requirements import Requirements

from .walk import Walk, walk_of

__all__ = ["Plan", "check", "foresee", "plan_of"]

WEIGHTED = (ops.Linear, ops.Stencil, ops.Conv)
TAKEN = (*WEIGHTED, *ELEMENTWISE, ops.Reshape)


@dataclass(frozen=True, eq=False)
class Plan:
    """A net and its shares: `passes` blocks of sites, one cell for each site of a block, `units` for all operations
    after the maps, each serving `share` cells."""

    net: IntNet
    passes: int
    units: int

    @cached_property
    def sites(self) -> int:
        return prod(self.net.states[0].shape)

    @cached_property
    def cells(self) -> int:
        return -(-self.sites // self.passes)

    @cached_property
    def share(self) -> int:
        return -(-self.cells // self.units)

    @cached_property
    def names(self) -> Mapping[str, str]:
        """The value that each reshaped one is; C order stays."""
        sources: dict[str, str] = {}
        for op in self.net.all_ops():
            if isinstance(op, ops.Reshape):
                sources[op.out] = sources.get(op.x, op.x)
        return sources

    def name(self, value: str) -> str:
        """`value`, or what it is a reshape of."""
        return self.names.get(value, value)

    @cached_property
    def maps(self) -> tuple[LinearMap, LinearMap, LinearMap]:
        """Of the input, of the state, and of the readout."""
        drive, step, readout = (
            next(op for op in block if isinstance(op, WEIGHTED))
            for block in (self.net.drive, self.net.step, self.net.readout)
        )
        return drive, step, readout

    @cached_property
    def matrices(self) -> tuple[Array, Array, Array]:
        types = Analysis.of(self.net).types
        drive, step, readout = (matrix_of(op, self.net, types) for op in self.maps)
        return drive, step, readout

    @cached_property
    def walk(self) -> Walk:
        return walk_of(self.matrices[1], self.passes)

    @property
    def operand(self) -> str:
        """The state that the cells hold."""
        return self.name(self.maps[1].x)

    @property
    def kept(self) -> list[str]:
        """Values of the drive that are read after it."""
        driven = {op.out for op in self.net.drive}
        read = [n for op in self.net.step for n in op.reads] + [s.update for s in self.net.states]
        return sorted({self.name(n) for n in read} & driven)

    @cached_property
    def words(self) -> Array:
        """`[word, cell]`: every weight in the order in which the cells need it: `bases` says where each map begins."""
        drive, _, readout = self.matrices
        spare = self.cells * self.passes - self.sites
        by_site = np.pad(drive, ((0, spare), (0, 0))).reshape(self.passes, self.cells, -1)
        by_row = np.pad(readout, ((0, 0), (0, spare))).reshape(-1, self.cells)
        step = self.walk.weights.transpose(1, 0, 2).reshape(-1, self.cells)
        return np.concatenate([by_site.transpose(0, 2, 1).reshape(-1, self.cells), step, by_row])

    @property
    def bases(self) -> tuple[int, int, int]:
        """First word of drive, step and readout."""
        drive = self.passes * self.matrices[0].shape[1]
        return 0, drive, drive + self.passes * len(self.walk.places)

    @property
    def weight_format(self) -> Format:
        """Of the weights of all cells."""
        return weight_format(int(self.words.min()), int(self.words.max()))

    @property
    def code_format(self) -> Format:
        """What a cell multiplies: codes of the state and of the input."""
        formats = [self.net.formats[self.operand], self.net.formats[self.net.inputs[0].name]]
        return Format.holding(min(f.lo for f in formats), max(f.hi for f in formats))

    @property
    def sum_format(self) -> Format:
        """A cell's sums: of a site's terms, or of its own terms of a row of the readout."""
        lows, highs = [0], [0]
        drive, step, readout = self.matrices
        spare = self.cells * self.passes - self.sites
        shares = np.pad(readout, ((0, 0), (0, spare))).reshape(len(readout), self.passes, self.cells)
        x, h = (self.net.formats[n] for n in (self.net.inputs[0].name, self.operand))
        for rows, f in ((drive, x), (step, h), (shares.transpose(0, 2, 1).reshape(-1, self.passes), h)):
            positive, negative = np.maximum(rows, 0).sum(axis=1), np.minimum(rows, 0).sum(axis=1)
            lows.append(int((positive * f.lo + negative * f.hi).min()))
            highs.append(int((positive * f.hi + negative * f.lo).max()))
        return Format.holding(min(lows), max(highs))

    def sites_of(self, unit: int) -> list[int | None]:
        """Sites that a unit serves, in its order; None where the shares are uneven."""
        sites: list[int | None] = []
        for block in range(self.passes):
            for cell in range(unit * self.share, (unit + 1) * self.share):
                site = block * self.cells + cell
                sites.append(site if cell < self.cells and site < self.sites else None)
        return sites


def plan_of(net: IntNet, *, passes: int, units: int | None) -> Plan:
    """The plan; without `units` as many as keep pace with the cells, and never one that no cell needs."""
    alone = Plan(net, passes, 1)
    asked = units or -(-alone.cells // len(alone.walk.places))
    return replace(alone, units=-(-alone.cells // replace(alone, units=asked).share))


def foresee(needs: Requirements) -> list[Diagnostic]:
    """What is certain of `check` before quantization."""
    kinds = {op.out: type(op) for op in needs.net.all_ops()}
    taps = sum(m.taps for m in needs.maps if kinds[m.name] is not ops.Stencil)
    return [*foreseen_refusals(needs, TAKEN, "lattice"), *too_many_taps(taps, needs.net.name, "lattice")]


def check(net: IntNet, *, passes: int = 1, units: int | None = None) -> list[Diagnostic]:
    """Every reason why the engine cannot take `net` with these options, by node."""
    diagnostics = [*unknown_operations(net, TAKEN, "lattice", _ELSE), *_interface(net)]
    diagnostics = diagnostics or [*too_many_taps(live_taps(net, besides=ops.Stencil), net.name, "lattice")]
    if diagnostics:
        return diagnostics
    diagnostics = [*_maps(net)]
    if diagnostics:
        return diagnostics
    plan = Plan(net, 1, 1)
    diagnostics = [*_values(plan)]
    if not 1 <= passes <= plan.sites:
        what = f"passes is {passes}, must be in 1..{plan.sites}"
        diagnostics.append(Diagnostic("rtl-passes", what, net.name, "as many as the lattice has planes give one plane"))
    elif units is not None and not 1 <= units <= -(-plan.sites // passes):
        what = f"units is {units}, must be in 1..{-(-plan.sites // passes)}, the number of cells"
        diagnostics.append(Diagnostic("rtl-units", what, net.name))
    return diagnostics


def _interface(net: IntNet) -> Iterator[Diagnostic]:
    yield from refusals(net)
    for values, what in ((net.inputs, "inputs"), (net.outputs, "outputs")):
        if len(values) != 1:
            names = ", ".join(v.name for v in values)
            yield Diagnostic("rtl-lattice-io", f"{len(values)} {what}, a lattice has 1", names or net.name, _ELSE)
    if not net.states:
        yield Diagnostic("rtl-lattice-states", "no state, a lattice has cells that hold one", net.name, _ELSE)


_ELSE = "use the parallel or the serial engine"


def _maps(net: IntNet) -> Iterator[Diagnostic]:
    """One map in each block, of what a lattice has at hand there."""
    types = Analysis.of(net).types
    alias = Plan(net, 1, 1).name
    weighted: list[LinearMap] = []
    for name, block in (("drive", net.drive), ("step", net.step), ("readout", net.readout)):
        maps = [op for op in block if isinstance(op, WEIGHTED)]
        if len(maps) != 1:
            what = f"the {name} has {len(maps)} operations with weights, that of a lattice has 1"
            yield Diagnostic("rtl-lattice-maps", what, ", ".join(op.out for op in maps) or net.name, _ELSE)
        weighted += maps[:1]
    if len(weighted) != 3:
        return
    drive, step, readout = weighted
    sites = prod(net.states[0].shape)
    if alias(drive.x) != net.inputs[0].name:
        yield Diagnostic("rtl-lattice-operand", f"{drive.x} is not the input; cells read nothing else", drive.out)
    if alias(step.x) not in {s.name for s in net.states}:
        yield Diagnostic("rtl-lattice-operand", f"{step.x} is no state; cells pass on states", step.out)
    if alias(readout.x) != alias(step.x):
        what = f"{readout.x} is not {step.x}, the state that the cells hold"
        yield Diagnostic("rtl-lattice-operand", what, readout.out, _ELSE)
    for op, values in ((drive, (drive.out,)), (step, (step.x, step.out))):
        counts = [prod(types[v].shape) for v in values]
        if any(c != sites for c in counts):
            shown = " and ".join(f"{v} {c}" for v, c in zip(values, counts, strict=True))
            yield Diagnostic("rtl-lattice-shape", f"{shown} entries; a cell has one of {sites}", op.out)


def _values(plan: Plan) -> Iterator[Diagnostic]:
    """Operations after the maps read, element by element, what is there."""
    net, types = plan.net, Analysis.of(plan.net).types
    states = {s.name for s in net.states}
    for s in net.states:
        if prod(s.shape) != plan.sites:
            yield Diagnostic("rtl-lattice-shape", f"{prod(s.shape)} entries, {plan.sites} cells", s.name, _ELSE)
    driven = {op.out for op in net.drive if not isinstance(op, ops.Reshape)}
    params = net.param_names
    rows = prod(types[plan.maps[2].out].shape)
    none: set[str] = set()
    blocks = ((net.drive, none, plan.sites), (net.step, states | driven, plan.sites), (net.readout, none, rows))
    for block, sources, entries in blocks:
        known = set(sources)
        for op in block:
            yield from _read(plan, op, known, entries)
            known |= set() if isinstance(op, ops.Reshape) else {op.out}
        if block is net.step:
            yield from _ends(plan, [s.update for s in net.states], known | params, "update")
            yield from _ends(plan, [s.init for s in net.states if s.init is not None], driven | params, "initial code")
        elif block is net.readout:
            yield from _ends(plan, [net.outputs[0].value], known, "output")


def _read(plan: Plan, op: Op, known: set[str], entries: int) -> Iterator[Diagnostic]:
    if isinstance(op, (*WEIGHTED, ops.Reshape)):
        return
    types, params = Analysis.of(plan.net).types, plan.net.param_names
    if prod(types[op.out].shape) != entries:
        what = f"{prod(types[op.out].shape)} entries, must have {entries}"
        yield Diagnostic("rtl-lattice-shape", what, op.out, _ELSE)
        return
    for name in op.reads:
        if name in params:
            continue
        if plan.name(name) not in known or prod(types[name].shape) != entries:
            what = f"{name} is not at hand there, element by element"
            yield Diagnostic("rtl-lattice-operand", what, op.out, _ELSE)


def _ends(plan: Plan, names: Iterable[str], known: set[str], what: str) -> Iterator[Diagnostic]:
    for name in names:
        if plan.name(name) not in known:
            yield Diagnostic("rtl-lattice-operand", f"{name} as {what} is not computed in its block", name, _ELSE)
