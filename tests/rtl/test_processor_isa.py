"""ISA.md is right: each example, run by the simulator on encoded records; and records hold what was encoded."""

from __future__ import annotations

import doctest
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processor_programs import CORE, OUT, A, column, emitted, value

from eqcompile.rtl.processor import isa
from eqcompile.rtl.processor.encoding import Opcode, decode, encode, layout, record_bits
from eqcompile.rtl.processor.isa import Alu, Apply, Begin, Damping, Done, Events, Loop, Old, Repeats, Stream, Vector
from eqcompile.rtl.processor.timing import root_digits

PAGE = Path(isa.__file__).with_name("ISA.md")
NAMES = {
    "A": A, "A2": Stream(0, 0, (2, 1)), "OUT": OUT, "column": column, "emitted": emitted, "value": value,
    **{name: getattr(isa, name) for name in isa.__all__},
}  # fmt: skip


def test_every_example_of_the_page() -> None:
    parser = doctest.DocTestParser()
    examples = parser.get_doctest(PAGE.read_text(encoding="utf-8").replace("```", ""), dict(NAMES), "ISA", str(PAGE), 0)
    assert len(examples.examples) > 30
    assert doctest.DocTestRunner(verbose=False).run(examples).failed == 0


ADDRESS = st.integers(-100, 100)
COUNTS = st.lists(st.integers(1, 5), min_size=1, max_size=3)


@given(st.data())
def test_a_record_holds_what_was_encoded(data: st.DataObject) -> None:
    counts = (*[1] * CORE.axes, *data.draw(COUNTS))[-CORE.axes :]
    strides = st.tuples(*[st.integers(-9, 9)] * len(counts))

    def stream(bank: int) -> Stream:
        return Stream(bank, data.draw(ADDRESS), data.draw(strides))

    vector = Vector(
        counts=counts,
        a=stream(0),
        b=stream(1),
        d=stream(2),
        alu=data.draw(st.sampled_from(Alu)),
        immediate=data.draw(st.integers(-(1 << 40), 1 << 40)),
        shift=data.draw(st.integers(0, 63)),
        damping=Damping(Old.D, data.draw(st.integers(1, 1 << 20)), 20),
        events=Events(1, Stream(0, 3, data.draw(strides)), Stream(0, 0, data.draw(strides))),
    )
    apply = Apply(1, True, stream(3), data.draw(st.integers(0, 7)), counts, early=data.draw(st.booleans()))
    for instruction in (vector, apply, Begin(), Done(), Loop(Repeats.SETTLED, 30, 2)):
        record = encode(CORE, instruction)
        assert record.bit_length() <= record_bits(CORE)
        assert decode(CORE, record) == instruction


def test_a_record_names_every_field_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="count_2 is 999.*a_base is 5000"):
        encode(CORE, Vector(counts=(999,), a=Stream(0, 5000, (1,)), d=OUT))


@pytest.mark.parametrize("opcode", Opcode)
def test_a_record_with_other_bits_is_refused(opcode: Opcode) -> None:
    length = 4 + sum(field.bits for field in layout(CORE, opcode))
    with pytest.raises(ValueError, match="are not 0"):
        decode(CORE, opcode | 1 << length)


def test_a_program_whose_loops_do_not_match_is_refused() -> None:
    with pytest.raises(ValueError, match="1 loops have no end"):
        emitted(Loop(Repeats.COUNT, 2))
    with pytest.raises(ValueError, match="closes no loop"):
        emitted(isa.End())


def test_a_list_that_is_full_is_an_error() -> None:
    listed = Vector(counts=(17,), a=A, d=Stream(1, 0, (1,)), events=Events(0, Stream(0), Stream(0, 0, (1,))))
    with pytest.raises(OverflowError, match="17 words"):
        emitted(listed, banks={0: [1] * 17, 1: [0] * 17})


@pytest.mark.parametrize("digits", range(2, 65))
def test_a_root_has_as_many_digits_as_are_counted(digits: int) -> None:
    """The clocks of a root, and the bits that the core makes of it; a sign is one of the digits."""
    assert math.isqrt((1 << digits - 1) - 1).bit_length() == root_digits(digits)
