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
import zlib
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

    def place(self, buffer: Any, address: int, content: bytes | None = None) -> None:
        """Put weights into a buffer of memory that the core reads, which begins at `address`, and tell the core; by
        default weights.bin. Raises CoreError: the core holds its weights itself, or an image for other ones."""
        if "WEIGHTS_BASE" not in self.registers:
            raise CoreError("the core holds its weights itself")
        held = (FOLDER / self.description["memory"]["file"]).read_bytes() if content is None else content
        if (crc := self.read("WEIGHTS_CRC")) != zlib.crc32(held):
            raise CoreError(
                f"the image is for weights with the CRC-32 0x{crc:08X}, these have 0x{zlib.crc32(held):08X}"
            )
        memoryview(buffer).cast("B")[: len(held)] = held
        self.write("WEIGHTS_BASE", address)

    def read_back(self, words: Sequence[int]) -> list[int]:
        """The words of an image as the memories of the core hold them: header, addresses and CRC as in `words`, the
        rest read. Of several copies of a table one that differs is taken, if there is one. The core must be idle.

        Raises CoreError: the memories of this core cannot be read.
        """
        if not self.description.get("readback"):
            raise CoreError("the memories of this core cannot be read: compile with --readback")
        held, chosen, following = list(words), 0, -1
        try:
            for memory, address, number in places(words, self.description["readback"]):
                if memory != chosen:
                    self.write("READ_MEMORY", memory)
                if (memory, address) != (chosen, following):
                    self.write("READ_ADDRESS", address)
                chosen, following = memory, address + 1
                word = self.read("READ_DATA")
                if word != words[number]:
                    held[number] = word
        finally:
            self.write("READ_MEMORY", 0)
        return held

    def check(self, words: Sequence[int]) -> None:
        """Read back what the core holds of an image and count the CRC-32 of it. Raises CoreError: it holds another
        image, or a memory another word."""
        if (crc := self.read("IMAGE_CRC")) != words[-1]:
            raise CoreError(f"the core holds the image 0x{crc:08X}, not 0x{words[-1]:08X}")
        held = self.read_back(words)
        if zlib.crc32(np.array(held[:-1], "<u4").tobytes()) != crc:
            wrong = [number for number, (a, b) in enumerate(zip(held, words, strict=True)) if a != b]
            what = f"{len(wrong)} words of the image are wrong in the core's memories, the first is {wrong[0]}"
            raise CoreError(what)

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


HEADER, COUNTS = 11, 6
"""Words of the header of an image, and where the numbers of entries begin in it."""


def places(words: Sequence[int], readback: dict[str, Any]) -> list[tuple[int, int, int]]:
    """Where the words of an image lie in a core: READ_MEMORY, READ_ADDRESS and the number of the word, in an order in
    which the address mostly goes on by itself. `readback`: of core.json."""
    found, at = list[tuple[int, int, int]](), HEADER
    *counts, codes = words[COUNTS:HEADER]
    for section, count in zip(readback["sections"], counts, strict=True):
        step = section["words"]
        for memory in section["memories"]:
            found += [(part << 8 | memory, e, at + e * step + part) for part in range(step) for e in range(count)]
        at += step * count
    for entry in range(codes):
        first = at + entry * readback["entry"]
        bank, address = words[first] >> 24, words[first] & 0xFFFFFF
        memory, size, width = (readback["banks"][str(bank)][key] for key in ("memory", "words", "width"))
        row, lane = divmod(address, width)
        found += [((lane * size + part) << 8 | memory, row, first + 1 + part) for part in range(size)]
    return sorted(found)


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
