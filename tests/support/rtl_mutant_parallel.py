"""The mutations of the parallel engine."""

from __future__ import annotations

from rtl_mutant import Mutant, of

__all__ = ["PARALLEL"]

ENGINE = of(
    "parallel.engine",
    (
        "results before the outputs stand",
        "self.read_clocks = _stages(outputs)",
        "self.read_clocks = _stages(outputs) - 1",
    ),
    (
        "step latched before it stands",
        "self.step_clocks = 1 + _stages(itertools.chain(*updates))",
        "self.step_clocks = max(1, _stages(itertools.chain(*updates)))",
    ),
    (
        "drive taken before it stands",
        "self.intake.delayed(self.drive_clocks)",
        "self.intake.delayed(max(self.drive_clocks - 1, 0))",
    ),
    ("one step fewer", "over.eq((schedule.left == 0) |", "over.eq((schedule.left == 1) |"),
    ("settled before the first step", "((self.made != 0) & known & ~moved)", "(known & ~moved)"),
    ("never settled", "((self.made != 0) & known & ~moved)", "0"),
    ("settled known a clock early", "known = Const(1) if self.ahead else age != 0", "known = Const(1)"),
    ("a rise does not count", "moved.append((state > high) | (state < low))", "moved.append(state < low)"),
    ("a fall does not count", "moved.append((state > high) | (state < low))", "moved.append(state > high)"),
    ("tolerance not strict", "high.eq(state + tolerance)", "high.eq(state + tolerance - 1)"),
    ("schedule of the second beat", "intake.transfer & (intake.number == 0)", "intake.transfer & (intake.number == 1)"),
    ("results in another order", "results[port.beat :], strict=False)", "results[1:], strict=False)"),
    ("not busy while a sample waits", "self.busy.eq(~intake.empty | ~control", "self.busy.eq(~control"),
    ("first latch counted as a step", "counted.eq(latch & primed)", "counted.eq(latch)"),
    (
        "copy of the codes one step ahead",
        "zip(copies, states, strict=True))\n",
        "zip(copies, [w.value for w in updates], strict=True))\n",
    ),
    ("drive of the next sample", "with m.If(self.intake.take):\n", "with m.If(1):\n"),
    (
        "initial codes are zero",
        "[constant(0)] * prod(s.shape) if s.init is None else self._entries(s.init, driven, s.shape)",
        "[constant(0)] * prod(s.shape)",
    ),
)
RELAXATION = of(
    "relaxation",
    ("steps not those of the sample", "self.coming = kept", "self.coming = engine.steps, kept[1]"),
    ("tolerance wraps", "self.tolerance.eq(capped)", "self.tolerance.eq(tolerance)"),
    ("steps add up over samples", "self.engine.made.eq(0)", "self.engine.made.eq(self.engine.made)"),
    ("a beat too few", "m.If(self.beat == self.beats - 1)", "m.If(self.beat + 1 >= self.beats - 1)"),
    ("beats go on from the last result", "self.m.d.control += self.beat.eq(0)", "pass"),
    ("beats pass while the reader stalls", "with m.If(y.ready):", "with m.If(1):"),
    judge="parallel",
)
INTAKE = of(
    "parallel.intake",
    ("sample complete a beat early", "self.number == port.beats - 1)", "self.number == port.beats - 2)"),
    ("next sample over the one that waits", "return ~self.waiting", "return Const(1)"),
    (
        "sums go on from the last sample",
        "[a.sum.eq(a.init) for a in self.accumulators]",
        "[a.sum.eq(a.sum) for a in self.accumulators]",
    ),
    ("signs of the columns exchanged", "weighted(weight, code, minus)", "weighted(weight, minus, code)"),
    ("accumulator without its bias", "init=int(start), name", "init=0, name"),
    ("product added before it is there", "with m.If(adding[2]):", "with m.If(adding[1]):"),
    ("code of the next column", "return second, word", "return first, word"),
    (
        "code in the wrong place of its beat",
        "self.payload[bits * slot :]",
        "self.payload[bits * (port.beat - 1 - slot) :]",
    ),
    ("codes of another beat", "self.transfer & (self.number == number)", "self.transfer & (self.number == number - 1)"),
    ("accumulators taken too early", "self.latency = 4", "self.latency = 3"),
    (
        "full after it was taken",
        "with m.Elif(self.take):\n            m.d.control += self.full.eq(0)",
        "with m.Elif(self.take):\n            m.d.control += self.full.eq(1)",
    ),
)
BUILD = of(
    "parallel.build",
    ("products of a constant not rounded", "constant(1 << (shift - 1))", "constant(0)"),
    (
        "product of a constant shifted by one more",
        "rounded.value >> shift, interval",
        "rounded.value >> (shift + 1), interval",
    ),
    ("graph adds where it subtracts", 'f"{name}_node", subtract=adder.subtract', 'f"{name}_node", subtract=False'),
    ("negative output as positive", "self.negated(output) if term.negative else output", "output"),
    ("second operand not shifted", "shifted(b, adder.shift_b)", "b"),
    ("output not shifted", "shifted(nodes[term.node], term.shift)", "nodes[term.node]"),
    ("bias not multiplied", "[constant(int(b) * factor)", "[constant(int(b))"),
    (
        "carry out of the lowest bits lost",
        "while low and right % (1 << low) and (subtract or left % (1 << low)):",
        "while False:",
    ),
    ("lowest bits without the offset", "low, (left + right) % (1 << low))", "low, 0)"),
    ("a register that is not counted", "stage=wire.stage + 1, level=0", "stage=wire.stage, level=0"),
    (
        "sums one bit too narrow",
        "signal = Signal(shape_of(_holding(span)), name",
        "signal = Signal(shape_of(_holding(Interval(span.lo >> 1, span.hi >> 1))), name",
    ),
    (
        "lookup that is a constant too early",
        "if interval.lo == interval.hi:\n            return constant(interval.lo)\n        return replace",
        "if interval.hi - interval.lo < 99:\n            return constant(interval.lo)\n        return replace",
    ),
)
TABLES = of(
    "parallel.tables",
    ("codes above a table take the first entry", "Mux(_negative(core), bottom, edge)", "bottom"),
    ("codes below a table take the last entry", "Mux(_negative(core), bottom, edge)", "edge"),
    (
        "distance added beyond the ends",
        "kind = Mux(outside, Const(resting, kinds.bits), kind)",
        "kind = Mux(outside, kind, kind)",
    ),
    ("entries of the block alone", "return start + decode(distance, span)", "return start"),
    (
        "table begins one code later",
        "return CoreTable(int(cores[start]), visible",
        "return CoreTable(int(cores[start]) + 1, visible",
    ),
    ("table without its last entry", "visible[start : end + 1])", "visible[start:end])"),
    (
        "indices above the sign as negative",
        "np.where(cores > self.index.hi, cores - len(cores), cores)",
        "np.where(cores > self.index.hi, cores, cores)",
    ),
    (
        "core without a sign extended with ones",
        "Cat(core, Const(0, bits - len(core)))",
        "Cat(core, Const(-1, bits - len(core)))",
    ),
    (
        "codes below 0 as those above in block RAM",
        "np.where(cores > index.hi, cores - len(cores), cores)",
        "np.where(cores > index.hi, cores, cores)",
    ),
    (
        "table in block RAM begins one code later",
        "np.clip(cores - table.first, 0,",
        "np.clip(cores - table.first + 1, 0,",
    ),
)
WIRES = of(
    "parallel.wires",
    ("offset shifted out", "offset=wire.offset << by)", "offset=wire.offset)"),
    ("constant bits lost", "value = Cat(Const(offset, low), core)", "value = Cat(Const(0, low), core)"),
    ("sign lost behind constant bits", "return value.as_signed() if core.shape().signed else value", "return value"),
    ("sign lost in the upper bits", "return kept.as_signed() if self.value.shape().signed else kept", "return kept"),
)
FUSE = of(
    "parallel.fuse",
    (
        "factor of the map before",
        "return (*behind[0], op), behind[1] * min(factors)",
        "return (*behind[0], op), behind[1]",
    ),
)
MATRIX = of(
    "parallel.matrix",
    ("map without its bias", "return bias_entries(net, op)", "return 0 * bias_entries(net, op)"),
)
EQUIVALENT = (
    Mutant(
        "operand of another clock",
        "parallel.build",
        "return [self.registered(w) if w in late or w.stage < stage else w for w in wires]",
        "return [self.registered(w) if w in late else w for w in wires]",
        "registers elsewhere: the codes that a block reads stand still until its last register has taken them, so an "
        "operand that is right a clock sooner still is; other clocks and logic levels at most, no other code",
    ),
)
PARALLEL: tuple[Mutant, ...] = (*ENGINE, *RELAXATION, *INTAKE, *BUILD, *TABLES, *WIRES, *FUSE, *MATRIX, *EQUIVALENT)
