#!/usr/bin/env python3
"""Talk to a board that carries an eqcompile core. Needs Python and pyserial, nothing else.

    python host.py /dev/ttyUSB1                            run vectors.json and compare with the expected outputs
    python host.py /dev/ttyUSB1 -i codes.json -o out.json  run your own samples: a list of lists of input codes

A sample is the input codes of the net in the order of board.json, an answer its output codes and the ticks made.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypedDict

RESULT, DONE, UNKNOWN = b"R", b"K", b"E"


class Line(Protocol):
    """A serial line: pyserial's `Serial`, or a simulated one."""

    def write(self, data: bytes, /) -> object: ...

    def read(self, size: int, /) -> bytes: ...

    def send_break(self) -> None: ...

    def reset_input_buffer(self) -> None: ...


class Codes(TypedDict):
    """A side of the core: `count` codes of `lo` to `hi`, `bytes` bytes each."""

    count: int
    bytes: int
    lo: int
    hi: int


class Description(TypedDict):
    """board.json."""

    x: Codes
    y: Codes
    identity: int
    baud: int


class LinkError(RuntimeError):
    """The board answered something else than the protocol says, too little, or carries another core."""


class BoardLink:
    """The host's side of the protocol; `description` is the content of board.json."""

    def __init__(self, line: Line, description: Description) -> None:
        self.line = line
        self.x, self.y, self.identity = description["x"], description["y"], description["identity"]

    def reset(self) -> None:
        """Bring the board to a known state, from any, and check that it carries this core."""
        self.line.send_break()
        # Answers to what was asked before the break are nobody's any more.
        self.line.reset_input_buffer()
        self.line.write(b"I")
        identity = int.from_bytes(self._read(5, b"I")[1:], "little")
        if identity != self.identity:
            raise LinkError(f"the board carries core {identity:08x}, board.json describes {self.identity:08x}")

    def configure(self, steps: int, tolerance: int) -> None:
        """Set the step budget and the tolerance of settling until the next reset."""
        if not (1 <= steps <= 0xFFFF and 0 <= tolerance <= 0xFFFF):
            raise LinkError(f"steps {steps} must be 1 to 65535 and tolerance {tolerance} 0 to 65535")
        self.line.write(b"C" + steps.to_bytes(2, "little") + tolerance.to_bytes(2, "little"))
        self._read(1, DONE)

    def load(self, address: int, words: Sequence[int]) -> None:
        """Store weight words (32 bits each) from `address` on."""
        head = b"W" + address.to_bytes(4, "little") + len(words).to_bytes(4, "little")
        self.line.write(head + b"".join(w.to_bytes(4, "little") for w in words))
        self._read(1, DONE)

    def infer(self, codes: Sequence[int]) -> tuple[int, list[int]]:
        """Run one sample; return the ticks made and the output codes."""
        if len(codes) != self.x["count"]:
            raise LinkError(f"a sample has {self.x['count']} codes, {len(codes)} given")
        low, high = self.x["lo"], self.x["hi"]
        outside = [c for c in codes if not low <= c <= high]
        if outside:
            raise LinkError(f"code {outside[0]} is outside {low} to {high}")
        size, signed = self.x["bytes"], self.x["lo"] < 0
        self.line.write(b"S" + b"".join(c.to_bytes(size, "little", signed=signed) for c in codes))
        made = int.from_bytes(self._read(3, RESULT)[1:], "little")
        size, signed = self.y["bytes"], self.y["lo"] < 0
        raw = self._read(size * self.y["count"], b"")
        cuts = range(0, len(raw), size)
        return made, [int.from_bytes(raw[i : i + size], "little", signed=signed) for i in cuts]

    def _read(self, size: int, head: bytes) -> bytes:
        data = self.line.read(size)
        if data[:1] == UNKNOWN and head:
            raise LinkError("the board does not know this request: is it out of step? call reset()")
        if len(data) != size:
            raise LinkError(f"{size} bytes expected, {len(data)} came before the time-out: {data.hex()}")
        if not data.startswith(head):
            raise LinkError(f"an answer starting with {head!r} expected, found {data[:1]!r}")
        return data


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", help="serial port, as /dev/ttyUSB1 or COM5")
    parser.add_argument("-i", "--input", type=Path, metavar="CODES.json", help="samples (default: vectors.json)")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT.json", help="write outputs and ticks there")
    parser.add_argument("--steps", type=int, metavar="N", help="step budget (default: the net's)")
    parser.add_argument("--tolerance", type=int, default=0, metavar="N", help="of settling, with --steps (default 0)")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="S", help="to wait for an answer (default 5 s)")
    options = parser.parse_args(argv)
    here = Path(__file__).resolve().parent
    description: Description = json.loads((here / "board.json").read_text(encoding="utf-8"))
    vectors = json.loads((here / "vectors.json").read_text(encoding="utf-8")) if options.input is None else None
    samples = vectors["inputs"] if vectors else json.loads(options.input.read_text(encoding="utf-8"))
    try:
        import serial  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        sys.stderr.write("pyserial is not installed: pip install pyserial\n")
        return 7
    with serial.Serial(options.port, description["baud"], timeout=options.timeout) as line:
        board = BoardLink(line, description)
        board.reset()
        weights = here / "weights.json"
        if weights.is_file():
            board.load(0, json.loads(weights.read_text(encoding="utf-8")))
        if options.steps is not None:
            board.configure(options.steps, options.tolerance)
        results = [board.infer(codes) for codes in samples]
    if options.output is not None:
        answers = {"outputs": [y for _, y in results], "ticks": [made for made, _ in results]}
        options.output.write_text(json.dumps(answers) + "\n", encoding="utf-8")
    if vectors is None:
        sys.stdout.write(f"{len(results)} samples run\n")
        return 0
    wrong = [i for i, (_, y) in enumerate(results) if y != vectors["outputs"][i]]
    sys.stdout.write(f"{len(results)} samples run on the board, {len(wrong)} differ from golden\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LinkError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(8)
