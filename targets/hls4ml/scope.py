"""What all code of one net shares: C++ names, constants, and views of the values written so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...toolchain.ir import Format, IntNet
from ...toolchain.passes import Analysis
from ..clike import Shape, contiguous
from .maps import Stored, Turns, format_of
from .values import BOOLEAN, Names, View, ctype, largest_divisor, literal, token_format

__all__ = ["Index", "Lines", "Port", "Scope", "nest"]

Index = Sequence[str]
Lines = list[str]


@dataclass(frozen=True)
class Port:
    """An argument of the function: what it is in the net, its C++ name, shape and format."""

    net_name: str
    name: str
    shape: Shape
    format: Format

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class Scope:
    """`stored`: the constants used; `maps`: turns of each linear map, by its value; `configs`: their C++ structs."""

    def __init__(self, net: IntNet, reuse: int) -> None:
        self.net, self.reuse = net, reuse
        self.names = Names()
        self.shapes = Analysis.of(net).shapes
        self.params = Analysis.of(net).codes
        self.views: dict[str, View] = {}
        self.stored: list[Stored] = []
        self.maps: dict[str, Turns] = {}
        self.configs: Lines = []
        self._tables: dict[str, View] = {}
        tokens = {i.name: token_format(i) for i in net.inputs if i.encoding is None}
        self._formats = {**{p: format_of(v) for p, v in self.params.items()}, **tokens, **net.formats}
        self.inputs = [Port(i.name, self.names.free("in", i.name), i.shape, self.format(i.name)) for i in net.inputs]
        self.outputs = [
            Port(o.name, self.names.free("out", o.name), self.shapes[o.value], self.format(o.value))
            for o in net.outputs
        ]
        self.ticks = Port("steps", "ticks", (1,), Format.holding(0, net.schedule.steps))
        for port in self.inputs:
            self.views[port.net_name] = View(port.name, port.shape, contiguous(port.shape), port.format)

    def format(self, name: str) -> Format:
        """The stated format of a value, the narrowest of a parameter; booleans have one bit."""
        return self._formats.get(name, BOOLEAN)

    def value(self, name: str) -> View:
        """A value that was written before, or a parameter: one code stands in the code itself."""
        if name in self.views:
            return self.views[name]
        codes, of = self.params[name], self.format(name)
        if codes.size == 1:
            return View(literal(int(codes.reshape(-1)[0]), of), codes.shape, None, of)
        return self.table(name)

    def table(self, param: str) -> View:
        """A parameter as an array in C order."""
        if param not in self._tables:
            codes, of = self.params[param], self.format(param)
            name = self.store(param, codes.reshape(-1))
            self._tables[param] = View(name, codes.shape, contiguous(codes.shape), of)
        return self._tables[param]

    def store(self, wanted: str, codes: NDArray[np.int64]) -> str:
        """A constant array of its own; its C++ name."""
        made = Stored(self.names.free("w", wanted), codes, format_of(codes))
        self.stored.append(made)
        return made.name

    def array(self, name: str, shape: Shape, of: Format, pad: str) -> tuple[View, Lines]:
        """A new array of registers, and its declaration."""
        made = self.names.free("v", name)
        pragma = f"{pad}#pragma HLS ARRAY_PARTITION variable={made} complete"
        return View(made, shape, contiguous(shape), of), [f"{pad}{ctype(of)} {made}[{math.prod(shape)}];", pragma]

    def loop(self, shape: Shape, body: Callable[[Index], Lines], pad: str, *, flat: bool) -> Lines:
        """Loops over `shape` around what `body` says of an index. A flat one makes `reuse` turns or fewer; nested ones
        (operands out of order) take an entry a clock."""
        if flat or not shape:
            count = math.prod(shape)
            taken = largest_divisor(count, self.reuse)
            if count == 1:
                return [f"{pad}{{", *(f"{pad}    {line}" for line in body(["0"])), f"{pad}}}"]
            pragmas = ["#pragma HLS PIPELINE II=1", f"#pragma HLS UNROLL factor={count // taken}"]
            pragmas = ["#pragma HLS UNROLL"] if taken == 1 else pragmas[:1] if count == taken else pragmas
            inner = [*pragmas, *body(["i"])]
            return [f"{pad}for (unsigned i = 0; i < {count}; i++) {{", *(f"{pad}    {n}" for n in inner), f"{pad}}}"]
        return nest(shape, ["#pragma HLS PIPELINE II=1"], body, pad)

    def copy(self, value: View, to: View, pad: str) -> Lines:
        """Set the whole array `to` to `value`, broadcast."""
        whole = value.aligned(to.shape)
        cast = ctype(to.format)
        return self.loop(to.shape, lambda i: [f"{to.at(i)} = {cast}({whole.at(i)});"], pad, flat=whole.even)


def nest(
    shape: Shape, pragmas: Iterable[str], body: Callable[[Index], Lines], pad: str = "", letter: str = "i"
) -> Lines:
    """One loop an axis; `pragmas` stand in the innermost."""
    lines: Lines = []
    index = [f"{letter}{axis}" for axis in range(len(shape))]
    for depth, (name, size) in enumerate(zip(index, shape, strict=True)):
        lines.append(f"{pad}{'    ' * depth}for (unsigned {name} = 0; {name} < {size}; {name}++) {{")
    deep = f"{pad}{'    ' * len(shape)}"
    lines += [f"{deep}{line}" for line in (*pragmas, *body(index))]
    return [*lines, *(f"{pad}{'    ' * depth}}}" for depth in reversed(range(len(shape))))]
