"""Where a block of operations stands in the program, and the memory of its values."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...toolchain.ir import Interval
from ..clike import Shape
from .layout import Group
from .program import Program
from .values import Value

__all__ = ["Region"]


@dataclass
class Region:
    """`group` and `base`: where values that need memory go, and the C prefix of it; `lasting` values
    are read after the block and go to the state struct. `events`: linear maps are kept and take up what changed;
    `dense`: they add every column, else those of operand entries that are not 0."""

    program: Program
    group: Group
    base: str
    lasting: set[str] = field(default_factory=set)
    events: bool = False
    dense: bool = False

    def new(self, name: str, shape: Shape, x: Interval, *, entries: int = 0, wanted: str = "") -> Value:
        """Memory for the value `name`, under the C name `wanted` if it is not the value itself."""
        group, base = (self.program.kept, "s->") if name in self.lasting else (self.group, self.base)
        return self.program.array(group, wanted or name, shape, x, base, entries=entries)
