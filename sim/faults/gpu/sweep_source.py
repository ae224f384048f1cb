"""The plan as a Triton kernel over flips of one state that share sample and tick: tiles whose rows have one clean run.

Clean codes are loaded once for a tile. Where the clean run stands still, a trajectory is that of a flip in each of the
ticks left: what becomes of each is stored as the trajectory passes its end. Flips are all there are, or drawn by Philox
(`philox.py` draws the same on the CPU).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .plan import Plan
from .source import Kernel, Writer, indented, padded

__all__ = ["sweep_kernel_of"]

_HEAD = """\
import triton
import triton.language as tl


@triton.jit
def relax({arguments}):
    group = tl.load(tile_group_ptr + tl.program_id(0))
    place = tl.load(tile_first_ptr + tl.program_id(0)) + tl.arange(0, B)
    sample = tl.load(sample_ptr + group)
    begin = tl.load(tick_ptr + group)
    settled = tl.load(settled_ptr + sample)
    shared = (begin == settled) & (drawn == 0)
    valid = place < tl.load(last_ptr + group)
    if drawn != 0:
        r = tl.randint(seed, place).to(tl.uint32, bitcast=True).to(tl.uint64)
        flip = ((r * (UNITS * BITS)) >> 32).to(tl.int32)
        tl.store(flip_ptr + place, flip, mask=valid)
    else:
        flip = place
    unit = flip // BITS
    mask = 1 << (flip % BITS)
    masked = tl.load(outcomes_ptr + 3)
    healed = tl.load(outcomes_ptr + 5)
    ever = tl.zeros((B,), tl.int32)
    near = tl.zeros((B,), tl.int32)
    moved = tl.zeros((B,), tl.int32) + tl.load(moving_ptr + sample)
    clean_label = tl.load(clean_label_ptr + sample)
    t = begin
