"""The mutations of the core: one line of one module each. A line that is not found exactly once is an error.

Here those of what all engines share and of the serial engine; each of the others has a file of its own.
"""

from __future__ import annotations

from rtl_mutant import Mutant, of
from rtl_mutant_lattice import LATTICE
from rtl_mutant_parallel import PARALLEL

__all__ = ["MUTANTS"]

SHELL = of(
    "shell",
    (
        "input one bit too narrow",
        "tdata[8 * port.bytes * i :][: port.format.bits]",
        "tdata[8 * port.bytes * i :][: port.format.bits - 1]",
    ),
    ("short frame filled with ones", "Mux(filling, 0, _codes", "Mux(filling, 1, _codes"),
    ("input index does not wrap", "index.eq(Mux(last, 0, index + 1))", "index.eq(index + 1)"),
    ("long frame not cut", "cutting.eq(last)]", "cutting.eq(0)]"),
    ("short frame not filled", "filling.eq(~last), cutting", "filling.eq(0), cutting"),
    ("an error counts twice", "errors.eq(errors + 1)", "errors.eq(errors + 2)"),
    (
        "soft reset keeps the input index",
        "[index.eq(0), filling.eq(0), cutting.eq(0)]",
        "[filling.eq(0), cutting.eq(0)]",
    ),
    ("a frame that a soft reset cuts off has no end", "self.restart & (index != 0)", "self.restart & 0"),
    ("a soft reset takes an offer back", "acts = asked & ~self.stalled", "acts = asked"),
    ("the rest of a frame looks like a result", "self.m_axis_tuser.eq(0)", "self.m_axis_tuser.eq(1)"),
    ("a dropped frame counts as a result", "m.If(self.m_axis_tlast & ~self.closing)", "m.If(self.m_axis_tlast)"),
    ("output zero-extended", "code.as_signed() if port.format.signed", "code if port.format.signed"),
    ("TLAST one code early", "tlast.eq(index == last_index)", "tlast.eq(index + 1 == last_index)"),
    ("TUSER of the result before", "self.m_axis_tuser.eq(self.engine.made)", "self.m_axis_tuser.eq(made)"),
    (
        "result taken while it stalls",
        "y.ready.eq(self.m_axis_tready & ~self.engine.restart & ~self.closing)",
        "y.ready.eq(~self.engine.restart & ~self.closing)",
    ),
    ("input taken while the engine is not ready", "Mux(passing, x.ready, cutting", "Mux(passing, 1, cutting"),
    ("STALLS counts transfers too", "            with m.If(~self.m_axis_tready):", "            with m.If(1):"),
    ("MADE not latched", "made.eq(self.m_axis_tuser)\n", "made.eq(made)\n"),
    (
        "STATUS bits exchanged",
        "Cat(engine.busy, written | (results != 0))",
        "Cat(written | (results != 0), engine.busy)",
    ),
    (
        "zero steps accepted",
        "with m.Case(Register.STEPS), m.If(fits & (data != 0)):",
        "with m.Case(Register.STEPS), m.If(fits):",
    ),
    (
        "tolerance not bounded",
        "with m.Case(Register.TOLERANCE), m.If(fits):",
        "with m.Case(Register.TOLERANCE):",
    ),
    ("part of a word accepted", "self.s_axil_wstrb.all()", "self.s_axil_wstrb.any()"),
    ("weights loaded while busy", "m.If(~engine.busy)", "m.If(1)"),
    ("load address stands still", "load_address.eq(load_address + 1)", "load_address.eq(load_address)"),
    ("soft reset by another bit", "m.If(data[0])", "m.If(data[1])"),
    ("an address between two registers read", "m.Switch(self.s_axil_araddr)", "m.Switch(self.s_axil_araddr & 0xFC)"),
    ("STEPS not passed on", "engine.steps.eq(steps)", "engine.steps.eq(self.schedule.steps)"),
    ("TOLERANCE not passed on", "engine.tolerance.eq(tolerance)", "engine.tolerance.eq(self.schedule.tolerance)"),
)
DATAPATH = of(
    "datapath",
    ("no rounding", "rounded = x + ((1 << shift) >> 1)", "rounded = x + 0"),
    ("ties rounded down", "rounded = x + ((1 << shift) >> 1)", "rounded = x + (((1 << shift) - 1) >> 1)"),
    ("shift not arithmetic", "return kept.as_signed() if shape.signed else kept", "return kept"),
    ("shift by one more", "kept = rounded[shift:]", "kept = rounded[shift + 1 :]"),
    ("absolute value of positives only", "Mux(v[x] < 0, -v[x], v[x])", "v[x]"),
    ("gate not strict", "return v[a] > v[b]", "return v[a] >= v[b]"),
    ("gate inverted", "Mux(v[condition], v[a], v[b])", "Mux(v[condition], v[b], v[a])"),
    ("sum for difference", "return v[a] - v[b]", "return v[a] + v[b]"),
    ("difference for sum", "return v[a] + v[b]", "return v[a] - v[b]"),
    ("table off by one", "distance.eq(x - first)", "distance.eq(x - first + 1)"),
    ("table does not saturate above", "index = Mux(above, size - 1, index)", "index = Mux(above, index, index)"),
    ("table does not saturate below", "index = Mux(distance < 0, 0, index)", "index = Mux(distance < 0, index, index)"),
    ("table index one bit too narrow", "result = Signal(bits)", "result = Signal(bits - 1)"),
    ("damping by another factor", "(v[new] - v[old]) * factor", "(v[new] - v[old]) * (factor - 1)"),
    ("damping from the new code", "self.fabric.cut(m, v[old]) + _half_up", "self.fabric.cut(m, v[new]) + _half_up"),
    ("power of two by one more", "(constant.bit_length() - 1), shift)", "constant.bit_length(), shift)"),
    ("scale left out", "v[x] * v[multiplier]", "v[x]"),
    ("interpolation without slope", "grade * fraction", "grade"),
    (
        "table read one clock late",
        "        return self.cut(m, Value.cast(port.data))",
        "        return self.cut(m, self.cut(m, Value.cast(port.data)))",
    ),
)
SWEEP = of(
    "serial.sweep",
    ("bias left out", "result.eq(total + self._rom(bias))", "result.eq(total)"),
    ("change without the old code", 'if self.sweep.block == "step" else', "if False else"),
    ("results of the unit before", "self.out_group.eq(group[-1])", "self.out_group.eq(group[-2])"),
)
APPLIER = of(
    "serial.applier",
    ("column address off by one", "self.entry_address.eq(start)]", "self.entry_address.eq(start + 1)]"),
    (
        "first word of a column for all",
        "self.entry_address.eq(self.entry_address + 1)",
        "self.entry_address.eq(self.entry_address)",
    ),
    ("last word of a column dropped", "left.eq(more)\n", "left.eq(Mux(more == 0, 0, more - 1))\n"),
    ("place taken before the table answers", "taken.eq(fetched & (", "taken.eq(waiting & ("),
    ("column cut off by the next one", "(~active | ends)), self", "1), self"),
    ("event lost while one waits", "self.ready.eq(~waiting | taken)", "self.ready.eq(1)"),
    ("a column never ends", "[active.eq(0), bank.eq(0)]", "[active.eq(0), bank.eq(bank)]"),
    ("sums of another map", "bank.eq(1 << kind)", "bank.eq(2 >> kind)"),
    ("signs exchanged", "Mux(code[1], minus, plus)", "Mux(code[1], plus, minus)"),
    ("weights unsigned", "code.as_signed() * change", "code.as_unsigned() * change"),
    ("accumulators not cleared", "ram.read_zero.eq(wipes[-1] & writes[-2][number])", "ram.read_zero.eq(0)"),
    ("every event clears", "ram.read_zero.eq(wipes[-1] & writes[-2][number])", "ram.read_zero.eq(writes[-2][number])"),
    ("idle while sums are written", "self.busy.eq(waiting | Cat(*writes).any())", "self.busy.eq(waiting)"),
    ("idle while an event waits", "self.busy.eq(waiting | Cat(*writes).any())", "self.busy.eq(Cat(*writes).any())"),
    (
        "change of the event before",
        "codes_bits], changes[-1])",
        "codes_bits], self._next(m, changes[-1]))",
    ),
    ("products written to the word before", "ram.write_address.eq(written)", "ram.write_address.eq(word)"),
    ("sum one bit too narrow", "product)[:bits] for", "product)[: bits - 1] for"),
)
COLUMNS = of(
    "serial.columns",
    (
        "a column keeps no word clear of the next",
        "return tuple(sorted(column.items(), key=lambda entry: (entry[0] % 2, entry[0])))",
        "return tuple(sorted(column.items()))",
    ),
    ("words numbered from one", "codes | word << layout.codes_bits", "codes | (word ^ 1) << layout.codes_bits"),
    (
        "one word fewer in the table",
        "start | (count - 1) << layout.address_bits\n        start, count",
        "start | (count >> 1) << layout.address_bits\n        start, count",
    ),
)
CORE = of(
    "serial.core",
    (
        "a tick too many",
        "self.last.eq(self.schedule.left == 1)",
        "self.last.eq(self.schedule.left == 0)",
    ),
    (
        "settling forgotten",
        "        m.d.control += self.moved.eq(0)\n",
        "",
    ),
    (
        "tolerance strict",
        "(c > self.schedule.tolerance) | (c < self.least)",
        "(c >= self.schedule.tolerance) | (c < self.least)",
    ),
    ("negative changes settle", "(c > self.schedule.tolerance) | (c < self.least)", "(c > self.schedule.tolerance)"),
    ("change against the new code", "event=True) - unit.old[name][lane]", "event=True)"),
    ("zero inputs applied to the wrong column", "| self.count),", "| (self.count ^ 1)),"),
    (
        "schedule read after the sample began",
        "with m.If(self.count == 0):\n                self.schedule",
        "with m.If(self.count == 1):\n                self.schedule",
    ),
    ("list kept after it was applied", "changes.clear.eq(phase.last)", "changes.clear.eq(0)"),
    ("sweep ends before its last results", "with m.If(~unit.busy):", "with m.If(1):"),
    ("sweep begins before the sums are written", "with m.Elif(~self.applier.busy):", "with m.Elif(1):"),
    ("result offered twice", "[ports.y.valid.eq(0), sent.eq(0)", "[ports.y.valid.eq(1), sent.eq(0)"),
    ("entries stored in the table", "ports.load_enable & (above == 0)", "ports.load_enable"),
    ("entries one word behind", "above - 1)", "above)"),
    ("busy until the next sample", "[self.phase.eq(0), ports.busy.eq(0)]", "[self.phase.eq(0)]"),
)
EQUIVALENT = [
    Mutant(
        "every input needs an event",
        "serial.core",
        "x.ready.eq(~self._is_event(code) | (applier.ready & last))",
        "x.ready.eq(applier.ready & last)",
        "a code that is zero waits until the applier is ready and is then taken as before: other clocks, no other code "
        "(tests/rtl/test_rtl_serial.py counts clocks)",
    ),
    Mutant(
        "changes unsigned",
        "serial.changes",
        "change.as_signed() if self.shape.signed else change",
        "change",
        "a signal of the same width takes the bits: the Verilog is the same, letter for letter",
        same=True,
    ),
]
CHANGES = of(
    "serial.changes",
    ("last change dropped", "with m.If(entry == end):", "with m.If(entry + 1 >= end):"),
    (
        "list not emptied",
        "                m.d.control += count.eq(0)",
        "                m.d.control += count.eq(count)",
    ),
    ("change overwritten before it is taken", "with m.Elif(~self.valid | self.take):", "with m.Elif(1):"),
)
MEMORY = of("memory", ("every clock writes", "write.en.eq(self.write_enable)", "write.en.eq(1)"))
SERIAL = (*SHELL, *DATAPATH, *SWEEP, *APPLIER, *COLUMNS, *CORE, *CHANGES, *MEMORY, *EQUIVALENT)
MUTANTS = (*SERIAL, *PARALLEL, *LATTICE)
