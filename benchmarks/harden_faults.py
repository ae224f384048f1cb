"""Flips of single bits in the registers and memories of a compiled core, and what becomes of the runs.

The core is compiled by Verilator with every signal accessible; which of them are registers is read from its Verilog,
whose modules Amaranth names by their place. Memories are flipped word by word, in the words that hold something.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqcompile.rtl.serial.engine import LANES
from eqcompile.rtl.serial.plan import make_plan
from eqcompile.toolchain.contracts import Run
from eqcompile.toolchain.ir import IntNet

__all__ = ["SITES", "Campaign"]

HERE = Path(__file__).resolve().parent
ENGINE = "core__DOT__engine__DOT__"
SITES: Mapping[str, str] = {
    "weights": rf"{ENGINE}(table|entries_\d+)__DOT__(ram__DOT__)?words",
    "states": rf"{ENGINE}h_codes_\d+__DOT__(ram__DOT__)?words",
    "sums": rf"{ENGINE}applier__DOT__(bank|residues)\d+__DOT__words",
    "control": "",
}
"""Members of the compiled core; `control` are registers."""
MEMBER = re.compile(
    r"^\s*(?:VlUnpacked<)?(?:[CSIQ]Data|VlWide<\d+>)/\*(\d+):0\*/(?:, (\d+)>)? (core__DOT__\w+);$", re.M
)
MODULE = re.compile(r"^module (\\\S+ |\w+)", re.M)
REGISTER = re.compile(r"^    (\\\S+ |\w+) ?<= ", re.M)
CONTROL = re.compile(
    r"(vote\d_)?(\$?signal|bank|count|index|cutting|closing|abort|owing|left|busy|made|y__valid|slice_|restart|steps|"
    r"table_address|entry_address|valid|group|count_\d|.*_map|output_.*_sent|.*_present|.*_ticked|.*_group)(\$\d+)?"
)
"""Names of registers that decide what happens next, in cores with and without votes."""
OUTCOMES = ("masked", "repaired", "detected", "wrong output", "wrong label", "hang")
COUNTER_BITS = 32
"""Registers of so many bits count, or hold data of the buses."""
IDLE = 60_000
"""Clocks after which a run without a result hangs: many times the longest, and the watchdog's span."""


@dataclass(frozen=True)
class Member:
    name: str
    words: int
    bits: int


