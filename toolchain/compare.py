"""Equality of two integer runs, to the bit: every state, every tick, every sample, outputs and step counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .diagnostics import Diagnostic, SimulatorError
from .interfaces import Run
from .typed_json import JSON

__all__ = ["Comparison", "Divergence", "compare"]

Array = NDArray[np.int64]
Kind = Literal["state", "output", "steps"]


@dataclass(frozen=True)
class Divergence:
    """One code that differs. `tick` counts from 0 over all frames and is None for what is read after the last tick."""

    kind: Kind
    name: str
    tick: int | None
    sample: int
    unit: tuple[int, ...]
    expected: int
    got: int

    def __str__(self) -> str:
        unit = str(list(self.unit)) if self.unit else ""
        match self.kind:
            case "state":
                where = f"state {self.name}{unit} of sample {self.sample} after tick {self.tick}"
            case "output":
                where = f"output {self.name}{unit} of sample {self.sample}"
            case "steps":
                where = f"the number of ticks of sample {self.sample}"
        return f"{where}: expected {self.expected}, got {self.got}"

    def diagnostic(self) -> Diagnostic:
        """The divergence as an error."""
        return Diagnostic("compare-diverges", str(self), self.name, "golden is the definition of right")


@dataclass(frozen=True)
class Comparison:
    """What was compared and what differed: `values` codes of all states at `ticks` ticks, `outputs` codes of all
    outputs, one step count for each of `samples`. `faults` are reasons why something could not be compared."""

    ticks: int
    samples: int
    values: int
    mismatches: int
    outputs: int
    output_mismatches: int
    step_mismatches: int
    first: Divergence | None
    faults: tuple[Diagnostic, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.faults and not (self.mismatches or self.output_mismatches or self.step_mismatches)

    def require(self) -> None:
        """Raise SimulatorError with every fault and the first divergence unless all is equal."""
        if not self.ok:
            raise SimulatorError([*self.faults, *([self.first.diagnostic()] if self.first else [])])

    def __str__(self) -> str:
        head = "equal" if self.ok else "DIFFERS"
        over = f"over {self.ticks} ticks and {self.samples} samples"
        read = f"{self.output_mismatches} of {self.outputs} output codes, {self.step_mismatches} step counts"
        lines = [f"{head}: {self.mismatches} of {self.values} state codes differ {over}, {read}"]
        lines += [str(fault) for fault in self.faults]
        if self.first is not None:
            lines.append(f"first divergence: {self.first}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, JSON]:
        """The same as plain JSON values."""
        return {
            "equal": self.ok,
            "ticks": self.ticks,
            "samples": self.samples,
            "values": self.values,
            "mismatches": self.mismatches,
            "outputs": self.outputs,
            "output_mismatches": self.output_mismatches,
            "step_mismatches": self.step_mismatches,
            "first": None if self.first is None else str(self.first),
            "faults": [fault.to_json() for fault in self.faults],
        }


def compare(golden: Run, got: Run, *, states: bool = True) -> Comparison:
    """Compare `got` with `golden`; a difference of names or shapes is a fault, and so is comparing nothing.

    `states=False` leaves the traces out: for a net without states, or one whose traces are too large to keep.
    The first divergence is that of the smallest tick, then the smallest sample; outputs and step counts come after
    all ticks.
    """
    faults: list[Diagnostic] = []
    traced = _pairs("state", golden.states, got.states, faults) if states else {}
    read = _pairs("output", golden.outputs, got.outputs, faults)
    counted = _pairs("steps", {"steps": golden.steps}, {"steps": got.steps}, faults)
    values = sum(a.size for a, _ in traced.values())
    outputs = sum(a.size for a, _ in read.values())
    if states and not values:
        hint = "run both with a trace, or compare without states if the net has none"
        faults.append(Diagnostic("compare-nothing", "0 state codes were compared", "states", hint))
    if not outputs:
        faults.append(Diagnostic("compare-nothing", "0 output codes were compared", "outputs"))
    first_state = min((d for d in (_first("state", n, *p) for n, p in traced.items()) if d), key=_order, default=None)
    first_output = min((d for d in (_first("output", n, *p) for n, p in read.items()) if d), key=_order, default=None)
    first_steps = next((d for d in (_first("steps", n, *p) for n, p in counted.items()) if d), None)
    return Comparison(
        ticks=min((len(a) for a, _ in traced.values()), default=0),
        samples=len(golden.steps),
        values=values,
        mismatches=_differing(traced),
        outputs=outputs,
        output_mismatches=_differing(read),
        step_mismatches=_differing(counted),
        first=first_state or first_output or first_steps,
        faults=tuple(faults),
    )


def _pairs(
    kind: Kind, golden: Mapping[str, Array], got: Mapping[str, Array], faults: list[Diagnostic]
) -> dict[str, tuple[Array, Array]]:
    """Arrays of the same name, shape and integer type on both sides; everything else becomes a fault."""
    pairs = {}
    for name in sorted(set(got) - set(golden)):
        faults.append(Diagnostic(f"compare-extra-{kind}", f"{kind} {name!r} is in the run, golden has none", name))
    for name, expected in golden.items():
        if name not in got:
            faults.append(Diagnostic(f"compare-missing-{kind}", f"{kind} {name!r} is not in the run", name))
            continue
        found = np.asarray(got[name])
        # A uint64 would be compared with int64 in float64, which loses low bits.
        if not (np.issubdtype(found.dtype, np.integer) and np.can_cast(found.dtype, np.int64)):
            what = f"{kind} {name!r} is {found.dtype}, must be an integer type that int64 holds"
            faults.append(Diagnostic("compare-dtype", what, name))
        elif found.shape != expected.shape:
            what = f"{kind} {name!r} is {list(found.shape)}, golden has {list(expected.shape)}"
            faults.append(Diagnostic("compare-shape", what, name))
        else:
            pairs[name] = (expected, found)
    return pairs


def _differing(pairs: Mapping[str, tuple[Array, Array]]) -> int:
    return sum(int(np.count_nonzero(a != b)) for a, b in pairs.values())


def _order(divergence: Divergence) -> tuple[int, int]:
    return (-1 if divergence.tick is None else divergence.tick, divergence.sample)


def _first(kind: Kind, name: str, expected: Array, got: Array) -> Divergence | None:
    """The first difference in C order: traces are `[tick, sample, *unit]`, the rest `[sample, *unit]`."""
    different = expected != got
    if not different.any():
        return None
    index = tuple(int(i) for i in np.unravel_index(int(different.argmax()), different.shape))
    tick, (sample, *unit) = (index[0], index[1:]) if kind == "state" else (None, index)
    return Divergence(kind, name, tick, sample, tuple(unit), int(expected[index]), int(got[index]))
