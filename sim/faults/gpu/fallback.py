"""The same relaxation without a GPU: the rows that are off the clean run, tick by tick, in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ....toolchain.ir import Format
from .clean import Clean
from .evaluate import Evaluator
from .plan import Plan
from .source import SLOT

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Fallback"]


class Fallback:
    """Results as of `resident.Resident`, int64 tensors on the CPU."""

    def __init__(self, plan: Plan, clean: Clean) -> None:
        import torch

        self.plan, self.clean = plan, clean
        self.evaluator = Evaluator(plan, "cpu")
        self.states = {n: torch.from_numpy(v) for n, v in clean.states.items()}
        self.held = {n: torch.from_numpy(v) for n, v in clean.held.items()}
        self.outputs = {n: torch.from_numpy(v) for n, v in clean.outputs.items()}
        self.clean_label = torch.from_numpy(clean.labels(plan))

    def relax(self, columns: Mapping[str, Tensor], slots: int) -> dict[str, Tensor]:
        """Results `[rows]` of columns sorted by tick, with `slots` upsets a row."""
        import torch

        given = {n: v.long() for n, v in columns.items()}
        sample, tick = given["sample"], given["tick"]
        count, ticks = len(tick), self.clean.ticks
        made = {n: torch.zeros(count, dtype=torch.int64) for n in ("far", "near", "differ", "moved", "spoilt")}
        made |= {"last": torch.full((count,), -1), "label": self.clean_label[sample]}
        codes = {n: v[tick, sample] for n, v in self.states.items()}
        for t in range(int(tick.min()) if count else ticks, ticks):
            live = torch.nonzero((tick == t) | ((tick < t) & (made["differ"] > 0)))[:, 0]
            if len(live):
                now = self._upset(
                    {n: v[live] for n, v in codes.items()}, {n: v[live] for n, v in given.items()}, t, slots
                )
                self._tick(t, live, now, sample[live], codes, made)
        ended = torch.nonzero((tick == ticks) | (made["differ"] > 0))[:, 0]
        if len(ended):
            now = self._upset(
                {n: v[ended] for n, v in codes.items()}, {n: v[ended] for n, v in given.items()}, ticks, slots
            )
            self._read(ended, now, sample[ended], made)
        return made

    def _tick(
        self,
        t: int,
        live: Tensor,
        now: Mapping[str, Tensor],
        sample: Tensor,
        codes: dict[str, Tensor],
        made: dict[str, Tensor],
    ) -> None:
        """One tick of the rows `live`, whose codes are `now`."""
        import torch

        known = self.evaluator.block(self.plan.step, {**now, **{n: v[sample] for n, v in self.held.items()}})
        near, differ, moved = (torch.zeros(len(live), dtype=torch.int64) for _ in range(3))
        for s in self.plan.net.states:
            new = known[self.plan.resolve(s.update)].expand(len(live), -1)
            distance = (new - self.states[s.name][t + 1][sample]).abs()
            near = torch.maximum(near, distance.amax(dim=1))
            differ = differ + (distance != 0).sum(dim=1)
            moved = moved | ((new - codes[s.name][live]).abs() > self.plan.net.schedule.tolerance).any(dim=1)
            codes[s.name][live] = new
        made["near"][live], made["differ"][live], made["moved"][live] = near, differ, moved
        made["far"][live] = torch.maximum(made["far"][live], near)
        made["last"][live[differ > 0]] = t

    def _read(self, ended: Tensor, now: Mapping[str, Tensor], sample: Tensor, made: dict[str, Tensor]) -> None:
        import torch

        known = self.evaluator.block(self.plan.readout, {**now, **{n: v[sample] for n, v in self.held.items()}})
        spoilt = torch.zeros(len(ended), dtype=torch.bool)
        for o in self.plan.net.outputs:
            read = known[self.plan.resolve(o.value)].expand(len(ended), -1)
            spoilt |= (read != self.outputs[o.name][sample]).any(dim=1)
            if self.plan.label is not None and o.kind == "classes" and self.plan.resolve(o.value) == self.plan.label[0]:
                made["label"][ended] = read.argmax(dim=1)
        made["spoilt"][ended] = spoilt.long()

    def _upset(self, now: Mapping[str, Tensor], given: Mapping[str, Tensor], t: int, slots: int) -> dict[str, Tensor]:
        """Codes after the upsets of tick `t`."""
        codes = dict(now)
        rows = given["tick"] == t
        for k in range(slots):
            slot = {field: given[field][:, k] for field in SLOT}
            for i, s in enumerate(self.plan.net.states):
                hit = (rows & (slot["state"] == i)).nonzero()[:, 0]
                if len(hit):
                    changed = codes[s.name].clone()
                    at = slot["index"][hit]
                    changed[hit, at] = _changed(
                        changed[hit, at], {f: v[hit] for f, v in slot.items()}, self.plan.net.formats[s.name]
                    )
                    codes[s.name] = changed
        return codes


def _changed(word: Tensor, slot: Mapping[str, Tensor], stated: Format) -> Tensor:
    ones = (1 << stated.bits) - 1
    bits = (((word ^ slot["flip"]) | slot["one"]) & ~slot["zero"]) & ones
    if stated.signed:
        sign = 1 << (stated.bits - 1)
        bits = (bits ^ sign) - sign
    return (bits + slot["add"]).clamp(stated.lo, stated.hi)
