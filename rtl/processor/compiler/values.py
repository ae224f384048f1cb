"""Values of a net while it is lowered: in a buffer, or a chain that nobody has had to write yet."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import prod

from eqcompile.toolchain.ir import Format, IntNet, infer, ops, walk

from .chain import Chain
from .draft import Codes, Draft, Listing, Pass
from .views import Buffer, View, contiguous

__all__ = ["Values"]

MATERIAL = (ops.Linear, ops.Stencil, ops.Conv, ops.Reshape, ops.Transpose, ops.Embedding, ops.Repeat)
"""They read a value that lies in a buffer."""


class Values:
    """What is known of each value, and the draft that grows. `producers`: the pass that wrote it."""

    def __init__(self, net: IntNet, lanes: int) -> None:
        self.net, self.lanes = net, lanes
        self.types = infer(net)
        self.draft = Draft()
        self.params: dict[str, Codes] = {p.name: net.param(p.name) for p in net.params}
        self.values: dict[str, View | Chain] = {}
        self.producers: dict[str, Pass] = {}
        self.lists: dict[tuple[object, ...], str] = {}
        self.state_lists: dict[str, Listing] = {}
        self.scope: tuple[str, ...] = ()
        self.uses: Counter[str] = Counter(n for op in net.all_ops() for n in op.reads)
        self.uses.update(op.result for op in net.all_ops() if isinstance(op, ops.Repeat))
        self.uses.update([s.update for s in net.states] + [s.init for s in net.states if s.init])
        self.uses.update(o.value for o in net.outputs)
        self.held = {n for op in net.all_ops() if isinstance(op, MATERIAL) for n in op.reads}
        self.held |= {n for op in net.all_ops() if isinstance(op, ops.Repeat) for o in walk(op.body) for n in o.reads}
        self.updates = {s.update: s for s in net.states if self.uses[s.update] == 1}

    def buffer(self, name: str, shape: tuple[int, ...], *, lives: bool = False, bits: int | None = None) -> View:
        wide = bits if bits is not None else self.bits(name)
        self.draft.buffers[name] = Buffer(name, max(prod(shape), 1), wide, lives)
        return contiguous(name, shape)

    def bits(self, name: str) -> int:
        """As a signed number."""
        fmt = self.net.formats.get(name)
        if fmt is None:
            inputs = {i.name: i.limits for i in self.net.inputs}
            fmt = Format.holding(*inputs.get(name, (0, 1)))
        return fmt.bits + (not fmt.signed)

    def view(self, name: str) -> View:
        value = self.values[name]
        assert isinstance(value, View)
        return value

    def read(self, name: str) -> View:
        """The value in a buffer."""
        if name in self.params:
            codes = self.params[name]
            key = f"param {name}"
            if key not in self.draft.params:
                lo, hi = int(codes.min()), int(codes.max())
                fmt = Format.holding(lo, hi)
                self.draft.params[key] = codes.ravel()
                self.buffer(key, codes.shape, lives=True, bits=fmt.bits + (not fmt.signed))
            return contiguous(key, codes.shape)
        value = self.values[name]
        if isinstance(value, Chain):
            self.write(name, value)
        return self.view(name)

    def write(self, name: str, chain: Chain) -> None:
        """Materialise a value."""
        if chain.old is not None:
            raise AssertionError(f"{name} is damped in place and is read elsewhere")
        view = self.buffer(name, chain.result)
        made = Pass(chain, view, name)
        self.draft.items.append(made)
        self.producers[name] = made
        self.values[name] = view

    def chain(self, name: str) -> Chain:
        """The value as a chain that can go on: not written yet if nothing else reads it."""
        value = self.values.get(name)
        if isinstance(value, Chain) and self.uses[name] == 1:
            return value
        return Chain.of(self.read(name))

    def define(self, name: str, chain: Chain) -> None:
        """A value: written when somebody needs it in a buffer."""
        if not self.uses[name]:
            return
        if self.uses[name] > 1 or name in self.held:
            self.write(name, chain)
        else:
            self.values[name] = chain

    def constant_pass(self, view: View, value: int, name: str) -> Pass:
        source = View("constant", view.shape, tuple([0] * len(view.shape)))
        return Pass(replace(Chain.of(source), immediate=value), view, name)

    def constant(self, view: View, value: int, name: str) -> None:
        self.draft.items.append(self.constant_pass(view, value, name))

    def settle_pending(self) -> None:
        """Write what the drive leaves pending and another block reads."""
        later = {n for op in walk((*self.net.step, *self.net.readout)) for n in op.reads}
        later |= {n for s in self.net.states for n in (s.update, s.init) if n} | {o.value for o in self.net.outputs}
        for name in sorted(later & set(self.values)):
            value = self.values[name]
            if isinstance(value, Chain):
                self.write(name, value)
