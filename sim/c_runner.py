"""Simulators `c-host` and `c-cortex-m`: build the folder of the target `c` and run it, here or on an emulated core.

Both tell what the compiler says of the stack: `details.stack_bytes` is the sum of the frames of all functions, an upper
bound of every chain of calls, for none calls itself.
"""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.interfaces import Progress, Run, Simulator, quiet
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.passes import Analysis
from eqcompile.toolchain.typed_json import JSON, JsonObject

from .exchange import demand, unreadable
from .process import run_process
from .script_runner import Watch

__all__ = ["CortexMSimulator", "HostSimulator"]

HOST = {"gcc": "apt-get install gcc", "make": "apt-get install make"}
CORTEX_M = {
    "make": "apt-get install make",
    "arm-none-eabi-gcc": "apt-get install gcc-arm-none-eabi",
    "qemu-system-arm": "apt-get install qemu-system-arm",
}


BOARD_BYTES = 4 << 20
"""Of flash, and of RAM, on the emulated board, as `cortex_m.ld` has them."""
CODE_BYTES = 256 << 10
"""Of flash left to code, some times what the code of large nets takes."""
STACK_BYTES = 64 << 10
"""Of RAM left to the stack and the buffers of the two files."""


def _input(names: Sequence[str], inputs: Mapping[str, NDArray[np.int64]], *, framed: bool, trace: bool) -> str:
    """The input file of `main.c`: samples, frames, whether to trace, then the codes of each frame in a line."""
    samples, frames = inputs[names[0]].shape[0], inputs[names[0]].shape[1] if framed else 1
    rows = np.concatenate([np.reshape(inputs[name], (samples * frames, -1)) for name in names], axis=1)
    lines = (" ".join(map(str, row)) for row in rows.tolist())
    return "\n".join([f"{samples} {frames} {int(trace)}", *lines, ""])


def _watch(results: Path, samples: int, tell: Progress) -> Watch:
    """Tells how many samples the program has written to `results`; until that file is there, it is being compiled."""
    done, read = 0, 0

    def watch() -> None:
        nonlocal done, read
        if not results.exists():
            tell(0, 0)
            return
        with results.open("rb") as file:
            file.seek(read)
            # A line that is not whole yet is read the next time.
            whole, end, _ = file.read().rpartition(b"\n")
        done += sum(line.startswith(b"steps ") for line in whole.split(b"\n"))
        read += len(whole) + len(end)
        tell(done, samples)

    return watch