"""


def sweep_kernel_of(plan: Plan, state: int) -> Kernel:
    """The kernel for flips of the state of that number."""
    return _Sweeper(plan, state).kernel()


class _Sweeper(Writer):
    def __init__(self, plan: Plan, state: int) -> None:
        super().__init__(plan, 0)
        self.state = state

    def kernel(self) -> Kernel:
        body = [*self.opening(), *self.loop()]
        used = sorted({int(n) for line in body for n in re.findall(r"\bc(\d+)\[", line)})
        lanes = [f"    c{n} = tl.arange(0, {n})" for n in used]
        inputs = ["tile_group_ptr", "tile_first_ptr", "sample_ptr", "tick_ptr", "last_ptr", "settled_ptr"]
        inputs += ["moving_ptr", "clean_label_ptr", "outcomes_ptr"]
        numbers = ["seed", "drawn", "samples", "ticks", "limit", "B: tl.constexpr"]
        numbers += ["UNITS: tl.constexpr", "BITS: tl.constexpr"]
        arguments = ", ".join([*inputs, *self.arrays.values(), "outcome_ptr", "distance_ptr", "flip_ptr", *numbers])
        text = _HEAD.format(arguments=arguments) + "\n".join([*lanes, *body]) + "\n"
        return Kernel(text, tuple(self.arrays))

    def opening(self) -> Iterator[str]:
        for i, s in enumerate(self.plan.net.states):
            fmt, n = self.plan.net.formats[s.name], padded(self.units(s.name))
            yield f"    s{i} = {self.clean('state', s.name, 't')} + tl.zeros((B, {n}), tl.int32)"
            if i == self.state:
                ones, sign = (1 << fmt.bits) - 1, 1 << (fmt.bits - 1)
                yield f"    w = (s{i} & {ones}) ^ mask[:, None]"
                if fmt.signed:
                    yield f"    w = (w ^ {sign}) - {sign}"
                yield f"    s{i} = tl.where({self.lane(s.name)}[None, :] == unit[:, None], w, s{i})"
        for op in (*self.plan.step, *self.plan.readout):
            if op.out in self.plan.matrices:
                n_in, n_out = padded(self.units(op.reads[0])), padded(self.units(op.out))
                pointer = self.pointer("matrix", op.out)
                yield f"    m_{self.name(op.out)} = tl.load({pointer} + c{n_in}[:, None] * {n_out} + c{n_out}[None, :])"
        yield "    if shared | (begin == ticks):"
        yield from indented(self.read("differs", "0", "tl.full((B,), 1, tl.int32)"))
        yield from indented(self.stored("tl.where(spoilt > 0, found, masked)", "ticks", "near"))
        yield "    going = (t < ticks).to(tl.int32)"

    def loop(self) -> Iterator[str]:
        yield "    while going != 0:"
        yield from indented(self.block(self.plan.step, ticking=True))
        yield from indented(self.latched())
        yield from indented(self.finished())

    def latched(self) -> Iterator[str]:
        """Distances of the new codes from the clean run's and from the old ones, and the latch."""
        yield "differ = tl.zeros((B,), tl.int32)"
        yield "near = tl.zeros((B,), tl.int32)"
        yield "moved = tl.zeros((B,), tl.int32)"
        yield "change = tl.zeros((B,), tl.int32)"
        for i, s in enumerate(self.plan.net.states):
            new = self.value(s.update)
            yield f"n{i} = {new} + tl.zeros_like(s{i})"
            if padded(self.units(s.name)) != self.units(s.name):
                yield f"n{i} = tl.where({self.lane(s.name)}[None, :] < {self.units(s.name)}, n{i}, 0)"
            yield f"d = tl.max(tl.abs(n{i} - {self.clean('state', s.name, '(t + 1)')}), 1)"
            yield "near = tl.maximum(near, d)"
            yield f"change = tl.maximum(change, tl.max(tl.abs(n{i} - s{i}), 1))"
        yield "moved = change"
        # What counts is what ticks latch: the first tick after a flip moves from the clean codes.
        yield "if t == begin:"
        yield "    moved = tl.zeros((B,), tl.int32)"
        for i, s in enumerate(self.plan.net.states):
            yield f"    moved = tl.maximum(moved, tl.max(tl.abs(n{i} - {self.clean('state', s.name, 't')}), 1))"
        yield f"moved = (moved > {self.plan.net.schedule.tolerance}).to(tl.int32)"
        yield "differ = tl.where(valid, (near > 0).to(tl.int32), 0)"
        yield from (f"s{i} = n{i}" for i in range(len(self.states)))
        yield "ever = tl.maximum(ever, differ)"
        yield "t += 1"

    def finished(self) -> Iterator[str]:
        """What becomes of the flips that are at their end, if any are."""
        yield "deviates = tl.max(differ, 0)"
        yield "change = tl.where(valid, change, 0)"
        yield "still = (t > settled) & (t > begin + 1) & (tl.max(change, 0) == 0)"
        yield "finish = (t == ticks) | (deviates == 0) | still"
        yield "if shared | finish:"
        yield "    moved = tl.where(still, 0, moved)"
        yield from (f"    {line}" for line in self.read("deviates", "-1", "(near <= limit).to(tl.int32)"))
        yield "    result = tl.where(differ > 0, found, tl.where(ever > 0, healed, masked))"
        yield "    off = tl.where(differ > 0, near, 0)"
        yield "    ends = tl.where(shared, ticks - (t - begin), begin)"
        yield "    low = tl.where(finish & shared, begin, ends)"
        yield "    while ends >= low:"
        yield from (f"        {line}" for line in self.stored("result", "ends", "off"))
        yield "        ends -= 1"
        yield "going = (finish == 0).to(tl.int32)"

    def stored(self, value: str, tick: str, off: str) -> Iterator[str]:
        yield "if drawn != 0:"
        yield f"    tl.store(outcome_ptr + place, ({value}).to(tl.int8), mask=valid)"
        yield "else:"
        yield f"    at = (sample * (ticks + 1) + {tick}).to(tl.int64) * (UNITS * BITS) + place"
        yield f"    tl.store(outcome_ptr + at, ({value}).to(tl.int8), mask=valid)"
        yield f"    tl.atomic_max(distance_ptr + sample * (ticks + 1) + {tick}, tl.max(tl.where(valid, {off}, 0), 0))"

    def read(self, where: str, rejoin: str, near: str) -> Iterator[str]:
        """`found`: the outcome by labels and outputs of the states."""
        yield "spoilt = tl.zeros((B,), tl.int32)"
        yield "wrong = tl.zeros((B,), tl.int32)"
        yield from self.block(self.plan.readout, ticking=False)
        for o in self.plan.net.outputs:
            lane, units, n = self.lane(o.value), self.units(o.value), padded(self.units(o.value))
            yield f"y = {self.value(o.value)} + tl.zeros((B, {n}), tl.int32)"
            usual = f"tl.load({self.pointer('output', o.name)} + sample * {n} + {lane})[None, :]"
            yield f"z = tl.where({lane}[None, :] < {units}, (y != {usual}).to(tl.int32), 0)"
            yield "spoilt = tl.maximum(spoilt, tl.max(z, 1))"
        if self.plan.label is not None:
            name, units = self.plan.label
            lane = self.lane(name)
            yield f"y = {self.value(name)} + tl.zeros((B, {padded(units)}), tl.int32)"
            yield f"y = tl.where({lane}[None, :] < {units}, y, -2147483648)"
            yield "wrong = (tl.argmax(y, 1, tie_break_left=True) != clean_label).to(tl.int32)"
        yield f"case = (((wrong * 2 + spoilt) * 2 + moved) * 3 + ({rejoin} + 1)) * 2 + {near}"
        yield "found = tl.load(outcomes_ptr + case).to(tl.int32)"

    def value(self, name: str) -> str:
        resolved = self.plan.resolve(name)
        if resolved in self.plan.held and resolved not in self.states and resolved not in self.plan.params:
            n = padded(self.units(resolved))
            return f"tl.load({self.pointer('held', resolved)} + sample * {n} + {self.lane(resolved)})[None, :]"
        return super().value(name)

    def clean(self, kind: str, name: str, tick: str) -> str:
        """Codes of the clean run at a tick, `[1, units]` int32."""
        n = padded(self.units(name))
        at = f"({tick} * samples + sample).to(tl.int64) * {n} + {self.lane(name)}"
        return f"tl.load({self.pointer(kind, name)} + {at})[None, :].to(tl.int32)"