@dataclass(frozen=True)
class Campaign:
    """A compiled core, its samples `[samples, codes]`, what golden says of them, and the clocks of each clean run."""

    program: Path
    members: Mapping[str, list[Member]]
    frames: NDArray[np.int64]
    outputs: NDArray[np.int64]
    clocks: NDArray[np.int64]

    @classmethod
    def built(
        cls, folder: Path, net: IntNet, codes: Mapping[str, NDArray[np.int64]], golden: Run, *, entries: int
    ) -> Campaign:
        """Compile the core of an emitted folder, whose weight memory holds so many `entries`, and run every sample
        without a fault: all must equal golden."""
        build = folder / "deposit"
        build.mkdir()
        (build / "core.v").write_text((folder / "core.v").read_text(encoding="utf-8"), encoding="utf-8")
        verilator(build, "--cc")
        members = sites(build, net, entries)
        raw = json.loads((folder / "core.json").read_text(encoding="utf-8"))
        (build / "sites.h").write_text(header([m for held in members.values() for m in held], raw), encoding="utf-8")
        (build / "driver.cpp").write_text((HERE / "harden_driver.cpp").read_text(encoding="utf-8"), encoding="utf-8")
        verilator(build, "--cc", "--exe", "--build", "driver.cpp")
        frames = np.concatenate([codes[i.name].reshape(len(codes[i.name]), -1) for i in net.inputs], axis=1)
        outputs = np.concatenate([golden.outputs[o.name].reshape(len(frames), -1) for o in net.outputs], axis=1)
        bare = cls(build / "Vcore", members, frames, outputs, np.zeros(0, np.int64))
        clean = bare.simulate(np.array([[s, 0, -1, 0, 0] for s in range(len(frames))]))
        if not (
            np.array_equal(clean[:, 6:], outputs) and (clean[:, 1] == golden.steps).all() and not clean[:, 3:6].any()
        ):
            raise SystemExit("the core differs from golden without a fault")
        return cls(bare.program, members, frames, outputs, clean[:, 2])

    def simulate(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows `(sample, clock, member, word, bit)` as native results."""
        given, found = self.program.parent / "in.bin", self.program.parent / "out.bin"
        whole = np.concatenate([rows[:, 1:], self.frames[rows[:, 0]]], axis=1)
        given.write_bytes(np.array([len(rows)], np.int64).tobytes() + whole.astype(np.int64).tobytes())
        subprocess.run([self.program, given, found], check=True)
        return np.fromfile(found, np.int64).reshape(len(rows), -1)

    def run(self, site: str, faults: int, seed: int) -> dict[str, Any]:
        """Outcomes of `faults` faults of one kind of site."""
        source = np.random.default_rng([seed, list(SITES).index(site)])
        every = [m for held in self.members.values() for m in held]
        sizes = np.array([m.words * m.bits if m in self.members[site] else 0 for m in every])
        sample = source.integers(len(self.frames), size=faults)
        clock = source.integers(self.clocks[sample])
        number = source.choice(len(every), size=faults, p=sizes / sizes.sum())
        word = source.integers([every[n].words for n in number])
        bit = source.integers([every[n].bits for n in number])
        got = self.simulate(np.stack([sample, clock, number, word, bit], axis=1))
        hang, given_up, flags, corrected = got[:, 0] == 1, got[:, 1] == 0, got[:, 3] != 0, got[:, 4] != 0
        want = self.outputs[sample]
        differs = (got[:, 6:] != want).any(axis=1)
        label = got[:, 6:].argmax(axis=1) != want.argmax(axis=1)
        kinds = [hang, given_up | flags, label, differs, corrected]
        names = ["hang", "detected", "wrong label", "wrong output", "repaired"]
        found = np.select(kinds, range(len(kinds)), len(kinds))
        counts = {name: int((found == i).sum()) for i, name in enumerate([*names, "masked"])}
        return {"faults": faults, "bits": int(sizes.sum()), "outcomes": {name: counts[name] for name in OUTCOMES}}


def verilator(folder: Path, *arguments: str) -> None:
    sys.path.insert(0, str(folder.parent / "bench"))
    import tools  # type: ignore[import-not-found]

    argv = [
        "verilator",
        *arguments,
        "--public-flat-rw",
        "-O3",
        "--x-assign",
        "fast",
        "--x-initial",
        "fast",
        "--noassert",
    ]
    argv += ["--no-timing", "-Wno-WIDTH", "-Wno-fatal", "--top-module", "core", "--Mdir", ".", "-j", "1"]
    argv += ["-MAKEFLAGS", "OPT_FAST=-O1 OPT_SLOW=-O0", "core.v"]
    env = {**os.environ, **tools.verilator()}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


def sites(build: Path, net: IntNet, entries: int) -> dict[str, list[Member]]:
    """Members of each kind of site. Of memories of weights the words that hold something."""
    plan = make_plan(net, lanes=LANES, width=2)
    used = {"table": plan.weights.clears + len(plan.maps), "entries": entries}
    found: dict[str, list[Member]] = {site: [] for site in SITES}
    flops = set(registers((build / "core.v").read_text(encoding="utf-8")))
    for high, words, name in MEMBER.findall((build / "Vcore___024root.h").read_text(encoding="utf-8")):
        member = Member(name, int(words or 0) or 1, int(high) + 1)
        if name in flops and member.bits < COUNTER_BITS:
            found["control"].append(member)
        for site, pattern in SITES.items():
            match = pattern and re.fullmatch(pattern, name)
            if match and site == "weights":
                kind = "table" if match[1] == "table" else "entries"
                found[site].append(Member(name, used[kind], member.bits))
            elif match:
                found[site].append(member)
    empty = [site for site, held in found.items() if not held]
    if empty:
        raise SystemExit(f"no {', '.join(empty)} in the compiled core")
    return found


def registers(verilog: str) -> Iterator[str]:
    """Verilator's names of the control registers of a core."""
    starts = list(MODULE.finditer(verilog))
    for start, after in zip(starts, [*starts[1:], None], strict=True):
        path = start[1].strip().lstrip("\\").split(".")
        body = verilog[start.end() : after.start() if after else len(verilog)]
        for name in {n.strip().lstrip("\\") for n in REGISTER.findall(body)}:
            if CONTROL.fullmatch(name):
                yield "__DOT__".join(mangled(part) for part in [*path, name])


def mangled(name: str) -> str:
    """As Verilator writes a name: what is no letter by its code, and the second of two underscores."""
    plain = re.sub(r"[^A-Za-z0-9_]", lambda c: f"__0{ord(c[0]):02X}", name)
    return plain if "$" in name else re.sub("__", "___05F", plain)


def header(members: list[Member], raw: Mapping[str, Any]) -> str:
    """sites.h: sizes of the streams, and a case for each member."""
    cases = []
    for number, m in enumerate(members):
        word = "[word]" if m.words > 1 else ""
        cases.append(f"        case {number}: flip(root.{m.name}{word}, bit); return;")
    numbers = {"kXCount": raw["x"]["count"], "kYCount": raw["y"]["count"], "kYBits": 8 * raw["y"]["bytes"]}
    lines = [f"constexpr int64_t {name} = {value};" for name, value in numbers.items()]
    lines += [f"constexpr bool kYSigned = {int(raw['y']['signed'])}, kHardened = {int('FAULTS' in raw['registers'])};"]
    lines += [f"constexpr int64_t kLimit = {IDLE};"]
    lines += ["void deposit(Vcore___024root& root, int64_t site, int64_t word, int64_t bit) {", "    switch (site) {"]
    return "\n".join([*lines, *cases, "    }", "}", ""])
