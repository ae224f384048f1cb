"""Figures of a synthesis: cells of each resource, frequency, and the time of an inference."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from eqcompile.toolchain.typed_json import JSON, encode

from .clocks import Clocks
from .parse import Timing

__all__ = ["SynthReport", "Usage"]


@dataclass(frozen=True)
class Usage:
    """One resource: `core` cells are the design's, `harness` those of the measuring harness, `available` the part's."""

    key: str
    label: str
    core: int
    harness: int
    available: int

    @property
    def needed(self) -> int:
        """What the part must have for this measurement."""
        return self.core + self.harness

    @property
    def fits(self) -> bool:
        return self.needed <= self.available

    @property
    def percent(self) -> float:
        """Share of the part's that the core takes."""
        return 100 * self.core / self.available if self.available else 0.0


@dataclass(frozen=True)
class SynthReport:
    """What `synthesise` measured.

    `usage`: by nextpnr (empty for `xilinx`); `flip_flops` and `cells`: of the core alone, by Yosys; `seeds`: one
    timing a seed (empty for `xilinx`, and where the design does not fit); `kind` says what sort of figures these are.
    `clock_mhz`: the frequency that was asked for. `clocks`: simulated, None if nobody counted, `notes` may say why;
    times are clocks at the median frequency.
    """

    top: str
    part: str
    device: str
    kind: str
    usage: tuple[Usage, ...]
    flip_flops: int
    cells: Mapping[str, int]
    seeds: Mapping[int, Timing]
    tools: tuple[str, ...]
    clock_mhz: float | None = None
    clocks: Clocks | None = None
    notes: tuple[str, ...] = ()

    @property
    def fmax_mhz(self) -> float | None:
        """Median over the seeds."""
        return statistics.median(t.fmax_mhz for t in self.seeds.values()) if self.seeds else None

    @property
    def fmax_range_mhz(self) -> tuple[float, float] | None:
        """Slowest and fastest seed."""
        rates = [t.fmax_mhz for t in self.seeds.values()]
        return (min(rates), max(rates)) if rates else None

    @property
    def median_timing(self) -> Timing | None:
        """The timing at the median frequency, of the slower seed where two are in the middle."""
        timings = sorted(self.seeds.values(), key=lambda t: t.fmax_mhz)
        return timings[(len(timings) - 1) // 2] if timings else None

    @property
    def meets_clock(self) -> bool | None:
        """Whether the median frequency is the one that was asked for, or more; None if none was."""
        return None if self.clock_mhz is None or self.fmax_mhz is None else self.fmax_mhz >= self.clock_mhz

    def core(self, key: str) -> int:
        """Cells of the core of one resource (`lut`, `ff`, `bram`, `spram`, `dsp`); 0 where the part has none."""
        return next((u.core for u in self.usage if u.key == key), 0)

    def to_json(self) -> dict[str, JSON]:
        """The same as plain JSON values."""
        return {
            "top": self.top,
            "part": self.part,
            "device": self.device,
            "kind": self.kind,
            "usage": [asdict(u) | {"needed": u.needed, "percent": round(u.percent, 2)} for u in self.usage],
            "flip_flops": self.flip_flops,
            "cells": dict(self.cells),
            "fmax_mhz": self.fmax_mhz,
            "fmax_range_mhz": None if self.fmax_range_mhz is None else list(self.fmax_range_mhz),
            "clock_mhz": self.clock_mhz,
            "meets_clock": self.meets_clock,
            "seeds": [{"seed": s} | asdict(t) for s, t in self.seeds.items()],
            "tools": list(self.tools),
            "notes": list(self.notes),
            "clocks": None if self.clocks is None else self.clocks.to_json(),
            "times": None if self.clocks is None or self.fmax_mhz is None else encode(self.clocks.at(self.fmax_mhz)),
        }

    def text(self) -> str:
        """The same for people."""
        lines = [f"{self.top} on {self.part} ({self.device}): {self.kind}"]
        lines += [
            f"  {u.label}: {u.core} of {u.available}, {u.percent:.1f} % (harness: {u.harness} more)" for u in self.usage
        ]
        if all(u.key != "ff" for u in self.usage):
            lines.append(f"  flip-flops of the core: {self.flip_flops}")
        if not self.usage:
            lines += [f"  {name}: {count}" for name, count in sorted(self.cells.items())]
        if self.fmax_mhz is not None and self.fmax_range_mhz is not None:
            low, high = self.fmax_range_mhz
            seeds = f"{len(self.seeds)} seed{'s' * (len(self.seeds) != 1)}"
            lines.append(f"  Fmax: {self.fmax_mhz:.1f} MHz (median of {seeds}, {low:.1f} to {high:.1f})")
            slow = min(self.seeds.values(), key=lambda t: t.fmax_mhz)
            delays = f"{slow.logic_ns:.1f} ns logic, {slow.routing_ns:.1f} ns routing"
            lines.append(f"  slowest path: {slow.start} to {slow.end}, {delays}")
        if self.meets_clock is not None and self.clock_mhz is not None:
            met = sum(t.fmax_mhz >= self.clock_mhz for t in self.seeds.values())
            verdict = "met" if self.meets_clock else "MISSED"
            lines.append(f"  clock: {self.clock_mhz:g} MHz is {verdict} by the median, and by {met} of {seeds}")
        if self.clocks is not None:
            lines.append(f"  {self.clocks.text()}")
        if self.clocks is not None and self.fmax_mhz is not None:
            times = self.clocks.at(self.fmax_mhz)
            latency = f"{times.latency_us.median:.2f} us median, {times.latency_us.worst:.2f} us worst"
            rate = f"{times.inferences_per_s:,.0f} inferences/s"
            lines.append(f"  latency: {latency}; {rate} (simulated clocks at that Fmax)")
        lines += [f"  {note}" for note in self.notes]
        return "\n".join([*lines, f"  tools: {', '.join(self.tools)}"])
