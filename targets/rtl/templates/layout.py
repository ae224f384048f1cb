"""What core.json says about the core, and the shapes of its results. Needs NumPy alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

__all__ = ["FOLDER", "Codes", "Layout", "Results", "held", "load_arrays", "pattern"]

FOLDER = Path(__file__).resolve().parents[1]
"""The folder with core.v and core.json."""

Codes = NDArray[np.int64]


class Code(TypedDict):
    """A code in `bits` bits, two's complement if `signed`."""

    bits: int
    signed: bool


class Port(Code):
    """A stream: `count` codes a sample, `beat` of them a beat, each in `bytes` bytes."""

    count: int
    bytes: int
    beat: int


class State(Code):
    """`units` codes of the trace."""

    name: str
    shape: list[int]
    units: int


class Input(TypedDict):
    """An input of the net and its smallest and largest code."""

    name: str
    shape: list[int]
    lo: int
    hi: int


class Output(TypedDict):
    """An output of the net."""

    name: str
    shape: list[int]


class Site(TypedDict):
    """A register or memory of the core with saboteurs: `rows` words of `bits` bits."""

    name: str
    kind: str
    bits: int
    rows: int


class Outside(TypedDict):
    """Weights in a memory outside: a file of `bytes` bytes with the CRC-32 `crc`, in beats of `bits` bits."""

    file: str
    bits: int
    bytes: int
    crc: int


class Saboteurs(TypedDict):
    """The core with saboteurs, as far as the bench reads it. `flags`: what the bits of FAULTS say; none without
    hardening."""

    verilog: str
    sites: list[Site]
    flags: list[str]


def load_arrays(path: Path) -> dict[str, Codes]:
    """Every array `[...]`, int64, of an .npz file by its name."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def pattern(code: int, bits: int) -> int:
    """Two's complement of `code` in `bits` bits."""
    return code & ((1 << bits) - 1)


def _value(word: int, code: Code) -> int:
    """The code that the low bits of a word mean."""
    value = word & ((1 << code["bits"]) - 1)
    return value - (1 << code["bits"]) if code["signed"] and value >> (code["bits"] - 1) else value


def held(rows: Sequence[tuple[int, Codes]], ticks: int, frames: int) -> list[Codes]:
    """States `[units]` after each of `ticks` ticks of every frame: those after the last tick of a frame stand to its
    end, and to the end of frames that made none."""
    every, mine = [], [rows[0][1]]
    for frame in range(frames):
        mine = [codes for number, codes in rows if number == frame] or mine[-1:]
        every += [mine[min(tick, len(mine) - 1)] for tick in range(ticks)]
    return every


@dataclass(frozen=True)
class Results:
    """`states[name]`: `[ticks, samples, units]`, a sample that settled keeps its codes; `y`: `[samples, codes]` in the
    order of the stream, those of all results of a sample one after the other; `steps`: ticks made, `[samples]`."""

    states: Mapping[str, Codes]
    y: Codes
    steps: Codes


