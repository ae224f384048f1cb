"""What one processor is made of: its parameters, and the JSON file that says them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Bank", "Core"]


@dataclass(frozen=True)
class Bank:
    """`words` words of `bits` bits in two's complement, one written and one read in a clock. `sums`: a word for each
    lane, that of all lanes in a clock, for the apply instructions."""

    words: int
    bits: int
    sums: bool = False


@dataclass(frozen=True)
class Core:
    """Parameters of a processor.

    `axes`: of a loop nest. `address_bits`, `count_bits`, `data_bits`: of addresses, of counts, and of immediates.
    `lanes`: sums that one word of the weight memory reaches, with a code of `code_bits` for each and `group_bits` that
    number their group. `column_words`: rows of the column table. `lists`: words of each list of events. `width`:
    entries that a wide instruction takes in a clock, a power of two, no more than `lanes`. `forwards`: a sum may be
    changed in clocks that follow each other. `digits`: bits of what is divided, or has its root taken.
    `difference_bits`: of the difference of an event, 0 for what any bank may give. `lowest`: some code of a weight is
    the lowest of its bits, which has no opposite.
    """

    axes: int
    address_bits: int
    count_bits: int
    data_bits: int
    banks: tuple[Bank, ...]
    lanes: int
    code_bits: int
    group_bits: int
    weight_words: int
    column_words: int
    table_words: int
    table_bits: int
    lists: tuple[int, ...]
    program_words: int
    width: int = 1
    forwards: bool = False
    digits: int = 2
    difference_bits: int = 0
    lowest: bool = True