class _Built(Simulator):
    """Abstract: builds in a temporary folder, for an artifact is not written to by running it."""

    target: ClassVar[str] = "c"
    programs: ClassVar[Mapping[str, str]]
    optimize: ClassVar[str] = "OPTIMIZE=-O2 -fstack-usage"
    core: ClassVar[str]
    """What the program runs on, for people."""
    suffix: ClassVar[str] = ".su"
    """Of the file in which the compiler tells the frames of the net's functions."""

    @abstractmethod
    def goals(self, build: Path) -> Sequence[Sequence[str]]:
        """Commands that build the program and run it on in.txt in the folder `build`, to out.txt there."""

    def run(
        self,
        artifact: Artifact,
        inputs: Mapping[str, NDArray[np.int64]],
        *,
        trace: bool,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> Run:
        demand(self.name, packages={}, programs=self.programs)
        folder, schedule = artifact.folder, artifact.net.schedule
        framed = schedule.frames
        with tempfile.TemporaryDirectory(prefix="eqcompile-c-") as name:
            build = Path(name)
            given = _input([i.name for i in artifact.net.inputs], inputs, framed=framed, trace=trace)
            (build / "in.txt").write_text(given, encoding="utf-8")
            samples = len(next(iter(inputs.values())))
            watch = _watch(build / "out.txt", samples, progress or quiet)
            watch()
            for argv in self.goals(build):
                run_process(argv, cwd=folder, timeout_s=timeout_s, watch=watch)
            with unreadable(folder):
                lines = (build / "out.txt").read_text(encoding="utf-8").splitlines()
                frames = next(iter(inputs.values())).shape[1] if framed else 1
                run = _read(iter(lines), artifact.net, samples, frames, trace=trace)
                return replace(run, details=self.memory(artifact, build))

    def memory(self, artifact: Artifact, build: Path) -> JsonObject:
        """Bytes of stack, measured by the compiler, and of RAM with it."""
        report = build / f"{artifact.manifest.options['prefix']}{self.suffix}"
        frames = [line.split("\t") for line in report.read_text(encoding="utf-8").splitlines()]
        stack = sum(int(size) for _, size, _ in frames)
        ram, io = (artifact.manifest.details.get(name) for name in ("ram_bytes", "io_bytes"))
        details: dict[str, JSON] = {"stack_bytes": stack}
        if isinstance(ram, int) and isinstance(io, int):
            details["ram_bytes"] = ram + io + stack
            parts = f"{ram} of state, {io} of inputs and outputs, {stack} of stack"
            details["summary"] = [
                f"{ram + io + stack} bytes of RAM on {self.core}: {parts} (measured: gcc -fstack-usage)"
            ]
        return details


class HostSimulator(_Built):
    """The C compiler of this machine."""

    name: ClassVar[str] = "c-host"
    core: ClassVar[str] = "this machine"
    programs: ClassVar[Mapping[str, str]] = HOST

    def goals(self, build: Path) -> Sequence[Sequence[str]]:
        make = ["make", "--silent", "CC=gcc", self.optimize, f"BUILD={build}", "host"]
        return (make, [str(build / "host"), str(build / "in.txt"), str(build / "out.txt")])


class CortexMSimulator(_Built):
    """A Cortex-M3 in qemu: the instructions of the real core, not its timing. Its board has 4 MiB each of flash and
    RAM."""

    name: ClassVar[str] = "c-cortex-m"
    capacity: ClassVar[str] = (
        f"{BOARD_BYTES - CODE_BYTES} bytes of weights and tables, "
        f"{BOARD_BYTES - STACK_BYTES} bytes of state, inputs and outputs"
    )
    core: ClassVar[str] = "a Cortex-M3"
    suffix: ClassVar[str] = ".arm.su"
    suite: ClassVar[Literal["all", "small", "few"]] = "few"
    programs: ClassVar[Mapping[str, str]] = CORTEX_M

    def goals(self, build: Path) -> Sequence[Sequence[str]]:
        return (["make", "--silent", self.optimize, f"BUILD={build}", "run-qemu"],)

    def shortages(self, artifact: Artifact) -> Sequence[Diagnostic]:
        details = artifact.manifest.details
        lacking = []
        for memory, names, rest, what in (
            ("flash", ("flash_bytes",), CODE_BYTES, "weights and tables"),
            ("RAM", ("ram_bytes", "io_bytes"), STACK_BYTES, "state, inputs and outputs"),
        ):
            sizes = [details.get(name) for name in names]
            needed = sum(size for size in sizes if isinstance(size, int))
            if needed > BOARD_BYTES - rest:
                lacking.append(
                    Diagnostic(
                        "simulator-capacity",
                        f"{needed} bytes of {what}, the emulated Cortex-M3 has {BOARD_BYTES - rest} bytes of {memory} "
                        f"beside the {rest} left to {'code' if memory == 'flash' else 'stack and buffers'}",
                        self.name,
                        f"--simulator c-host, or fewer {'weights or weight bits' if memory == 'flash' else 'units'}",
                    )
                )
        return lacking


def _read(lines: Iterator[str], net: IntNet, batch: int, frames: int, *, trace: bool) -> Run:
    """Results of `main.c`; ValueError or StopIteration if the lines are not those."""
    ticks, every = net.schedule.steps, net.schedule.emit == "every"
    shapes = {s.name: s.shape for s in net.states}
    states = {n: np.zeros((ticks * frames, batch, *shape), np.int64) for n, shape in shapes.items() if trace}
    outputs: dict[str, list[NDArray[np.int64]]] = {o.name: [] for o in net.outputs}
    steps = np.zeros(batch, np.int64)
    for sample in range(batch):
        for frame in range(frames):
            for tick in range(frame * ticks, (frame + 1) * ticks):
                for name, rows in states.items():
                    rows[tick, sample] = _codes(next(lines), f"state {name}").reshape(shapes[name])
            if every or frame == frames - 1:
                for name, found in outputs.items():
                    found.append(_codes(next(lines), f"output {name}"))
        steps[sample] = int(_codes(next(lines), "steps")[0])
    return Run(states=states, outputs=_shaped(outputs, net, batch), steps=steps)


def _shaped(rows: Mapping[str, list[NDArray[np.int64]]], net: IntNet, batch: int) -> dict[str, NDArray[np.int64]]:
    shapes = Analysis.of(net).shapes
    lead = (batch, -1) if net.schedule.emit == "every" else (batch,)
    return {o.name: np.stack(rows[o.name]).reshape(*lead, *shapes[o.value]) for o in net.outputs}


def _codes(line: str, head: str) -> NDArray[np.int64]:
    """The codes of a line that starts with `head`."""
    if not line.startswith(f"{head} "):
        raise ValueError(f"expected '{head} ...', got {line[:60]!r}")
    return np.array(line.removeprefix(f"{head} ").split(), np.int64)
