"""How the net settles: movement, changing units, the states of one sample, and its logits, tick by tick."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import Run
from eqcompile.toolchain.ir import IntNet, State

from ..compile import CompileResult
from .schema import Logits, Relaxation, UnitCodes

__all__ = ["relaxation"]

_SHOWN_UNITS = 128
_SHOWN_TICKS = 64
_SAMPLE = 0


def relaxation(result: CompileResult) -> Relaxation:
    """Curves of the golden trace (integer codes), as JSON values.

    `movement`: by sample, the largest |change| of any unit in each tick, in LSB. `changing`: the fraction of units
    that change in each tick, over all samples. `units`: codes `[tick][unit]` of one state of one sample. `logits`:
    codes of the first output after each tick, by running golden with a smaller budget of steps; left out where the
    input is a sequence, since the budget is then one of each frame.
    """
    net, golden = result.net, result.golden
    shown = [s for s in net.states if s.frac is not None]
    # Codes before the first tick are not in a trace; they are known to be zero unless a state has its own start.
    known_start = all(s.init is None for s in shown)
    moves = [_moves(s, golden, known_start) for s in shown]
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
        "units": _units(shown[0], net, golden),
    }
    if not net.schedule.frames:
        curves["logits"] = _logits(result)
    return curves


def _moves(state: State, golden: Run, from_zero: bool) -> NDArray[np.int64]:
    """Changes `[tick, batch, unit]`."""
    codes = golden.states[state.name]
    flat = codes.reshape(*codes.shape[:2], -1)
    return np.diff(flat, axis=0, prepend=0) if from_zero else np.diff(flat, axis=0)


def _units(state: State, net: IntNet, golden: Run) -> UnitCodes:
    codes = golden.states[state.name][:, _SAMPLE]
    flat = codes.reshape(len(codes), -1)[:_SHOWN_TICKS]
    of = flat.shape[1]
    fmt = net.formats[state.name]
    return {
        "unit": "code",
        "state": state.name,
        "sample": _SAMPLE,
        "of_units": of,
        "format": str(fmt),
        "lowest": fmt.lo,
        "highest": fmt.hi,
        "codes": flat[:, :_SHOWN_UNITS].tolist(),
    }


def _logits(result: CompileResult) -> Logits:
    net, golden = result.net, run_golden
    output = net.outputs[0]
    codes = {name: array[_SAMPLE : _SAMPLE + 1] for name, array in result.samples.codes.items()}
    ticks = list(range(1, min(net.schedule.steps, _SHOWN_TICKS) + 1))
    rows = []
    for tick in ticks:
        shorter = replace(net, schedule=replace(net.schedule, steps=tick))
        rows.append(golden(shorter, codes, trace=False).outputs[output.name][0].reshape(-1).tolist())
    return {
        "unit": "code",
        "output": output.name,
        "scale": output.scale,
        "sample": _SAMPLE,
        "kind_of_output": output.kind,
        "ticks": ticks,
        "codes": rows,
    }
