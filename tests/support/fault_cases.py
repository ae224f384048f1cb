"""Random faults of any net, for the tests that compare engines."""

from __future__ import annotations

import random

from eqcompile.sim.faults.circuit import Circuit
from eqcompile.sim.faults.table import Fault, FaultTable, Place, Upset
from eqcompile.toolchain.ir import IntNet

__all__ = ["random_faults"]


def random_faults(net: IntNet, rng: random.Random, *, samples: int, ticks: int, count: int) -> FaultTable:
    """Faults of one to three upsets of any kind, place and window, now and then of none."""
    circuit = Circuit.of(net)
    words = sorted(circuit.words)
    return FaultTable.of(
        Fault(
            sample=rng.randrange(samples),
            site="any",
            unit=-1,
            bit=-1,
            upsets=tuple(_upset(circuit, rng, ticks, words) for _ in range(rng.choice((0, 1, 1, 1, 1, 1, 2, 3)))),
        )
        for _ in range(count)
    )


def _upset(circuit: Circuit, rng: random.Random, ticks: int, words: list[tuple[Place, str]]) -> Upset:
    place = rng.choice([*Place, Place.VALUE])
    place, name = rng.choice([w for w in words if w[0] is place] or words)
    bits = circuit.words[place, name].format.bits
    first = rng.randint(0, ticks)
    last = rng.choice((first, rng.randint(first, ticks), ticks))
    held = place is Place.VALUE and name in circuit.held and rng.random() < 0.5
    change = {"flip": 0, "one": 0, "zero": 0, "add": 0}
    kind = rng.choice([*change])
    change[kind] = rng.choice((-9, -1, 1, 2, 40)) if kind == "add" else 1 << rng.randrange(bits)
    # A high bit, all of them, or some: single low bits of wide words are often lost in a rescale.
    if rng.random() < 0.4:
        change["flip"] ^= rng.choice((1 << (bits - 1), rng.randrange(1, 1 << bits)))
    if rng.random() < 0.1:
        change["zero"] = (1 << bits) - 1
    if not any(change.values()):
        change["one"] = 1
    return Upset(place, name, rng.randrange(circuit.sizes[place, name]), first, last, **change, held=held)
