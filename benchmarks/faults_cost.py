"""How the cost of a flip of a state grows with the units and with the density of what a net feeds back.

    python benchmarks/faults_cost.py [--faults 200000] [--out DIR]

Random looped nets of 64 inputs and ternary recurrent weights, scaled to a norm of 0.6, so that they contract, on 200
random samples and 20 ticks: 64 to 4,096 units at 45 %, and 1 to 100 % at 256 and at 1,024 units. Single bits of states
flip, drawn uniformly; the engine is `fast`. Times are seconds of the processor, of injecting alone. `columns`: how many
columns of recurrent weights a flip adds in the mean of the first 200 flips, by their traces: the least that it costs.
`exponent`: the slope of log(time) over log(units), or over log(density), by least squares. Pictures are
written beside the record.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import results
from numpy.typing import NDArray

from eqcompile.app.report.figure.frame import COLOURS, Axis, Key, Plot, with_legend
from eqcompile.quantization.lower import lower
from eqcompile.sim.faults.engine import Engine, Session
from eqcompile.sim.faults.model import FaultModel
from eqcompile.sim.faults.table import FaultTable
from eqcompile.toolchain import data, registry
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.options import QuantizeOptions

INPUTS, OUTPUTS, SAMPLES, TICKS, NORM, SEED = 64, 10, 200, 20, 0.6, 0
UNITS = (64, 128, 256, 512, 1024, 2048, 4096)
DENSITIES = (0.01, 0.03, 0.1, 0.3, 1.0)
USUAL, SIZES = 0.45, (256, 1024)
"""The density at which units vary, and the units at which the density does."""
LOOKED_AT = 200
TITLE = "Upsets, by size and density"

Row = dict[str, Any]


def lowered(units: int, density: float, x: NDArray[np.float64]) -> IntNet:
    """A random net of so many units, calibrated on `x` `[samples, INPUTS]`."""
    rng = np.random.default_rng(SEED)
    recurrent = rng.choice([-1.0, 0.0, 1.0], (units, units), p=[density / 2, 1.0 - density, density / 2])
    norm = float(np.sqrt(np.linalg.eigvalsh(recurrent.T @ recurrent)[-1]))
    arrays = {
        "W_in.weight": rng.choice([-1.0, 0.0, 1.0], (units, INPUTS)) * 0.25,
        "W_in.bias": np.zeros(units),
        "W_rec.weight": recurrent * (NORM / norm),
        "W_rec.bias": np.zeros(units),
        "W_out.weight": rng.choice([-1.0, 0.0, 1.0], (OUTPUTS, units)),
        "W_out.bias": np.zeros(OUTPUTS),
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.npz"
        np.savez(file, **{name: value.astype(np.float32) for name, value in arrays.items()})
        source = import_model(file, family="models.LoopedMLP", settings={"steps": TICKS}).net
    net: IntNet = lower(source, QuantizeOptions(), calibration={"x": x}).net
    return net


def columns(net: IntNet, session: Session, table: FaultTable) -> float:
    """Elements of states that deviate after each tick but the last, summed over ticks, a flip in the mean."""
    total = 0
    for i in range(LOOKED_AT):
        fault = table[i]
        disturbed, clean = session.trace(fault), session.clean(fault.sample)
        total += sum(int((disturbed[s.name][:-1] != clean[s.name][:-1]).sum()) for s in net.states)
    return 1.0 + total / LOOKED_AT


def measure(units: int, density: float, count: int) -> tuple[Row, dict[str, Any]]:
    x = np.random.default_rng(SEED + 1).random((SAMPLES, INPUTS))
    net = lowered(units, density, x)
    codes = dict(data.encode(net, {"x": x})[0])
    session = registry.find_class("engines", "fast", Engine)().open(net, codes, near=1)
    model = registry.find_class("faults", "seu", FaultModel)(sites="state")
    table = model.draw(net, count, np.random.default_rng(SEED), codes)
    session.run(table)
    start = time.process_time()
    session.run(table)
    seconds = time.process_time() - start
    facts = results.net_facts(f"{units:,} units, {density:.0%}", net)
    row = {"units": units, "density": density, "ns": 1e9 * seconds / count, "L": facts["L"]}
    row["columns"] = columns(net, session, table)
    sys.stdout.write(f"{facts['net']:20} {row['ns']:12,.0f} ns a flip, {row['columns']:.1f} columns\n")
    sys.stdout.flush()
    return row, facts


def exponent(rows: Sequence[Row], key: str) -> float:
    return float(np.polyfit(np.log([r[key] for r in rows]), np.log([r["ns"] for r in rows]), 1)[0])


def pictures(series: Sequence[tuple[str, str, Sequence[Row]]]) -> dict[str, str]:
    """Microseconds a flip over what varies, both logarithmic, as SVG; `series`: label, what varies, rows."""
    times = [r["ns"] / 1e3 for _, _, rows in series for r in rows]
    marks = [v for v in (0.0, 1.0, 10.0, 100.0, 1000.0) if v <= 1.1 * max(times)]
    y = Axis("us of a processor", 0.0, 1.1 * max(times), marks, log=True)
    svgs = {}
    for varies, label, scale in (("units", "units", 1.0), ("density", "recurrent weights that are not 0, %", 100.0)):
        chosen = [s for s in series if s[1] == varies]
        places = sorted({scale * r[varies] for _, _, rows in chosen for r in rows})
        plot = Plot("A flip of a state", Axis(label, min(places), max(places), places, log=True), y)
        lines, keys = plot.frame(), []
        for at, (name, _, rows) in enumerate(chosen):
            entry = Key(COLOURS[at], name)
            points = " ".join(f"{plot.at_x(scale * r[varies]):.1f},{plot.at_y(r['ns'] / 1e3):.1f}" for r in rows)
            lines.append(f'<polyline points="{points}" fill="none" {entry.stroke}/>')
            keys.append(entry)
        alt = "; ".join(
            f"{name}: {rows[0]['ns'] / 1e3:.2g} to {rows[-1]['ns'] / 1e3:.2g} us" for name, _, rows in chosen
        )
        drawn = with_legend(f"cost-{varies}", lines, keys, f"Microseconds a flip over {label}. {alt}")
        svgs[varies] = str(drawn).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return svgs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200_000)
    results.add_folder(parser)
    options = parser.parse_args()
    series, every = [], []
    for label, key, cases in (
        (f"{USUAL:.0%} of the weights", "units", [(units, USUAL) for units in UNITS]),
        *((f"{units:,} units", "density", [(units, density) for density in DENSITIES]) for units in SIZES),
    ):
        pairs = [measure(*case, options.faults) for case in cases]
        series.append((label, key, [row for row, _ in pairs]))
        every += [facts for _, facts in pairs]
    head = {"net": "computed", "L": "proved", "columns a flip": "simulated", "us a flip": "measured"}
    cells = [
        [f["net"], f"{row['L']:.3f}", f"{row['columns']:.1f}", f"{row['ns'] / 1e3:.2f}"]
        for f, row in zip(every, [row for _, _, rows in series for row in rows], strict=True)
    ]
    slopes = "; ".join(f"over {key} at {label}: {exponent(rows, key):.2f}" for label, key, rows in series)
    words = (
        f"`benchmarks/faults_cost.py`: {options.faults:,} flips of one bit of a state in random ternary nets that "
        f"contract, {TICKS} ticks, engine `fast`, seconds of one processor. Exponents: {slopes}."
    )
    drawn = {f"faults_cost_{varies}.svg": text for varies, text in pictures(series).items()}
    shown = " ".join(f"![Microseconds a flip](results/{name})" for name in drawn)
    blocks = [results.text(words), results.text(shown), results.table(head, cells)]
    measured = [rows for _, _, rows in series]
    path = results.record("faults_cost", TITLE, blocks, data=measured, nets=every, folder=options.out)
    for name, text in drawn.items():
        path.with_name(name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
