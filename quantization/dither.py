"""An offset on every recurrent sum in the first ticks, so that runs which an upset drove apart meet again.

Rounding leaves a contracting map several fixed points: two runs a few codes apart may round to the same codes, or keep
each other apart for ever. Offsets that change from tick to tick, and are the same in every run, move the edges of
rounding; runs that are equal once stay equal. docs/explanation/healing.md has the theorem.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from eqcompile.toolchain.options import QuantizeOptions

from ..toolchain.diagnostics import Diagnostic, UsageError
from ..toolchain.ir import EqNet, Format, State, ops
from ..toolchain.typed_json import JsonObject
from .builder import Builder
from .operands import Value

__all__ = ["CODES", "Dither", "dither_faults"]

CODES = 4
"""Width of the offsets in codes of the state: wide against a code, so that an edge of rounding falls anywhere."""
_SEED = 0


class Dither:
    """The offsets of one net: a state that counts its ticks up to `ticks`, and a table of offsets by that count.

    `refused`: weights whose sums cannot have one.
    """

    def __init__(self, build: Builder, ticks: int) -> None:
        self.build, self.ticks = build, ticks
        self.refused: list[str] = []
        self._share = np.random.default_rng(_SEED).random(ticks)
        self._offsets: dict[int, str] = {}
        self._count = build.fresh("tick")
        build.register(self._count, (1,), Format.holding(0, ticks))

    def add(self, total: Value, code: Fraction, name: str) -> Value:
        """`total`, a sum of products, plus this tick's offset; `code`: the real size of a code of what it flows into.

        The offsets are uniform over a power of two of steps of the sum, as near to `CODES` codes as there is, and 0
        once the ticks are over.
        """
        width = max(1 << round(math.log2(CODES * code / total.scale)), 1)
        if width not in self._offsets:
            entries = np.append(np.floor(self._share * width) - width // 2, 0)
            table = self.build.param("dither", entries, f"offsets in {self.ticks} ticks, {width} steps of a sum wide")
            op = ops.Lookup(out=self.build.fresh("offset"), x=self._count, table=table, first=0)
            # A sum of one entry, because the serial core broadcasts sums.
            x, out = self.build.emit(op), self.build.fresh("offset_sum")
            self._offsets[width] = self.build.emit(ops.Reduce(out=out, x=x, kind="sum", axes=(-1,), keep=False))
        out = self.build.fresh(f"{name}_dithered")
        return self.build.put(ops.Add(out=out, a=total.name, b=self._offsets[width]), total.scale)

    def states(self) -> tuple[State]:
        """The state that counts; called once, in the block of the step. UsageError if a sum was refused."""
        if self.refused:
            raise UsageError(list(self._faults()))
        following = np.minimum(np.arange(self.ticks + 1) + 1, self.ticks)
        table = self.build.param("next_tick", following, f"counts to {self.ticks}")
        op = ops.Lookup(out=self.build.fresh(f"{self._count}_next"), x=self._count, table=table, first=0)
        return (State(self._count, (1,), self.build.emit(op)),)

    def row(self) -> JsonObject:
        """What was chosen, for the report."""
        return {"what": "dither", "name": self._count, "ticks": self.ticks, "codes": CODES, "seed": _SEED}

    def _faults(self) -> Iterator[Diagnostic]:
        for source in self.refused:
            what = "its rows have scales of their own, and offsets are of one size for all rows"
            yield Diagnostic("dither-scale", what, source, "quantize with --per-tensor, or leave --dither out")


def dither_faults(net: EqNet, options: QuantizeOptions) -> Iterator[Diagnostic]:
    """Every reason why a net cannot have the ticks of offsets that `options` ask for."""
    ticks, steps = options.dither, net.schedule.steps
    if not ticks:
        return
    if ticks >= steps:
        what = f"offsets in {ticks} ticks of a net that makes {steps}: it would end before it can settle"
        yield Diagnostic("dither-ticks", what, f"--dither {ticks}", f"fewer than {steps} ticks")
    if net.schedule.frames:
        what = "the net reads frames, and the offsets would end in the first of them"
        yield Diagnostic("dither-frames", what, f"--dither {ticks}", "leave --dither out")
    if options.tolerance:
        what = f"dither and tolerance {options.tolerance} together: a run could end while offsets still move it"
        yield Diagnostic("option-together", what, f"--dither {ticks}", "leave --tolerance out")
