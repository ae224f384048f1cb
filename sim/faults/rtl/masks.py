"""What upsets make of a word in one tick, as the tables of the saboteurs hold it."""

from __future__ import annotations

from dataclasses import dataclass

from ..table import Upset

__all__ = ["Masks", "Told"]


@dataclass(frozen=True)
class Masks:
    """`(((word ^ flip) | one) & ~zero) + add`."""

    flip: int = 0
    one: int = 0
    zero: int = 0
    add: int = 0

    @classmethod
    def of(cls, upset: Upset) -> Masks:
        return cls(upset.flip, upset.one, upset.zero, upset.add)

    @property
    def bits(self) -> int:
        """The bits that are changed without regard to their neighbours."""
        return self.flip | self.one | self.zero

    def then(self, after: Masks, *, saturate: bool) -> Masks | None:
        """Both in this order as one, in their least form; None where no such form is the same for every word."""
        if self.add and (after.bits or (after.add and saturate)):
            return None
        # What becomes of a bit: it is set, cleared, inverted or left.
        ones, zeros, inverted = self.one & ~self.zero, self.zero, self.flip & ~self.one & ~self.zero
        flip, inverted = after.flip, inverted ^ (after.flip & ~(ones | zeros))
        ones, zeros = (ones & ~flip) | (zeros & flip), (zeros & ~flip) | (ones & flip)
        ones, zeros, inverted = ones | after.one, zeros & ~after.one, inverted & ~after.one
        ones, zeros, inverted = ones & ~after.zero, zeros | after.zero, inverted & ~after.zero
        return Masks(inverted, ones, zeros, self.add + after.add)


@dataclass(frozen=True)
class Told:
    """Element `unit` of the word with number `word` is disturbed by `masks` in tick `tick`."""

    word: int
    unit: int
    tick: int
    masks: Masks

    def codes(self) -> tuple[int, ...]:
        """As native.cpp lists them."""
        m = self.masks
        return self.word, self.unit, self.tick, m.flip, m.one, m.zero, m.add
