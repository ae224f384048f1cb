"""The mutations of the lattice engine."""

from __future__ import annotations

from rtl_mutant import Mutant, of

__all__ = ["LATTICE"]

ENGINE = of(
    "lattice.engine",
    (
        "bank stays after the drive",
        "self.bank.eq(~self.bank)\n                    m.next",
        "self.bank.eq(self.bank)\n                    m.next",
    ),
    ("a step too many", "over.eq((schedule.left == 1)", "over.eq((schedule.left == 0)"),
    ("lattice never settles", "(schedule.left == 1) | ~moved", "schedule.left == 1"),
    ("schedule sampled with the second code", "self.taken & (self.number == 0)", "self.taken & (self.number == 1)"),
    ("sums captured before the last ones left", "(~pending & (left <= CLOCKS + 1))", "~pending"),
    ("two runs captured at once", "(~pending & (left <= CLOCKS + 1))", "(left <= CLOCKS + 1)"),
    ("walk not begun again", "place.eq(Mux(last, 0, place + 1))", "place.eq(place + 1)"),
    ("one weight for all places", "[word.eq(word + 1), place", "[word.eq(word), place"),
    (
        "readout with weights of the step",
        "sequence.base.eq(Mux(over, read_base, step_base))",
        "sequence.base.eq(step_base)",
    ),
    ("next sample lost while this one relaxes", "with m.If(sequence.end & self.driving):", "with m.If(sequence.end):"),
    ("codes taken while a sample waits", "self.x.ready.eq(~self.full)", "self.x.ready.eq(1)"),
    (
        "results read before the last one came",
        "with m.If(readout.valid & (readout.row == rows - 1)):",
        "with m.If(readout.valid):",
    ),
    ("idle while a sample comes in", "(self.number != 0) | ~control", "~control"),
    (
        "codes stored when the first one arrived",
        "cells.store.eq(sites.valid & (arrived == self.plan.share - 1))",
        "cells.store.eq(sites.valid & (arrived == 0))",
    ),
    ("all blocks stored in the first", "cells.stored.eq(Mux(is_last, 0, cells.stored + 1))", "cells.stored.eq(0)"),
    ("step ends with its first block", "finish.eq(cells.store & is_last)", "finish.eq(cells.store)"),
    ("elements of the phase before", "with m.If(sequence.start):", "with m.If(0):"),
)
CELLS = of(
    "lattice.cells",
    ("sum not begun anew", "Mux(first[CLOCKS - 1], 0, accumulator) + product", "accumulator + product"),
    ("last product left out", "with m.If(issue[CLOCKS - 1]):", "with m.If(issue[CLOCKS - 1] & ~last[CLOCKS - 1]):"),
    ("sums captured a clock early", "issue[CLOCKS] & last[CLOCKS]", "issue[CLOCKS - 1] & last[CLOCKS - 1]"),
    ("sums do not move on", "with m.If(shift & ~captured):", "with m.If(0):"),
    ("captured sums pushed away", "with m.If(shift & ~captured):", "with m.If(shift):"),
    ("new codes into the bank that is read", "_address(stored, ~command.bank)", "_address(stored, command.bank)"),
    ("neighbour on the other side", "codes[(c + move) % plan.cells]", "codes[(c - move) % plan.cells]"),
    ("block behind the last one", "Mux(total >= passes, total - passes, total)", "total"),
    ("readout of the block that is weighed", "Mux(command.direct, command.place, command.block)", "command.block"),
    ("readout of a block further on", "Mux(command.direct, 0, ahead)", "ahead"),
    ("ternary signs exchanged in a cell", "weighted(weight, near, -near)", "weighted(weight, -near, near)"),
    (
        "new codes to the wrong cells",
        "zip(arrived, [*arrived[1:], new], strict=True)",
        "zip(arrived, [new, *arrived[:-1]], strict=True)",
    ),
    ("product too narrow", "signed(bits + code.width), name", "signed(bits + code.width - 2), name"),
    ("weights of a neighbour", "held[c * fmt.bits :], fmt) for c in", "held[(c ^ 1) * fmt.bits :], fmt) for c in"),
    ("input for the code of a cell", "Mux(command.given, take,", "Mux(command.direct, take,"),
)
SITES = of(
    "lattice.sites",
    (
        "old codes of the other bank",
        "banked = (leaving.number << 1) | leaving.bank",
        "banked = (leaving.number << 1) | ~leaving.bank",
    ),
    ("initial codes zero", "Const(0) if s.init is None else driven[s.init]", "Const(0)"),
    ("sites that are none keep it going", "_later(m, stepped_valid & real, 1)", "_later(m, stepped_valid, 1)"),
    ("a fall is no change", "((difference > tolerance) | (difference < minus))", "(difference > tolerance)"),
    ("a rise is no change", "((difference > tolerance) | (difference < minus))", "(difference < minus)"),
    ("tolerance strict downwards", "(difference < minus)", "(difference <= minus)"),
    ("changes of the step before", "with m.If(fresh):", "with m.If(0):"),
    ("changes forgotten within a step", "with m.If(fresh):", "with m.If(valid):"),
    (
        "old codes overwritten",
        "write.addr.eq((index << 1) | ~leaving.bank)",
        "write.addr.eq((index << 1) | leaving.bank)",
    ),
    ("readout with the row before", "Mux(leaving.first, 0, total) + found", "total + found"),
    ("readout of the first cells", "leaving.reading & leaving.last, 1)", "leaving.reading & leaving.first, 1)"),
    ("rows in another place", "Mux(row == rows - 1, 0, row + 1)", "row + 1"),
    ("drive kept for another site", "kept.write.addr.eq(where)", "kept.write.addr.eq(leaving.number)"),
    ("readout counted as a step", "~leaving.driving & ~leaving.reading, clocks)", "~leaving.driving, clocks)"),
    (
        "state before its update",
        "code.eq(Mux(driven_valid, start, new[s.update]))",
        "code.eq(Mux(driven_valid, start, new[s.name]))",
    ),
)
UNIT = of(
    "lattice.unit",
    (
        "bias of a site left out",
        "biased.eq(self.at(name, TABLE_CLOCKS) + self.rows(bias, shape_of(fmt), TABLE_CLOCKS))",
        "biased.eq(self.at(name, TABLE_CLOCKS))",
    ),
    ("parameters of the site before", 'self.at("", time - TABLE_CLOCKS)', 'self.at("", time - TABLE_CLOCKS + 1)'),
    ("product not rounded", "product + ((1 << op.shift) >> 1)", "product + 0"),
    ("upper part without its sign", "is_sign = i == len(rest) - 1 and rest.shape().signed", "is_sign = False"),
    ("upper part in the wrong place", "(upper << (DSP_BITS - 1))", "(upper << DSP_BITS)"),
    ("value a clock too early", "1), time + latency + 1)", "1), time + latency)"),
    ("value of the site behind", "return chain[time - first]", "return chain[max(time - first - 1, 0)]"),
    ("sum's sign lost", "decode(total, needed) if len(total)", "total[: needed.bits] if len(total)"),
)
WALK = of(
    "lattice.walk",
    ("code weighed at each visit", "fresh = at % cells not in visited", "fresh = True"),
    ("walk the other way", "Place(None, b - a)", "Place(None, a - b)"),
    ("walk begins with another block", "places += [Place(q), *", "places += [Place(-q % passes), *"),
)
PLAN = of(
    "lattice.plan",
    (
        "weights of the drive for the readout",
        "return 0, drive, drive + self.passes * len(self.walk.places)",
        "return 0, drive, 0",
    ),
    (
        "weights of a cell by row",
        "by_site.transpose(0, 2, 1).reshape(-1, self.cells)",
        "by_site.reshape(-1, self.cells)",
    ),
    ("sums as wide as those of the readout", "((drive, x), (step, h), (shares", "((shares"),
    (
        "codes of the state alone",
        "formats = [self.net.formats[self.operand], self.net.formats[self.net.inputs[0].name]]",
        "formats = [self.net.formats[self.operand]]",
    ),
    (
        "a unit serves the cells of the next",
        "range(unit * self.share, (unit + 1) * self.share)",
        "range(unit * self.share + 1, (unit + 1) * self.share + 1)",
    ),
)
LATTICE: tuple[Mutant, ...] = (*ENGINE, *CELLS, *SITES, *UNIT, *WALK, *PLAN)
