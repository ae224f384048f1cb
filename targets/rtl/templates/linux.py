"""Drive the core from Linux: its registers through a memory map, samples through a DMA engine.

    core = Core.open("/dev/uio0")                       # or Core.pynq(overlay.core_0)
    core.configure(steps=20, tolerance=0)
    results, ticks = core.run(overlay.axi_dma_0, samples)      # PYNQ: one AXI DMA with both channels

Needs NumPy, and PYNQ for `run` on its DMA engine. `samples`: codes `[batch, count]` of every input of a sample in the
order of core.json, results `[batch, count]` likewise; `ticks` `[batch]`. One sample is under way at a time. Where a
sample is a sequence, samples are `[batch, frames, count]`, and results too if there is one after every frame.
"""

from __future__ import annotations

import json
import mmap
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Core", "CoreError", "Words"]

FOLDER = Path(__file__).resolve().parents[1]
SPAN = 0x1000
BUSY = 1
HELD_AND_REFUSED = 0x703
"""Bits of IMAGE: an image is held, one is being loaded, and why the last one was refused."""
REFUSALS = (
    "it ends too early",
    "it is none",
    "its encoding is of another version",
    "it is for another core",
    "a memory has no room for it",
    "its words are damaged",
)
Codes = NDArray[np.int64]


class CoreError(RuntimeError):
    """The hardware is not the core of this folder, or does not answer."""


class Words(Protocol):
    """Registers by byte address: PYNQ's `MMIO` and drivers have these, so does `Mapped`."""

    def read(self, offset: int) -> int: ...

    def write(self, offset: int, value: int) -> None: ...


