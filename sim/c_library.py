"""C as functions of this process."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .process import run_process

__all__ = ["COMPILER", "load_c"]

COMPILER = "gcc"
_FLAGS = ("-x", "c", "-shared", "-fPIC", "-std=gnu11", "-w")
_LIMIT_S = 600.0
"""For the compiler, which needs seconds."""


def load_c(text: str, flags: Sequence[str]) -> ctypes.CDLL:
    """Compile and load a text; its files are gone once it is loaded. Raises SimulatorError as `run_process`."""
    with tempfile.TemporaryDirectory(prefix="eqcompile-c-") as folder:
        source, library = Path(folder) / "net.c", Path(folder) / "net.so"
        source.write_text(text, encoding="utf-8")
        argv = [COMPILER, *_FLAGS, *flags, "-o", str(library), str(source)]
        run_process(argv, cwd=Path(folder), timeout_s=_LIMIT_S)
        return ctypes.CDLL(str(library))
