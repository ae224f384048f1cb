"""A list of changes: filled by a sweep, read by the applier, once or several times."""

from __future__ import annotations

from amaranth import Array, Cat, Elaboratable, Module, Mux, Shape, Signal, Value

from ..memory import Ram

__all__ = ["ChangeList"]


class ChangeList(Elaboratable):
    """Up to one change a unit, in one memory for each of `width` lanes.

    `push[lane]` stores `change[lane]` of unit `group * width + lane`. While `run`, entries come out as `unit` and
    `value` with `valid`, the next after a clock with `take`; `finished` after the last. `rewind` starts over, `clear`
    empties the list as well. `late`: a register behind the memories, where logic in front of `value` takes its time.
    """

    def __init__(self, *, units: int, width: int, shape: Shape, late: bool = False) -> None:
        self.late = late
        self.groups, self.width, self.shape = -(-units // width), width, shape
        self.group_bits = max((self.groups - 1).bit_length(), 1)
        self.lane_bits = (width - 1).bit_length()
        self.push, self.group = Signal(width), Signal(self.group_bits)
        self.change = [Signal(shape, name=f"change_{lane}") for lane in range(width)]
        self.run, self.take, self.rewind, self.clear = Signal(), Signal(), Signal(), Signal()
        self.valid = Signal(name="valid")
        self.unit = Signal(self.group_bits + self.lane_bits, name="unit")
        self.value = Signal(shape, name="value")
        self.finished = Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        entry = Signal(range(self.groups + 1), name="entry")
        lane = Signal(range(max(self.width, 2)), name="lane")
        pending = Signal(name="pending")
        done = Signal(name="done")
        arrived = Signal(name="arrived") if self.late else pending
        counts, entries = [], []
        bits = self.shape.width
        for i in range(self.width):
            m.submodules[f"lane{i}"] = ram = Ram(width=bits + self.group_bits, depth=self.groups)
            count = Signal(range(self.groups + 1), name=f"count_{i}")
            m.d.comb += [
                ram.read_address.eq(entry),
                ram.write_address.eq(count),
                ram.write_data.eq(Cat(self.change[i], self.group)),
                ram.write_enable.eq(self.push[i]),
            ]
            with m.If(self.clear):
                m.d.control += count.eq(0)
            with m.Elif(self.push[i]):
                m.d.control += count.eq(count + 1)
            counts.append(count)
            entries.append(self._read(m, ram))
        end, read = _pick(counts, lane), _pick(entries, lane)
        with m.If(self.take):
            m.d.control += self.valid.eq(0)
        if self.late:
            m.d.control += arrived.eq(pending)
            with m.If(pending):
                m.d.control += pending.eq(0)
        with m.If(arrived):
            change = read[:bits]
            m.d.control += [
                pending.eq(0),
                self.valid.eq(1),
                self.value.eq(change.as_signed() if self.shape.signed else change),
                self.unit.eq(Cat(lane[: self.lane_bits], read[bits:])),
            ]
        with m.Elif(self.run & ~done & ~pending if self.late else self.run & ~done):
            with m.If(entry == end):
                m.d.control += [entry.eq(0), lane.eq(Mux(lane == self.width - 1, 0, lane + 1))]
                m.d.control += done.eq(lane == self.width - 1)
            with m.Elif(~self.valid | self.take):
                m.d.control += [pending.eq(1), entry.eq(entry + 1)]
        m.d.comb += self.finished.eq(done & ~self.valid)
        with m.If(self.rewind | self.clear):
            m.d.control += [entry.eq(0), lane.eq(0), done.eq(0), pending.eq(0), self.valid.eq(0)]
            if self.late:
                m.d.control += arrived.eq(0)
        return m

    def _read(self, m: Module, ram: Ram) -> Value:
        if not self.late:
            return ram.read_data
        word = Signal(ram.width)
        m.d.sync += word.eq(ram.read_data)
        return word


def _pick(values: list[Value], index: Signal) -> Value:
    picked: Value = values[0] if len(values) == 1 else Array(values)[index]
    return picked