class Mapped:
    """Registers of a device file, or of any buffer that can be written."""

    def __init__(self, buffer: Any) -> None:
        self._words = memoryview(buffer).cast("B").cast("I")

    def read(self, offset: int) -> int:
        return self._words[offset // 4]

    def write(self, offset: int, value: int) -> None:
        self._words[offset // 4] = value


class Core:
    """A core behind `words`; `description` is what core.json holds. Raises CoreError unless its ID answers."""

    def __init__(self, words: Words, description: dict[str, Any], *, timeout_s: float = 10.0) -> None:
        self.words, self.description, self.timeout_s = words, description, timeout_s
        self.registers: dict[str, int] = description["registers"]
        identity, expected = self.read("ID"), description["id"]
        if identity != expected:
            raise CoreError(f"register ID is 0x{identity:08X}, must be 0x{expected:08X}: is this the core's address?")

    @classmethod
    def open(cls, device: str | Path = "/dev/uio0", folder: Path = FOLDER) -> Core:
        """The core of a UIO device, or of any file that can be mapped. Raises OSError if it cannot."""
        handle = os.open(device, os.O_RDWR | getattr(os, "O_SYNC", 0))
        try:
            return cls(Mapped(mmap.mmap(handle, SPAN)), read_description(folder))
        finally:
            os.close(handle)

    @classmethod
    def pynq(cls, words: Words, folder: Path = FOLDER) -> Core:
        """The core of a PYNQ overlay: its entry there reads and writes by offset."""
        return cls(words, read_description(folder))

    def read(self, register: str) -> int:
        return int(self.words.read(self.registers[register]))

    def write(self, register: str, value: int) -> None:
        self.words.write(self.registers[register], int(value))

    def configure(self, *, steps: int | None = None, tolerance: int | None = None) -> None:
        """Ticks at most, and by how much codes may still move at the end; None leaves what is there."""
        for name, value in (("STEPS", steps), ("TOLERANCE", tolerance)):
            if value is not None:
                self.write(name, value)

    def load(self, words: Sequence[int] | None = None) -> None:
        """Load weight words or the words of an image, by default those of weights.npz. Raises CoreError for a core that
        loads none, and for an image that it refuses."""
        if "LOAD_DATA" not in self.registers:
            raise CoreError("the weights are constants of this core")
        if words is None:
            with np.load(FOLDER / "weights.npz") as file:
                words = file["words"].tolist()
        self.write("LOAD_ADDRESS", 0)
        for word in words:
            self.write("LOAD_DATA", word)
        if "IMAGE" in self.registers and (state := self.read("IMAGE")) & HELD_AND_REFUSED != 1:
            raise CoreError(f"the core refuses the image: {REFUSALS[state >> 8 & 7]}")

    def run(
        self, dma: Any, samples: Codes, *, allocate: Callable[..., Any] | None = None
    ) -> tuple[Codes, NDArray[np.int64]]:
        """Send samples through a DMA engine and read the results.

        Args:
            dma: with `sendchannel` and `recvchannel`, each with `transfer(buffer)` and `wait()`, as PYNQ's.
            samples: codes `[batch, (frames,) count]`.
            allocate: of buffers that the engine reaches, by default PYNQ's.

        Returns:
            Codes `[batch, (frames,) count]` and ticks made `[batch]`, both int64. Raises CoreError if the core stays
            busy.
        """
        if allocate is None:
            from pynq import allocate as pynq_allocate  # type: ignore[import-not-found]

            allocate = pynq_allocate
        x, y, sequence = self.description["x"], self.description["y"], self.description.get("sequence")
        rows = np.asarray(samples, np.int64)
        if rows.ndim != 2 + bool(sequence) or rows.shape[-1] != x["count"]:
            wanted = f"[batch, {'frames, ' * bool(sequence)}{x['count']}]"
            raise ValueError(f"samples are {list(rows.shape)}, must be {wanted}")
        if sequence:
            self.write("FRAMES", rows.shape[1])
        rows = rows.reshape(len(rows), -1, x["count"])
        last = rows.shape[1] - 1
        request = allocate(shape=(frame_bytes(x),), dtype=np.uint8)
        answer = allocate(shape=(frame_bytes(y),), dtype=np.uint8)
        results = np.empty((len(rows), len(rows[0]) if sequence == "every" else 1, y["count"]), np.int64)
        ticks = np.empty(len(rows), np.int64)
        for k, row in enumerate(rows):
            for n, codes in enumerate(row):
                answered = sequence == "every" or n == last
                request[:] = pack(codes, x)
                if answered:
                    dma.recvchannel.transfer(answer)
                dma.sendchannel.transfer(request)
                dma.sendchannel.wait()
                if answered:
                    dma.recvchannel.wait()
                    results[k, n if sequence == "every" else 0] = unpack(np.asarray(answer), y)
            self._wait()
            ticks[k] = self.read("MADE")
        return results if sequence == "every" else results[:, 0], ticks

    def _wait(self) -> None:
        end = time.monotonic() + self.timeout_s
        while self.read("STATUS") & BUSY:
            if time.monotonic() > end:
                raise CoreError(f"the core is still busy after {self.timeout_s:g} s")


def read_description(folder: Path) -> dict[str, Any]:
    """What core.json holds."""
    description: dict[str, Any] = json.loads((folder / "core.json").read_text(encoding="utf-8"))
    return description


def frame_bytes(port: dict[str, Any]) -> int:
    """Bytes of the beats of one frame."""
    beats = -(-port["count"] // port["beat"])
    return int(beats * port["beat"] * port["bytes"])


def pack(codes: Codes, port: dict[str, Any]) -> NDArray[np.uint8]:
    """The bytes of a frame of codes `[count]`: each in `bytes` bytes, the lowest first; zeros fill the last beat."""
    frame = np.zeros(frame_bytes(port) // port["bytes"], np.int64)
    frame[: len(codes)] = codes
    return np.ascontiguousarray(frame.astype("<i8").view(np.uint8).reshape(-1, 8)[:, : port["bytes"]]).reshape(-1)


def unpack(frame: NDArray[np.uint8], port: dict[str, Any]) -> Codes:
    """The codes `[count]`, int64, of the bytes of a frame."""
    cells = frame.reshape(-1, port["bytes"])[: port["count"]]
    wide = np.zeros((len(cells), 8), np.uint8)
    wide[:, : port["bytes"]] = cells
    codes: Codes = wide.reshape(-1).view("<i8").astype(np.int64)
    if port["signed"]:
        shift = 64 - 8 * port["bytes"]
        codes = (codes << shift) >> shift
    return codes
