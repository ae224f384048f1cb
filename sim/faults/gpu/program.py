"""Kernels of one text, on a card or, for tests, as C in this process."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ...c_library import load_c

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["THREADS", "Program"]

THREADS = 1024
"""Threads of a block, at most: a multiprocessor runs one, whose warps share what is in shared memory."""


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
    """The same text as C."""
    return load_c(text, ("-O1", "-fno-strict-aliasing"))
