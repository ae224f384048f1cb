"""The relaxation of a net as one C++ function for high-level synthesis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...toolchain.ir import IntNet, ops
from ...toolchain.ir.ops import Op
from ...toolchain.passes import reads
from ..clike import contiguous
from .maps import Stored, Turns
from .scalar import expression
from .scope import Index, Lines, Port, Scope
from .templates import fill
from .values import View, ctype
from .wholes import write_whole

__all__ = ["Body"]

PAD = "    "
DEEP = PAD * 2


class Body:
    """Writes the function `eq_relax` of a verified net. `reuse`: see `maps.turns`.

    `text` is the C++ of it; what it needs from outside are `eq_ops.h` and the arrays of `stored`.
    """

    def __init__(self, net: IntNet, reuse: int) -> None:
        self.net, self.scope = net, Scope(net, reuse)
        drive = self._drive()
        step = self._step()
        readout = self._readout()
        scope = self.scope
        self.text = fill(
            "relax.h.tmpl",
            configs="\n".join(scope.configs),
            arguments=",\n              ".join(
                [f"const {ctype(p.format)} {p.name}[{p.size}]" for p in scope.inputs]
                + [f"{ctype(p.format)} {p.name}[{p.size}]" for p in (*scope.outputs, scope.ticks)]
            ),
            drive="\n".join(drive),
            steps=net.schedule.steps,
            units=sum(self.scope.views[s.name].size for s in net.states),
            step="\n".join(step),
            trace="\n".join(self._trace()),
            readout="\n".join(readout),
            ticks_type=ctype(scope.ticks.format),
        )

    @property
    def inputs(self) -> Sequence[Port]:
        return self.scope.inputs

    @property
    def outputs(self) -> Sequence[Port]:
        """The outputs of the net, then the number of ticks made."""
        return [*self.scope.outputs, self.scope.ticks]

    @property
    def stored(self) -> Sequence[Stored]:
        return self.scope.stored

    @property
    def maps(self) -> dict[str, Turns]:
        return self.scope.maps

    # The three parts

    def _drive(self) -> Lines:
        net, scope = self.net, self.scope
        inits = {s.init for s in net.states if s.init is not None}
        later = reads(net.step) | reads(net.readout) | {s.update for s in net.states} | {o.value for o in net.outputs}
        lines: Lines = []
        for s in net.states:
            scope.views[s.name], declared = scope.array(s.name, s.shape, scope.format(s.name), PAD)
            lines += declared
        lines += self._block(net.drive, inits | later, PAD)
        for s in net.states:
            state = scope.views[s.name]
            zero = View("0", (), None, state.format)
            lines += scope.copy(zero if s.init is None else scope.value(s.init), state, PAD)
        return lines

    def _step(self) -> Lines:
        net, scope = self.net, self.scope
        lines = self._block(net.step, {s.update for s in net.states}, DEEP)
        states = {scope.views[s.name].ref for s in net.states}
        latched = []
        for s in net.states:
            new = scope.value(s.update)
            if new.ref in states:
                # Another state, which latches at the same time.
                whole, declared = scope.array(f"{s.name}_next", s.shape, new.format, DEEP)
                lines += [*declared, *scope.copy(new, whole, DEEP)]
                new = whole
            latched.append((scope.views[s.name], new.aligned(s.shape)))
        for state, new in latched:
            lines += self._latch(state, new)
        return lines

    def _latch(self, state: View, new: View) -> Lines:
        tolerance, of = self.net.schedule.tolerance, ctype(state.format)

        def body(index: Index) -> Lines:
            test = "now != old" if tolerance == 0 else f"now - old > {tolerance} || old - now > {tolerance}"
            return [
                f"const {of} now = {new.at(index)};",
                f"const {of} old = {state.at(index)};",
                f"moved |= {test};",
                f"{state.at(index)} = now;",
            ]

        return self.scope.loop(state.shape, body, DEEP, flat=new.even)

    def _trace(self) -> Lines:
        lines = []
        for s in self.net.states:
            state = self.scope.views[s.name]
            lines.append(f"{DEEP}    for (unsigned i = 0; i < {state.size}; i++)")
            lines.append(f"{DEEP}        *codes++ = {state.ref}[i].to_int64();")
        return lines

    def _readout(self) -> Lines:
        net, scope = self.net, self.scope
        lines = self._block(net.readout, {o.value for o in net.outputs}, PAD)
        for o, port in zip(net.outputs, scope.outputs, strict=True):
            to = View(port.name, port.shape, contiguous(port.shape), port.format)
            lines += scope.copy(scope.value(o.value), to, PAD)
        return lines

    # A block

    def _block(self, block: Sequence[Op], after: set[str], pad: str) -> Lines:
        """Lines of a block, elementwise operations of one shape in one loop; `after`: values that are read after it."""
        scope, lines = self.scope, []
        waiting: list[ops.ElementwiseOp] = []

        def flush(position: int) -> None:
            if waiting:
                lines.extend(self._fused(waiting, after | reads(block[position:]), pad))
                waiting.clear()

        for position, op in enumerate(block):
            alike = waiting and scope.shapes[waiting[0].out] == scope.shapes[op.out]
            if not (isinstance(op, ops.ElementwiseOp) and alike):
                flush(position)
            if isinstance(op, ops.ElementwiseOp):
                waiting.append(op)
            elif isinstance(op, ops.Repeat):
                lines += self._repeat(op, pad)
            else:
                lines += [f"{pad}// {op.mnemonic} {_comment(op.out)}", *write_whole(scope, op, pad)]
        flush(len(block))
        return lines

    def _fused(self, group: Sequence[ops.ElementwiseOp], read_later: Iterable[str], pad: str) -> Lines:
        scope, shape = self.scope, self.scope.shapes[group[0].out]
        inside: set[str] = set()
        operands: list[list[str | View]] = []
        for op in group:
            tables = 1 if isinstance(op, (ops.Lookup, ops.Interpolate)) else len(op.reads)
            found: list[str | View] = []
            for k, name in enumerate(op.reads):
                view = name if name in inside else scope.value(name) if k < tables else scope.table(name)
                found.append(view if isinstance(view, str) or k >= tables else view.aligned(shape))
            operands.append(found)
            inside.add(op.out)
        even = all(
            v.even
            for op, found in zip(group, operands, strict=True)
            for k, v in enumerate(found)
            if isinstance(v, View) and not _is_table(op, k)
        )
        stored, lines = {}, []
        later = set(read_later)
        for op in group:
            if op.out in later:
                stored[op.out], declared = scope.array(op.out, shape, scope.format(op.out), pad)
                lines += declared

        def body(index: Index) -> Lines:
            local: dict[str, str] = {}
            inner = []
            for op, found in zip(group, operands, strict=True):
                texts = [
                    local[v] if isinstance(v, str) else v.ref if _is_table(op, k) else v.at(index)
                    for k, v in enumerate(found)
                ]
                formats = [scope.format(name) for name in op.reads]
                result = scope.format(op.out)
                text = expression(op, texts, formats, result, lambda p: len(scope.params[p]))
                local[op.out] = scope.names.free("k", op.out)
                inner.append(f"const {ctype(result)} {local[op.out]} = {text};")
                if op.out in stored:
                    inner.append(f"{stored[op.out].at(index)} = {local[op.out]};")
            return inner

        lines += scope.loop(shape, body, pad, flat=even)
        scope.views |= stored
        return lines

    def _repeat(self, op: ops.Repeat, pad: str) -> Lines:
        scope = self.scope
        carry, lines = scope.array(op.carry, scope.shapes[op.out], scope.format(op.carry), pad)
        lines += scope.copy(scope.value(op.init), carry, pad)
        scope.views[op.carry] = scope.views[op.out] = carry
        counter = scope.names.free("r", op.out)
        lines.append(f"{pad}for (unsigned {counter} = 0; {counter} < {op.count}; {counter}++) {{")
        lines += self._block(op.body, {op.result}, pad + PAD)
        result = scope.value(op.result)
        if result.ref == carry.ref and not result.plain:
            whole, declared = scope.array(f"{op.carry}_next", carry.shape, carry.format, pad + PAD)
            lines += [*declared, *scope.copy(result, whole, pad + PAD)]
            result = whole
        return [*lines, *scope.copy(result, carry, pad + PAD), f"{pad}}}"]


def _is_table(op: Op, position: int) -> bool:
    return isinstance(op, (ops.Lookup, ops.Interpolate)) and position > 0


def _comment(name: str) -> str:
    return name if name.isascii() else "".join(c if c.isascii() else "?" for c in name)
