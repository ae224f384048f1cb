"""How the net settles, tick by tick: what moves in all samples together, states and logits of the first ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.arrays import Reals
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import FloatRun, Run
from eqcompile.toolchain.ir import IntNet, Output, State, ops, walk

from ..compile import CompileResult
from .nudge import BETA, Nudged, nudged_phase
from .schema import CubeCodes, Logits, NudgeDocument, Relaxation, SampleRelaxation, SlopesDocument, UnitCodes
from .slopes import slopes

__all__ = ["cube_edge", "relaxation"]

_SHOWN_SAMPLES = 8
_SHOWN_UNITS = 128
_SHOWN_TICKS = 64
_SHOWN_CUBES = 8
_LARGEST_EDGE = 16


def relaxation(result: CompileResult) -> Relaxation | None:
    """Curves of the golden trace (integer codes); None if no state has a scale.

    Logits after each tick are those of golden with a smaller budget of steps; they are left out where the input is a
    sequence, since the budget is then one of each frame.
    """
    net, golden = result.net, result.golden
    scaled = [s for s in net.states if s.frac is not None]
    if not scaled or not len(golden.states[scaled[0].name]):
        return None
    # Codes before the first tick are not in a trace; they are known to be zero unless a state has its own start.
    known_start = all(s.init is None for s in scaled)
    moves = [_moves(s, golden, known_start) for s in scaled]
    largest = np.max([np.abs(m).max(axis=2) for m in moves], axis=0)
    units = sum(m.shape[2] for m in moves)
    changed = np.sum([(m != 0).sum(axis=(1, 2)) for m in moves], axis=0)
    curves: Relaxation = {
        "kind": "simulated",
        "how": "golden",
        "first_tick": 1 if known_start else 2,
        "movement": {"unit": "LSB", "samples": largest.T.tolist()},
        "changing": {
            "unit": "fraction of units",
            "of_units": units,
            "mean": (changed / (units * largest.shape[1])).tolist(),
        },
        "samples": _samples(result, scaled[0]),
    }
    cube = _cube(net, golden)
    if cube is not None:
        curves["cube"] = cube
    return curves


def _samples(result: CompileResult, state: State) -> list[SampleRelaxation]:
    net, golden, stated = result.net, result.golden, result.samples.real.labels
    count = min(result.samples.count, _SHOWN_SAMPLES)
    logits = [] if net.schedule.frames else _logits(result, count)
    pushed = _nudged(result, count)
    rows: list[SampleRelaxation] = []
    for k in range(count):
        row: SampleRelaxation = {
            "sample": k,
            "label": [] if stated is None else stated[k].reshape(-1).tolist(),
            "float_label": _labels(net, result.reference, k),
            "integer_label": _labels(net, golden, k),
            "steps": int(golden.steps[k]),
            "settled": not result.moving[k],
            "units": _units(state, net, golden, k),
        }
        if logits:
            row["logits"] = logits[k]
        steep = _slopes(result, state, k)
        if steep is not None:
            row["slopes"] = steep
        if pushed is not None:
            row["nudge"] = _nudge(pushed, k)
        rows.append(row)
    return rows


def _nudged(result: CompileResult, count: int) -> Nudged | None:
    """A nudged phase of the first samples; None without a label of each, and of nets that have none."""
    labels = result.samples.real.labels
    if labels is None or labels.ndim != 1:
        return None
    inputs = {name: value[:count] for name, value in result.samples.real.items()}
    return nudged_phase(result.imported.net, inputs, labels[:count])


def _nudge(phase: Nudged, sample: int) -> NudgeDocument:
    return {
        "kind": "measured",
        "how": "float64 reference, cross-entropy of the stated label (Equilibrium Propagation)",
        "beta": BETA,
        "states": _rounded(phase.states[:, sample]),
        "push": _rounded(phase.push[:, sample]),
        "loss": (float(phase.loss[0, sample]), float(phase.loss[-1, sample])),
    }


def _rounded(rows: Reals) -> list[list[float]]:
    """Of the units that are drawn, to six digits."""
    return [[float(f"{value:.6g}") for value in row[:_SHOWN_UNITS]] for row in rows]


def _slopes(result: CompileResult, state: State, sample: int) -> SlopesDocument | None:
    """Around the states that golden went through, of the units of `state` that are drawn."""
    net, golden = result.net, result.golden
    inputs = {name: value[sample : sample + 1] for name, value in result.samples.real.items()}
    made = golden.steps[sample]
    around = {
        s.name: golden.states[s.name][: min(made, _SHOWN_TICKS), sample] / 2.0**s.frac
        for s in net.states
        if s.frac is not None
    }
    stretched = slopes(result.imported.net, inputs, around)
    if stretched is None:
        return None
    names = [s.name for s in result.imported.net.states]
    before = sum(int(np.prod(around[name].shape[1:])) for name in names[: names.index(state.name)])
    own = stretched.gain[:, before : before + min(int(np.prod(state.shape)), _SHOWN_UNITS)]
    return {
        "kind": "measured",
        "how": "central differences of the float64 step around the states of golden",
        "steep": [np.flatnonzero(row > 1.0).tolist() for row in own],
        "largest": own.max(axis=1).tolist(),
        "radius": stretched.radius,
    }


def _labels(net: IntNet, run: Run | FloatRun, sample: int) -> list[int]:
    """Labels of the only output that tells classes; none if there are more, or none."""
    classes = [o.name for o in net.outputs if o.kind == "classes"]
    if len(classes) != 1:
        return []
    labels: list[int] = run.outputs[classes[0]][sample].argmax(axis=-1).reshape(-1).tolist()
    return labels


def cube_edge(net: IntNet, state: State) -> int | None:
    """`n` of a state that a stencil joins on a lattice of n * n * n units; None of another."""
    lattice = {op.x for op in walk(net.step) if isinstance(op, ops.Stencil)}
    units = int(np.prod(state.shape))
    edge = round(units ** (1 / 3))
    return edge if state.name in lattice and edge**3 == units else None


def _cube(net: IntNet, golden: Run) -> CubeCodes | None:
    for state in net.states:
        edge = cube_edge(net, state)
        if edge is None or edge > _LARGEST_EDGE:
            continue
        codes = golden.states[state.name][:, 0]
        moved = np.diff(codes, axis=0, prepend=codes[:1] if state.init else np.zeros_like(codes[:1]))
        last = len(codes) - 1
        ticks = np.unique(np.geomspace(1, last + 1, min(_SHOWN_CUBES, last + 1)).round().astype(int) - 1)
        return {
            "state": state.name,
            "sample": 0,
            "edge": edge,
            "lowest": net.formats[state.name].lo,
            "highest": net.formats[state.name].hi,
            "ticks": (ticks + 1).tolist(),
            "codes": codes[ticks].reshape(len(ticks), -1).tolist(),
            "moves": np.abs(moved[ticks]).reshape(len(ticks), -1).tolist(),
        }
    return None


def _moves(state: State, golden: Run, from_zero: bool) -> NDArray[np.int64]:
    """Changes `[tick, batch, unit]`."""
    codes = golden.states[state.name]
    flat = codes.reshape(*codes.shape[:2], -1)
    return np.diff(flat, axis=0, prepend=0) if from_zero else np.diff(flat, axis=0)


def _units(state: State, net: IntNet, golden: Run, sample: int) -> UnitCodes:
    codes = golden.states[state.name][:, sample]
    flat = codes.reshape(len(codes), -1)[:_SHOWN_TICKS]
    fmt = net.formats[state.name]
    return {
        "unit": "code",
        "state": state.name,
        "sample": sample,
        "of_units": flat.shape[1],
        "format": str(fmt),
        "frac": state.frac or 0,
        "lowest": fmt.lo,
        "highest": fmt.hi,
        "codes": flat[:, :_SHOWN_UNITS].tolist(),
    }


def _logits(result: CompileResult, count: int) -> list[Logits]:
    """Of the first output, for each of the first samples."""
    net, output = result.net, result.net.outputs[0]
    codes = {name: array[:count] for name, array in result.samples.codes.items()}
    ticks = list(range(1, min(net.schedule.steps, _SHOWN_TICKS) + 1))
    runs = []
    for tick in ticks:
        shorter = replace(net, schedule=replace(net.schedule, steps=tick))
        runs.append(run_golden(shorter, codes, trace=False).outputs[output.name].reshape(count, -1))
    return [_sample_logits(output, k, ticks, [run[k].tolist() for run in runs]) for k in range(count)]


def _sample_logits(output: Output, sample: int, ticks: list[int], codes: list[list[int]]) -> Logits:
    return {
        "unit": "code",
        "output": output.name,
        "scale": output.scale,
        "sample": sample,
        "kind_of_output": output.kind,
        "ticks": ticks,
        "codes": codes,
    }
