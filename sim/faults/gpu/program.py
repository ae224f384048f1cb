"""Kernels of one text, on a card or, for tests, as C in this process."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...process import run_process

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["THREADS", "Program"]

THREADS = 1024
"""Threads of a block, at most: a multiprocessor runs one, whose warps share what is in shared memory."""
_COMPILER = "gcc"
_FLAGS = ("-O1", "-x", "c", "-shared", "-fPIC", "-std=gnu11", "-fno-strict-aliasing", "-w")
_LIMIT_S = 600.0


class Program:
    """A text (`follow_source.py`) compiled for a device of PyTorch: `cuda`, or `cpu` for tests."""

    def __init__(self, text: str, device: str) -> None:
        self.text, self.device = text, device
        self.kernels: dict[str, Any] = {}

    def run(self, name: str, arguments: Sequence[Tensor | int], *, blocks: int, threads: int, shared: int) -> None:
        """Launch a kernel with bytes of `shared` memory: pointers of tensors, and numbers of 32 bits."""
        if self.device == "cpu":
            getattr(_loaded(self.text), name)(*(_c(a) for a in arguments))
            return
        if name not in self.kernels:
            self.kernels[name] = _kernel(self.text, name)
        kernel = self.kernels[name]
        kernel.set_shared_memory_config(shared)
        kernel((blocks, 1, 1), (threads, 1, 1), list(arguments), shared_mem=shared)


def _c(argument: Tensor | int) -> ctypes.c_void_p | ctypes.c_int32:
    return ctypes.c_int32(argument) if isinstance(argument, int) else ctypes.c_void_p(argument.data_ptr())


@lru_cache(maxsize=16)
def _kernel(text: str, name: str) -> Any:
    """Compiled by NVRTC, which PyTorch brings along."""
    import torch

    head = f"#define CARD\n#define THREADS {THREADS}\n"
    return torch.cuda._compile_kernel(head + text, name)


@lru_cache(maxsize=16)
def _loaded(text: str) -> ctypes.CDLL:
    """The same text as C; files are gone once it is loaded. Raises SimulatorError as `run_process`."""
    with tempfile.TemporaryDirectory(prefix="eqcompile-gpu-") as folder:
        source, library = Path(folder) / "net.c", Path(folder) / "net.so"
        source.write_text(text, encoding="utf-8")
        run_process([_COMPILER, *_FLAGS, "-o", str(library), str(source)], cwd=Path(folder), timeout_s=_LIMIT_S)
        return ctypes.CDLL(str(library))
