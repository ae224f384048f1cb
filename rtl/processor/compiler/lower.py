"""An IntNet as a draft: each operation becomes a stage of a pass where it can, else a pass of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import assert_never

from eqcompile.toolchain.ir import Format, IntNet, ops
from eqcompile.toolchain.ir.ops import Op, WeightedOp

from ..isa import Alu, Begin, Done, End, Loop, Old, Repeats
from .chain import Chain, Stage
from .draft import Application, Draft, Listing, Pass, Skip
from .fresh import freshen
from .maps import Part, map_of
from .operations import Operations
from .tidy import drain, hurry, separate
from .views import Buffer, View

__all__ = ["make_draft"]


def make_draft(net: IntNet, lanes: int) -> Draft:
    """The draft of a verified net, with sums in groups of `lanes`."""
    return _Lowering(net, lanes).run()


class _Lowering(Operations):
    # Frame of the program

    def run(self) -> Draft:
        net, items = self.net, self.draft.items
        items.append(Begin())
        for s in net.states:
            self.values[s.name] = self.buffer(s.name, s.shape, lives=True)
        if net.schedule.frames:
            self.values["first"] = self.buffer("first", (1,), lives=True, bits=2)
            self.constant(self.view("first"), 1, "first")
            items.append(Loop(Repeats.FRAMES))
        for i in net.inputs:
            self.values[i.name] = view = self.buffer(i.name, i.shape, lives=True)
            taken = Pass(Chain.of(view), view, i.name, reads_port=True)
            items.append(taken)
            self.producers[i.name] = taken
        self.scope = ("frame",)
        self.block(net.drive)
        self.settle_pending()
        self.initial()
        items.append(Loop(Repeats.SETTLED, net.schedule.steps, net.schedule.tolerance))
        self.scope = ("frame", "tick")
        self.block(net.step)
        self.latch([(s.name, s.update) for s in net.states], state=True)
        items.append(End())
        self.scope = ("frame",) if net.schedule.emit == "every" else ()
        if net.schedule.frames and net.schedule.emit == "last":
            items.append(End())
        self.readout()
        if net.schedule.frames and net.schedule.emit == "every":
            items.append(End())
        items.append(Done())
        drain(self.draft)
        separate(self.draft)
        hurry(self.draft)
        freshen(self.draft, net.schedule.frames, net.schedule.emit == "every")
        return self.draft

    def initial(self) -> None:
        items = self.draft.items
        starts = [s for s in self.net.states if s.init is not None]
        at = len(items)
        for s in starts:
            assert s.init is not None
            view = self.view(s.name)
            write = Pass(Chain.of(self.read(s.init).broadcast(s.shape)), view, s.name)
            items.append(write)
            self.producers[f"{s.name} first"] = write
        if self.net.schedule.frames and starts:
            first = self.view("first")
            items.insert(at, Skip(first, len(items) - at))
        if self.net.schedule.frames:
            self.constant(self.view("first"), 0, "first")

    def readout(self) -> None:
        self.block(self.net.readout)
        for o in self.net.outputs:
            shape = self.types[o.value].shape
            chain = self.chain(o.value)
            self.draft.items.append(Pass(replace(chain, result=chain.result or shape), None, o.name))

    # Blocks

    def block(self, body: Iterable[Op]) -> None:
        for op in body:
            self.operation(op)

    def operation(self, op: Op) -> None:
        match op:
            case ops.Linear() | ops.Stencil() | ops.Conv():
                self.weighted(op)
            case ops.Reshape():
                self.reshaped(op)
            case ops.Transpose():
                rank = len(op.axes)
                self.values[op.out] = self.read(op.x).transpose(tuple(a % rank for a in op.axes))
            case ops.Embedding():
                self.embedded(op)
            case ops.Repeat():
                self.repeated(op)
            case ops.MatMul():
                self.product(op)
            case ops.Add() | ops.Sub() | ops.Mul() | ops.Greater() | ops.Divide():
                self.define(op.out, self.two(op))
            case ops.Select():
                shape = self.types[op.out].shape
                a, b, c = (self.read(n).broadcast(shape) for n in (op.a, op.b, op.condition))
                self.define(op.out, Chain(shape, shape, a, b, c, stage=Stage.ALU, alu=Alu.SELECT))
            case ops.DampFixed():
                self.define(op.out, self.damped(op))
            case ops.Abs() | ops.Reduce() | ops.Rescale() | ops.Lookup() | ops.Interpolate() | ops.Isqrt():
                self.define(op.out, self.one(op))
            case ops.Scale() | ops.Activation() | ops.Clip() | ops.Damp() | ops.Mod() | ops.Normalize() | ops.Softmax():
                raise AssertionError(f"{op.mnemonic} does not stand in an IntNet")
            case _:
                assert_never(op)

    def repeated(self, op: ops.Repeat) -> None:
        shape = self.types[op.carry].shape
        init = self.read(op.init).broadcast(shape)
        carry = self.buffer(op.carry, shape, lives=True)
        self.draft.items.append(Pass(Chain.of(init), carry, op.carry))
        self.values[op.carry] = carry
        self.draft.items.append(Loop(Repeats.COUNT, op.count))
        outer, self.scope = self.scope, (*self.scope, op.out)
        self.block(op.body)
        self.latch([(op.carry, op.result)], state=False)
        self.scope = outer
        self.draft.items.append(End())
        self.values[op.out] = carry

    # Linear maps

    def weighted(self, op: WeightedOp) -> None:
        source = self.read(op.x)
        mapped = map_of(op, source.shape, self.params, self.lanes)
        fmt = self.net.formats[op.out]
        bias = self.params[op.bias] if op.bias is not None else None
        largest = 0 if bias is None else int(abs(bias).max())
        fmt = Format.holding(min(fmt.lo - largest, -1), fmt.hi + largest)
        sums = f"{op.out} sums"
        self.draft.buffers[sums] = Buffer(sums, mapped.words, fmt.bits, lives=True, sums=True)
        for number, part in enumerate(mapped.parts):
            name = self.listed(op, number, part)
            kernel = replace(part.kernel, buffer=sums)
            self.draft.items.append(Application(name, kernel, part.weights, op.out))
        result = replace(mapped.result, buffer=sums)
        if bias is None:
            self.values[op.out] = result
            return
        assert op.bias is not None
        row = self.read(op.bias)
        if isinstance(op, ops.Conv):
            row = replace(
                row, shape=(*row.shape, *[1] * (len(result.shape) - 1)), strides=(1, *[0] * (len(result.shape) - 1))
            )
        biased = Chain.of(result).two(Alu.ADD, row)
        assert biased is not None
        self.define(op.out, biased)

    def listed(self, op: WeightedOp, number: int, part: Part) -> str:
        """The list that holds the changes of the operand of one part, as that part needs them."""
        source = self.view(op.x)
        key = (op.x, part.start, part.step, part.place, part.column, self.scope)
        if key in self.lists:
            return self.lists[key]
        name = f"{op.out} changes" if not number else f"{op.out} changes {number}"
        self.lists[key] = name
        listing = Listing(name, part.place, part.column)
        whole = part.counts == source.shape and not any(part.start) and set(part.step) == {1}
        if whole and self.claimed(op.x, source, listing):
            return name
        strides = tuple(s * k for s, k in zip(source.strides, part.step, strict=True))
        offset = source.offset + sum(s * k for s, k in zip(source.strides, part.start, strict=True))
        piece = View(source.buffer, part.counts, strides, offset)
        view = self.buffer(f"{name} held", part.counts, lives=True, bits=self.draft.buffers[source.buffer].bits)
        copy = Pass(Chain.of(piece), view, name, listing=listing)
        producer = self.producers.get(op.x)
        if producer is None or op.x in self.state_names or producer not in self.draft.items:
            self.draft.items.append(copy)
        else:
            self.draft.items.insert(self.draft.items.index(producer) + 1, copy)
        return name

    @property
    def state_names(self) -> set[str]:
        return {s.name for s in self.net.states}

    def claimed(self, name: str, view: View, listing: Listing) -> bool:
        """Whether the pass that writes the value can list its changes itself."""
        if name in self.state_names:
            if self.scope[:2] != ("frame", "tick") or name in self.state_lists:
                return False
            self.state_lists[name] = listing
            first = self.producers.get(f"{name} first")
            if first is not None:
                first.listing = listing
            return True
        producer = self.producers.get(name)
        if producer is None or producer.listing is not None or producer.target != view:
            return False
        producer.listing = listing
        self.draft.buffers[view.buffer] = replace(self.draft.buffers[view.buffer], lives=True)
        return True

    # Latching

    def latch(self, pairs: Sequence[tuple[str, str]], *, state: bool) -> None:
        """Write all targets as if together: each after all others that read it, with a copy where that is a circle."""
        waiting: dict[str, Chain] = {}
        for target, value in pairs:
            shape = self.view(target).shape
            chain = self.values.get(value)
            if not isinstance(chain, Chain) or self.uses[value] > 1 or chain.result != shape:
                if isinstance(chain, Chain):
                    self.write(value, chain)
                chain = Chain.of(self.read(value).broadcast(shape))
            elif value in self.values:
                del self.values[value]
            waiting[target] = chain
        for target, chain in waiting.items():
            if any(v.buffer == target and v != self.view(target) for v in chain.views):
                waiting[target] = self.moved(target, chain)
        while waiting:
            free = [t for t in waiting if not any(self.reads(c, t) for o, c in waiting.items() if o != t)]
            if not free:
                target = next(iter(waiting))
                for other in [o for o, c in waiting.items() if o != target and self.reads(c, target)]:
                    waiting[other] = self.moved(other, waiting[other])
                continue
            for target in free:
                chain = waiting.pop(target)
                listing = self.state_lists.get(target) if state else None
                self.draft.items.append(Pass(chain, self.view(target), target, state=state, listing=listing))

    def moved(self, target: str, chain: Chain) -> Chain:
        """A copy of the value to come, read instead of it."""
        name = f"{target} next"
        if chain.damp is not None and chain.damp[0] is Old.D:
            plain = replace(chain, damp=None, old=None)
            view = self.buffer(name, chain.result, bits=64)
            self.draft.items.append(Pass(plain, view, name))
            return replace(Chain.of(view), damp=chain.damp, old=chain.old)
        view = self.buffer(name, chain.result, bits=self.draft.buffers[target].bits)
        self.draft.items.append(Pass(chain, view, name))
        return Chain.of(view)

    def reads(self, chain: Chain, target: str) -> bool:
        return any(v.buffer == target for v in chain.views)
