"""Sessions of the engine `rtl` against golden, and against a simulator's own deposits."""

from __future__ import annotations

import atexit
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eqcompile.app.instrument import build_instrument
from eqcompile.sim.exchange import write_codes
from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.rtl.engine import RtlSession
from eqcompile.sim.faults.rtl.masks import Told
from eqcompile.sim.faults.rtl.rows import Row, Translator
from eqcompile.sim.faults.table import Fault, FaultTable, Place, Upset
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.ir import IntNet

__all__ = ["accepted", "changed", "core_faults", "differing", "effective", "instrumented", "unlike_deposits"]


def instrumented(target: str, net: IntNet, core: Mapping[str, Any] | None = None) -> Path:
    """The folder of an instrumented artifact, as the app builds it into a campaign; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="eqcompile-test-instrument-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    build_instrument(target, net, core or {}, folder)
    return folder


def accepted(found: Translator, table: FaultTable) -> FaultTable:
    """The faults that the core can be given."""
    kept = []
    for fault in table:
        try:
            found.rows([fault])
        except UsageError:
            continue
        kept.append(fault)
    return FaultTable.of(kept)


def differing(session: RtlSession, rows: Sequence[Row], faults: Sequence[Fault]) -> list[str]:
    """Faults of which a state after any tick, or an output, is not what golden has."""
    golden: Any = GoldenEngine().open(session.net, session.inputs, near=1)
    got, wrong = session.injected(rows), []
    for i, fault in enumerate(faults):
        _, states, outputs = golden._disturbed([fault])
        same = all((got.states[n][:, i] == v[:, 0]).all() for n, v in states.items())
        if not same or any((got.outputs[n][i] != v[0]).any() for n, v in outputs.items()):
            wrong.append(str(fault))
    return wrong


def changed(rows: Sequence[Row], **made: Callable[[Told], Any]) -> list[Row]:
    """The rows with fields of their upsets, or of the masks of these, changed as functions of the upset say."""

    def other(told: Told) -> Told:
        masks = {name: f(told) for name, f in made.items() if hasattr(told.masks, name)}
        fields = {name: f(told) for name, f in made.items() if name not in masks}
        return replace(told, masks=replace(told.masks, **masks), **fields)

    return [replace(row, upsets=tuple(other(told) for told in row.upsets)) for row in rows]


def core_faults(
    session: RtlSession, count: int, seed: int, clocks: int = 200, beginning: str | tuple[str, ...] = ""
) -> list[Fault]:
    """Random flips of one bit of a register, or of a word of a memory, in one of so many clocks; of those whose names
    begin so."""
    rng = random.Random(seed)
    found = []
    names = [
        n for n, c in session.translator.cells.items() if c.kind in ("register", "memory") and n.startswith(beginning)
    ]
    for _ in range(count):
        name = rng.choice(names)
        cell = session.translator.cells[name]
        clock = rng.randrange(clocks)
        upset = Upset(Place.CORE, name, rng.randrange(cell.rows), clock, clock, flip=1 << rng.randrange(cell.bits))
        found.append(Fault(rng.randrange(session.samples), f"register:{name}", 0, 0, (upset,)))
    return found


def effective(session: RtlSession, faults: Sequence[Fault], count: int) -> list[Fault]:
    """`count` faults of the core that change a state and end, and two that change none; of registers that the core
    without saboteurs has too, where none is written that nothing reads."""
    layout = json.loads((session.core / "core.json").read_text())
    declared = set(
        re.findall(r"^ *reg\b.*?(\w+)(?: \[[^]]*\])?;", (session.core / layout["verilog"]).read_text(), re.M)
    )
    faults = [f for f in faults if f.upsets[0].name.rpartition(".")[2] in declared]
    rows = [replace(r, every=False) for r in session.translator.rows(faults)]
    clean = session.injected([Row(r.sample, every=False) for r in rows])
    found = session.injected(rows)
    upset = np.any([(clean.states[n] != v).any(axis=(0, 2)) for n, v in found.states.items()], axis=0)
    return [faults[i] for i in (*np.flatnonzero(upset & ~found.hung)[:count], *np.flatnonzero(~upset)[:2])]


def unlike_deposits(session: RtlSession, faults: Sequence[Fault], folder: Path) -> set[str]:
    """Registers and memories whose faults give another state after any tick, or another output, when cocotb deposits
    them in the core that has no saboteurs (Icarus)."""
    rows = [replace(row, every=False) for row in session.translator.rows(faults)]
    found, deposits = session.injected(rows), []
    for fault in faults:
        u = fault.upsets[0]
        row = u.index if session.translator.cells[u.name].kind == "memory" else None
        deposits.append({"sample": fault.sample, "path": u.name, "row": row, "mask": u.flip, "clock": u.first})
    (folder / "f.json").write_text(json.dumps(deposits))
    write_codes(folder / "x.npz", session.inputs)
    argv = [sys.executable, "-I", "-B", "bench/run.py", "--sim", "icarus", "--quiet", "--build", str(folder / "b")]
    for option, name in (("-i", "x.npz"), ("-o", "y.npz"), ("--deposits", "f.json")):
        argv += [option, str(folder / name)]
    subprocess.run(argv, cwd=session.core, check=True, capture_output=True)
    with np.load(folder / "y.npz") as file:
        pairs = [(np.moveaxis(file[f"state.{n}"], 1, 0), np.moveaxis(v, 1, 0)) for n, v in found.states.items()]
        pairs += [(file[n], v) for n, v in found.outputs.items()]
    return {fault.upsets[0].name for got, want in pairs for i, fault in enumerate(faults) if (got[i] != want[i]).any()}
