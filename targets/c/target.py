"""Target `c`: freestanding C99 for anything from a microcontroller to a server."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.interfaces import Emission, Plan, Progress, Refusals, Target, Vectors, quiet
from eqcompile.toolchain.options import option

from ...toolchain.artifact import CoreDescription
from ...toolchain.diagnostics import Diagnostic
from ...toolchain.ir import EqNet, Input, IntNet, check, ops
from ...toolchain.passes import MAX_WORD, Analysis
from ...toolchain.typed_json import JSON, JsonObject
from .layout import narrowest
from .matrix import Pack
from .program import Kernel, Program
from .source import Source, source_of
from .templates import fill
from .vectors import bench_inputs, vector_files

__all__ = ["CTarget"]

FILES = ("main.c", "io.h", "host.c", "cortex_m.c", "cortex_m.ld", "Makefile", "README.md")


@dataclass(frozen=True, kw_only=True)
class CTarget(Target):
    """Takes every valid IntNet whose partial sums fit a 64-bit word. Raises UsageError for a prefix that is no name."""

    name: ClassVar[str] = "c"
    summary: ClassVar[str] = "freestanding C99: one header, one source, no heap, no library"
    install: ClassVar[str] = "apt-get install gcc make gcc-arm-none-eabi qemu-system-arm"
    conformance: ClassVar[tuple[str, ...]] = ("*",)

    kernel: Kernel = option(
        "event", help="add all weights in every tick, or those of the operands that changed: the same bits"
    )
    pack: Pack = option(
        "auto",
        help="ternary weights: four or five in a byte, or a byte each (int8, which also unpacks int2 to int6);"
        " auto: 2bit, or lists of the nonzero weights where they are smaller",
    )
    prefix: str = option(
        "eq", metavar="NAME", pattern="[a-z][a-z0-9_]*", help="of the two files and of every C name, in small letters"
    )

    def missing(self) -> Sequence[str]:
        return [tool for tool in ("gcc", "make") if shutil.which(tool) is None]

    def plan(self, net: IntNet, source: EqNet | None = None) -> CPlan | Refusals:
        faults = [*check(net)] or [*_sums(net)]
        return Refusals(tuple(faults)) if faults else CPlan(net, self)

    def _values(self, net: IntNet, source: Source) -> dict[str, object]:
        shapes = Analysis.of(net).shapes
        framed = net.schedule.frames
        reading: list[str] = []
        for i in net.inputs:
            given, (lo, hi) = source.names[i.name], i.limits
            kind = narrowest(Program(net, self.kernel, self.pack).interval(i.name))
            reading += _each(math.prod(i.shape), f"in.{given}[i] = ({kind})get({lo}, {hi});")
        return {
            "prefix": self.prefix,
            "guard": self.prefix.upper(),
            "title": net.name if net.name.isascii() and "*/" not in net.name else json.dumps(net.name),
            "get_input": "\n".join(reading),
            "put_state": "\n".join(
                line for s in net.states for line in _put("state", s.name, f"state.{source.names[s.name]}", s.shape)
            )
            or "    (void)0;",
            "put_output": "\n".join(
                line
                for o in net.outputs
                for line in _put("output", o.name, f"out.{source.names[f'output {o.name}']}", shapes[o.value])
            ),
            "input_order": ", ".join(f"`{i.name}`" for i in net.inputs),
            "digest": net.digest,
            "ram": source.ram,
            "io": source.io,
            "flash": source.flash,
            "kernel": self.kernel,
            "kept_too": ", accumulators" if self.kernel == "event" else "",
            "matrices": "\n".join(f"| `{n}` | {kind} | {size} |" for n, (kind, size) in source.matrices.items()),
            "frames_count": "at least 1" if framed else "1",
            "frames_note": f"Call `{self.prefix}_clear` before the first frame of a sample. " if framed else "",
            "input_rows": "\n".join(_input_row(i) for i in net.inputs),
            "output_rows": "\n".join(
                f"- `{o.name}` {list(shapes[o.value])}: "
                + ("logits, the label is the largest, ties to the lowest index" if o.kind == "classes" else "values")
                + f"; one code is {o.scale!r}"
                for o in net.outputs
            ),
        }


@dataclass(frozen=True)
class CPlan(Plan):
    """Header, source and what runs them here and on a Cortex-M."""

    target: CTarget

    @property
    def core(self) -> CoreDescription:
        if self.target.kernel == "dense":
            return CoreDescription()
        maps = tuple(op.out for op in self.net.all_ops() if isinstance(op, (ops.Linear, ops.Stencil, ops.Conv)))
        return CoreDescription(evaluation="event", accumulators=maps)

    @property
    def bench_inputs(self) -> Mapping[str, NDArray[np.int64]]:
        return bench_inputs(self.net)

    def emit(self, folder: Path, vectors: Vectors | None, progress: Progress = quiet) -> Emission:
        assert vectors is not None
        net, target = self.net, self.target
        source = source_of(net, prefix=target.prefix, kernel=target.kernel, pack=target.pack)
        (folder / f"{target.prefix}.h").write_text(source.header, encoding="utf-8")
        with (folder / f"{target.prefix}.c").open("w", encoding="utf-8") as file:
            file.writelines(source.code)
        values = target._values(net, source)
        for name in FILES:
            (folder / name).write_text(fill(f"{name}.tmpl", **values), encoding="utf-8")
        (folder / "vectors").mkdir()
        for name, text in zip(("in.txt", "out.txt"), vector_files(net, vectors), strict=True):
            (folder / "vectors" / name).write_text(text, encoding="utf-8")
        line = (
            f"{source.ram} bytes of RAM and {source.io} of inputs and outputs, beside the stack; {source.flash} of "
            "weights and tables (computed, checked by the compiler; each simulator and `make stack` measure the stack)"
        )
        matrices: dict[str, JSON] = {
            name: {"storage": kind, "bytes": size} for name, (kind, size) in source.matrices.items()
        }
        bytes_: JsonObject = {"ram_bytes": source.ram, "io_bytes": source.io, "flash_bytes": source.flash}
        return Emission({**bytes_, "matrices": matrices}, (line,))


def _each(count: int, line: str) -> list[str]:
    return [f"    for (size_t i = 0; i < {count}; i++) {{", f"        {line}", "    }"]


def _put(kind: str, name: str, array: str, shape: tuple[int, ...]) -> list[str]:
    return [f'    put("{kind} {name}");', *_each(math.prod(shape), f"put_code({array}[i]);"), "    io_put('\\n');"]


def _input_row(i: Input) -> str:
    lo, hi = i.limits
    if i.encoding is None:
        return f"- `{i.name}` {list(i.shape)}: indices {lo} to {hi}"
    encoding = f"clip(rint(x / {i.encoding.scale!r}), {lo}, {hi})"
    return f"- `{i.name}` {list(i.shape)}: codes {lo} to {hi}, of a real value x `{encoding}`"


def _sums(net: IntNet) -> Iterator[Diagnostic]:
    """Partial sums that the verifier does not bound: it proves the whole sum."""
    program, ranges = Program(net, "event", "auto"), Analysis.of(net).ranges
    for op in net.all_ops():
        match op:
            case ops.Linear() | ops.Stencil() | ops.Conv():
                bounds = program.accumulator(op)
                reach = max(found.magnitude for found in bounds)
            case ops.MatMul(a=a, b=b):
                reach = ranges[a].magnitude * ranges[b].magnitude * program.shapes[a][-1]
            case ops.Reduce(x=x):
                reach = ranges[x].magnitude * math.prod(program.shapes[x])
            case _:
                continue
        if reach > MAX_WORD:
            yield Diagnostic(
                "c-width",
                f"{op.mnemonic} {op.out} can reach {reach} on the way, the kernel holds {MAX_WORD}",
                op.out,
                "choose narrower weights or states",
            )
