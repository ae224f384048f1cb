"""Canonical text of a net, and its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields

import numpy as np

from .ops import Op, Repeat
from .parts import Circuit, Format, Param
from .types import OpError, ValueType, infer

__all__ = ["digest", "param_digest", "render"]


def param_digest(param: Param) -> str:
    """SHA-256 of the parameter's dtype, shape and little-endian bytes in C order."""
    value = np.ascontiguousarray(param.value)
    little = value.astype(value.dtype.newbyteorder("<"), copy=False)
    content = hashlib.sha256(f"{value.dtype.name}{list(param.value.shape)}".encode())
    content.update(little.reshape(-1).data)
    return content.hexdigest()


def digest(net: Circuit, formats: Mapping[str, Format] | None) -> str:
    """SHA-256 of the canonical text without provenance, which holds every parameter's own digest."""
    return hashlib.sha256(render(net, formats, provenance=False).encode()).hexdigest()


def render(net: Circuit, formats: Mapping[str, Format] | None, *, provenance: bool = True) -> str:
    """Canonical text, of an EqNet where `formats` is None, else of an IntNet. With `provenance`, names and sources are
    shown; without, only what has meaning."""
    try:
        types = infer(net)
    except (OpError, KeyError):
        types = {}
    level = "eqnet" if formats is None else "intnet"
    formats = formats or {}

    def typed(name: str) -> str:
        kind = "boolean" if name in types and types[name].kind == "boolean" else ""
        width = kind or str(formats.get(name, ""))
        return f"{width}{_shape(types.get(name))}"

    head = f"{level} {{"
    if provenance:
        head = head.replace(" {", f' "{net.name}" family "{net.family}" {{')
    lines = [head]
    for i in net.inputs:
        rows = "" if i.rows is None else f" rows={i.rows}"
        code = "" if i.encoding is None else f" code={i.encoding.format} scale={i.encoding.scale!r}"
        lines.append(f"  input {i.name}: {i.kind}{list(i.shape)}{rows}{code}")
    for p in net.params:
        source = f" from {p.source!r}" if provenance else ""
        content = param_digest(p) if not provenance else param_digest(p)[:12]
        lines.append(f"  param {p.name}: {p.value.dtype.name}{list(p.value.shape)} sha256:{content}{source}")
    for s in net.states:
        frac = "" if s.frac is None else f" frac={s.frac}"
        lines.append(f"  state {s.name}: {formats.get(s.name, '')}{list(s.shape)}{frac} = {s.init or 0}")
    for block, ops in net.blocks:
        if ops or block == "step":
            lines.append(f"  {block} {{")
            lines += _ops(ops, 4, typed)
            if block == "step":
                lines += [f"    {s.name} <- {s.update}" for s in net.states]
            lines.append("  }")
    for o in net.outputs:
        scale = "" if o.scale is None else f" scale={o.scale!r}"
        lines.append(f"  output {o.name}: {o.kind} = {o.value}{scale}")
    shown = ("stop", "tolerance", "frames", "emit")
    defaults = {f.name: f.default for f in fields(net.schedule)}
    extra = "".join(f" {n}={getattr(net.schedule, n)}" for n in shown if getattr(net.schedule, n) != defaults[n])
    lines.append(f"  schedule steps={net.schedule.steps}{extra}")
    return "\n".join([*lines, "}"]) + "\n"


def _shape(value: ValueType | None) -> str:
    return "[?]" if value is None else str(list(value.shape))


def _ops(ops: Iterable[Op], indent: int, typed: Callable[[str], str]) -> list[str]:
    lines = []
    pad = " " * indent
    for op in ops:
        if isinstance(op, Repeat):
            lines.append(f"{pad}{op.out}: {typed(op.out)} = repeat {op.count} {op.carry} = {op.init} {{")
            lines += _ops(op.body, indent + 2, typed)
            lines += [f"{pad}  {op.carry} <- {op.result}", f"{pad}}}"]
            continue
        args = ((f.name, getattr(op, f.name)) for f in fields(op) if f.name != "out")
        shown = ", ".join(f"{n}={_arg(v)}" for n, v in args if v is not None)
        lines.append(f"{pad}{op.out}: {typed(op.out)} = {op.mnemonic}({shown})")
    return lines


def _arg(value: object) -> str:
    if isinstance(value, tuple):
        return str(list(value))
    return str(value) if isinstance(value, (str, bool)) else repr(value)
