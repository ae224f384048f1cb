"""A core in a closed loop: what it is given next depends on what it answered."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ....toolchain.diagnostics import Diagnostic, SimulatorError
from ....toolchain.ir import IntNet
from ....toolchain.process import end_group
from ...exchange import read_run, write_codes
from ..table import Fault, Place, Upset
from .engine import RtlSession, measured_of
from .rows import Row, write_faults

__all__ = ["ClosedLoop", "Loop"]

Array = NDArray[np.int64]
ROUND_S = 600.0
"""Seconds that one round may take."""


@dataclass(frozen=True)
class Loop:
    """One round: outputs `[samples, *shape]`, and clocks from the first code in to the last code out of each
    (simulated)."""

    outputs: Mapping[str, Array]
    latency: Array


class ClosedLoop:
    """The serial core, compiled once, as a program that waits for the next round.

    Takes the faults of the engine `rtl`, of states and weights alone. A context manager: leaving it ends the program.
    """

    def __init__(self, net: IntNet, core: Path) -> None:
        """`core`: the folder of the target `rtl`, compiled with saboteurs."""
        nothing = {i.name: np.zeros((1, *i.shape), np.int64) for i in net.inputs}
        self.session = RtlSession(net, nothing, near=0, core=core.resolve())
        self._folder = tempfile.TemporaryDirectory(prefix="eqcompile-loop-")
        self._files = {name: Path(self._folder.name) / f"{name}.npz" for name in ("input", "output", "faults")}
        self._errors = (Path(self._folder.name) / "stderr").open("w+b")
        argv = [sys.executable, "-I", "-B", "bench/native.py", "--built", "--serve", "--build", str(self.session.build)]
        argv += [part for name, path in self._files.items() for part in (f"--{name}", str(path))]
        # A group of its own, with whatever it starts: Ctrl-C ends this process, which ends the group.
        self._program = subprocess.Popen(
            argv,
            cwd=self.session.core,
            env={**os.environ, "TMPDIR": self._folder.name},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        self._end = weakref.finalize(self, end_group, self._program)
        self._stored = lru_cache(maxsize=4096)(self._stored_of)

    def __enter__(self) -> ClosedLoop:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the program."""
        self._end()
        self._program.communicate()
        self._errors.close()
        self._folder.cleanup()

    def run(self, inputs: Mapping[str, Array], faults: Sequence[Sequence[Upset]]) -> Loop:
        """Input codes `[samples, *shape]`, each disturbed by its own upsets. Raises UsageError for upsets that the core
        cannot be given, SimulatorError if the program dies."""
        rows = [self._row(sample, tuple(upsets)) for sample, upsets in enumerate(faults)]
        write_codes(self._files["input"], inputs)
        write_faults(self._files["faults"], rows, np.arange(len(rows)), 0)
        self._ask()
        run = read_run(self._files["output"], self.session.net, self.session.core)
        return Loop(run.outputs, np.array(measured_of(run, self.session.core).latency, np.int64))

    def _row(self, sample: int, upsets: tuple[Upset, ...]) -> Row:
        weights = tuple(u for u in upsets if u.place is Place.PARAM)
        others = tuple(u for u in upsets if u.place is not Place.PARAM)
        (row,) = self.session.translator.rows([Fault(0, "loop", 0, -1, others)])
        stored = self._stored(weights)
        return replace(row, sample=sample, loads=stored.loads, flips=stored.flips)

    def _stored_of(self, weights: tuple[Upset, ...]) -> Row:
        (row,) = self.session.translator.rows([Fault(0, "loop", 0, -1, weights)])
        return row

    def _ask(self) -> None:
        program = self._program
        assert program.stdin is not None
        assert program.stdout is not None
        try:
            program.stdin.write(b"\n")
            program.stdin.flush()
            if not select.select([program.stdout], [], [], ROUND_S)[0]:
                self._end()
                what = f"the core gave no answer in {ROUND_S:g} s"
                raise SimulatorError(Diagnostic("simulator-timeout", what, str(self.session.core)))
            answer = program.stdout.readline()
        except OSError:
            answer = b""
        if answer != b"done\n":
            self._errors.seek(0)
            last = self._errors.read().decode("utf-8", errors="replace").strip()[-800:]
            what = f"the core ended with status {program.wait()}: {last or answer!r}"
            raise SimulatorError(Diagnostic("simulator-died", what, str(self.session.core)))
