"""The sites of a net: which words an upset can be in, by kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ...toolchain.diagnostics import Diagnostic, UsageError
from ...toolchain.ir import IntNet, ops
from .circuit import Circuit
from .model import Site
from .storage import Packing, store_of, weight_names
from .table import Place

__all__ = ["KINDS", "kinds_of", "sites_of"]

KINDS: Final = ("state", "accumulator", "drive", "table", "weight", "constant")


def kinds_of(text: str, known: Sequence[str] = KINDS) -> tuple[str, ...]:
    """The kinds of a list with commas; UsageError names every one that is unknown."""
    kinds = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if wrong := [k for k in kinds if k not in known]:
        what = f"unknown sites: {', '.join(map(repr, wrong))}"
        raise UsageError(Diagnostic("fault-sites", what, "--sites", f"known: {', '.join(known)}"))
    return kinds


def sites_of(net: IntNet, kinds: Sequence[str], ticks: int, *, packing: Packing = "plain") -> tuple[Site, ...]:
    """Every site of the kinds, in this order.

    state: registers, in ticks 0 to T. accumulator: sums of linear maps, in the ticks that compute them (the step's
    0 to T - 1, the readout's T). drive: values of the drive that a tick or the readout reads, in ticks 0 to T. table,
    weight and constant (biases, multipliers, thresholds): memory, upset before the inference and not rewritten in it.
    """
    circuit = Circuit.of(net)
    makers = {"state": _states, "accumulator": _sums, "drive": _drive}
    found: list[Site] = []
    for kind in kinds:
        if kind in makers:
            found += makers[kind](net, circuit, ticks)
        else:
            found += _memory(net, circuit, kind, packing)
    return tuple(found)


def _site(kind: str, circuit: Circuit, place: Place, name: str, first: int, ticks: int) -> Site:
    bits, units = circuit.words[place, name].format.bits, circuit.sizes[place, name]
    return Site(f"{kind}:{name}", place, name, units, bits, first, ticks)


def _states(net: IntNet, circuit: Circuit, ticks: int) -> Iterator[Site]:
    for s in net.states:
        yield _site("state", circuit, Place.STATE, s.name, 0, ticks + 1)


def _sums(net: IntNet, circuit: Circuit, ticks: int) -> Iterator[Site]:
    for block, first, count in ((net.step, 0, ticks), (net.readout, ticks, 1)):
        for op in block:
            if isinstance(op, (ops.Linear, ops.Stencil, ops.Conv)):
                yield _site("accumulator", circuit, Place.VALUE, op.out, first, count)


def _drive(net: IntNet, circuit: Circuit, ticks: int) -> Iterator[Site]:
    read = {name for _, block in net.blocks[1:] for op in block for name in op.reads}
    read |= {s.update for s in net.states} | {o.value for o in net.outputs}
    for op in net.drive:
        if op.out in read:
            yield _site("drive", circuit, Place.VALUE, op.out, 0, ticks + 1)


def _memory(net: IntNet, circuit: Circuit, kind: str, packing: Packing) -> Iterator[Site]:
    tables = {n for op in net.all_ops() if isinstance(op, (ops.Lookup, ops.Interpolate)) for n in _tables(op)}
    weights = set(weight_names(net))
    words = {name: word for (place, name), word in circuit.words.items() if place is Place.PARAM}
    for name in words:
        if kind != ("table" if name in tables else "weight" if name in weights else "constant"):
            continue
        store = store_of(net, name, packing if kind == "weight" else "plain", words)
        yield Site(f"{kind}:{name}", Place.PARAM, name, store.words, store.bits, 0, 1)


def _tables(op: ops.Lookup | ops.Interpolate) -> tuple[str, ...]:
    return (op.table,) if isinstance(op, ops.Lookup) else (op.base, op.slope)