@dataclass(frozen=True)
class Layout:
    """core.json. `verilog`: the file to simulate; `trace`: it has a trace port, which is read; `models`: files with
    models of vendor primitives; `contents`: files that memories start with; `configuration`: by which images for the
    core are made; `load_words`: weights can be loaded, and must be unless `preloaded`; `inject`: there is a core with
    saboteurs; `injects`: it is the one to simulate. `sequence`: a sample is a sequence of frames, with a result after
    the "last" or after "every" one; without it a sample is one frame. `readback`: which memory holds what of an image
    (`places` of driver/linux.py), if a host can read them. `memory`: what holds the weights outside of the core."""

    name: str
    digest: str
    verilog: str
    trace: bool
    id: int
    registers: Mapping[str, int]
    steps: int
    tolerance: int
    x: Port
    y: Port
    inputs: Sequence[Input]
    outputs: Sequence[Output]
    states: Sequence[State]
    models: Sequence[str]
    contents: Sequence[str]
    configuration: object
    load_words: bool
    preloaded: bool
    readback: object
    sequence: str | None
    inject: Saboteurs | None
    memory: Outside | None = None
    injects: bool = False

    @classmethod
    def read(cls, *, traced: bool = True, injects: bool = False) -> Layout:
        """The layout of this folder's core. Not `traced`: the core as it is delivered, its trace port not read.
        `injects`: the one with saboteurs; ValueError if the folder was written without."""
        layout = cls(**json.loads((FOLDER / "core.json").read_text(encoding="utf-8")))
        if injects:
            if layout.inject is None:
                raise ValueError("this folder has no core with saboteurs: compile with --saboteurs")
            return replace(layout, verilog=layout.inject["verilog"], injects=True)
        return layout if traced else replace(layout, trace=False, verilog="core.v")

    @property
    def sources(self) -> list[Path]:
        """The Verilog files to simulate: the core, and models of vendor primitives in it."""
        return [FOLDER / name for name in (self.verilog, *self.models)]

    @property
    def memories(self) -> list[Path]:
        """Files with the first words of memories, which a simulator reads where it runs."""
        return [FOLDER / name for name in self.contents]

    def samples(self, arrays: Mapping[str, Codes]) -> Codes:
        """Input codes `[samples, frames, codes]` in the order of the stream, from arrays `codes.NAME`."""
        parts, lead = [], 2 if self.sequence else 1
        for i in self.inputs:
            value = arrays[f"codes.{i['name']}"]
            if list(value.shape[lead:]) != i["shape"] or not value.size or value.dtype.kind not in "iu":
                raise ValueError(
                    f"codes.{i['name']} is {value.dtype} {list(value.shape)}, must be integers {i['shape']}"
                )
            if value.min() < i["lo"] or value.max() > i["hi"]:
                raise ValueError(
                    f"codes.{i['name']} has {value.min()} to {value.max()}, must be {i['lo']} to {i['hi']}"
                )
            frames = value.shape[1] if self.sequence else 1
            parts.append(value.reshape(len(value), frames, -1).astype(np.int64))
        if len({p.shape[:2] for p in parts}) != 1:
            raise ValueError(f"inputs differ in samples or frames: {[p.shape[:2] for p in parts]}")
        return np.concatenate(parts, axis=2)

    def results(self, frames: int) -> int:
        """Result frames of a sample of so many input frames."""
        return frames if self.sequence == "every" else 1

    def expected(self, arrays: Mapping[str, Codes]) -> Results:
        """The results that a vector file holds."""
        states = {s["name"]: arrays[f"state.{s['name']}"] for s in self.states}
        samples, outputs = len(arrays["steps"]), [arrays[f"output.{o['name']}"] for o in self.outputs]
        parts = [o.reshape(samples, self.results(o.shape[1] if o.ndim > 1 else 1), -1) for o in outputs]
        return Results(
            {name: a.reshape(*a.shape[:2], -1) for name, a in states.items()},
            np.concatenate(parts, axis=2).reshape(samples, -1),
            arrays["steps"],
        )

    def write(self, path: Path, results: Results, details: Mapping[str, object]) -> None:
        """A file of results in the net's shapes: each output under its name, `state.NAME`, `steps`, and `details.json`,
        the text of a JSON object. Arrays in `details` become lists."""
        text = json.dumps(details, default=lambda array: array.tolist())
        arrays: dict[str, NDArray[np.generic]] = {"steps": results.steps, "details.json": np.array(text)}
        for s in self.states if results.states else ():
            rows = results.states[s["name"]]
            arrays[f"state.{s['name']}"] = rows.reshape(*rows.shape[:2], *s["shape"])
        at, y = 0, results.y.reshape(len(results.y), -1, self.y["count"])
        for o in self.outputs:
            size, lead = int(np.prod(o["shape"])), y.shape[: 2 if self.sequence == "every" else 1]
            arrays[o["name"]] = y[:, :, at : at + size].reshape(*lead, *o["shape"])
            at += size
        with path.open("wb") as file:
            np.savez(file, **arrays)

    def words(self, codes: Sequence[int]) -> list[int]:
        """Input codes as the TDATA of each beat, the first code of a beat lowest; lanes beyond the last code are -1."""
        bits, beat = 8 * self.x["bytes"], self.x["beat"]
        lanes = [pattern(int(code), bits) for code in codes]
        lanes += [pattern(-1, bits)] * (-len(lanes) % beat)
        beats = [lanes[at : at + beat] for at in range(0, len(lanes), beat)]
        return [sum(lane << bits * i for i, lane in enumerate(lanes)) for lanes in beats]

    def codes(self, words: Sequence[int]) -> list[int]:
        """Output codes of the beats of a result frame: all of TDATA, so that a wrong extension is a wrong code.

        ValueError if a lane beyond the last code is not 0.
        """
        lane: Code = {"bits": 8 * self.y["bytes"], "signed": self.y["signed"]}
        lanes = [_value(word >> lane["bits"] * i, lane) for word in words for i in range(self.y["beat"])]
        if any(lanes[self.y["count"] :]):
            raise ValueError(f"lanes beyond the {self.y['count']} codes hold {lanes[self.y['count'] :]}")
        return lanes[: self.y["count"]]

    def traced(self, word: int) -> Codes:
        """The states on `trace_codes`, side by side."""
        codes = []
        for s in self.states:
            for _ in range(s["units"]):
                codes.append(_value(word, s))
                word >>= s["bits"]
        return np.array(codes, np.int64)

    def gathered(
        self, rows: Sequence[Sequence[tuple[int, Codes]]], y: Sequence[Sequence[int]], ticks: int, frames: int = 1
    ) -> Results:
        """Results of samples whose states after each tick made are `rows`, with the number of its frame; the last row
        of a frame is kept to the end of its `ticks`."""
        states = {}
        if self.trace and rows:
            filled = np.array([held(r, ticks, frames) for r in rows], np.int64).swapaxes(0, 1)
            at = 0
            for s in self.states:
                states[s["name"]] = filled[:, :, at : at + s["units"]]
                at += s["units"]
        return Results(states, np.array(y, np.int64), np.array([len(r) for r in rows], np.int64))
