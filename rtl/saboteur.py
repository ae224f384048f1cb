"""How a saboteur disturbs a word, in every engine: as the injection port says (`interface.EngineSignature`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from amaranth import Mux, Value

__all__ = ["disturbed", "numbered", "within"]


def numbered(states: Iterable[str], values: Iterable[str]) -> dict[str, int]:
    """Every word that has a saboteur, as `PLACE:NAME`, and what `inject_word` calls it."""
    names = [*(f"state:{name}" for name in states), *(f"value:{name}" for name in dict.fromkeys(values))]
    return {name: number for number, name in enumerate(names)}


def within(ports: Any, tick: Value) -> Value:
    """Whether words of that tick are disturbed."""
    return (ports.inject_first <= tick) & (tick <= ports.inject_last)


def disturbed(ports: Any, number: int, word: Value, here: Value) -> Value:
    """`(((word ^ flip) | one) & ~zero) + add`, cut to its bits, if the port of `ports` names word `number` and it is
    `here`; else `word`."""
    flip, one, zero, add = (getattr(ports, f"inject_{mask}")[: len(word)] for mask in ("flip", "one", "zero", "add"))
    cut = ((((word.as_unsigned() ^ flip) | one) & ~zero) + add)[: len(word)]
    chosen = ports.inject_enable & (ports.inject_word == number) & here
    return Mux(chosen, cut.as_signed() if word.shape().signed else cut, word)
