"""Test data of an artifact as text: input codes, and what golden says that `main.c` must write for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import Run

from ...toolchain.ir import IntNet
from ...toolchain.passes import example_codes

__all__ = ["vectors"]

Codes = NDArray[np.int64]

FRAMES = 2


def vectors(net: IntNet) -> tuple[str, str]:
    """Input and expected output, traced: all codes zero, all at the upper end, all at the lower, and uniform ones."""
    framed = net.schedule.frames
    inputs = example_codes(net, uniform=1, frames=FRAMES if framed else None)
    golden: Run = run_golden(net, inputs)
    given = _input([i.name for i in net.inputs], inputs, framed=framed, trace=True)
    return given, "\n".join([*_output(net, golden, FRAMES if framed else 1), ""])


def _input(names: Sequence[str], inputs: Mapping[str, Codes], *, framed: bool, trace: bool) -> str:
    """The input file of `main.c` for codes `[batch, (frame,) *shape]` of the inputs `names` in the net's order."""
    batch = len(inputs[names[0]])
    frames = inputs[names[0]].shape[1] if framed else 1
    rows = np.concatenate([np.reshape(inputs[name], (batch * frames, -1)) for name in names], axis=1)
    return "\n".join([f"{batch} {frames} {int(trace)}", *map(_numbers, rows), ""])


def _numbers(codes: Codes) -> str:
    return " ".join(map(str, codes.reshape(-1).tolist()))


def _output(net: IntNet, run: Run, frames: int) -> Iterator[str]:
    steps, every = net.schedule.steps, net.schedule.emit == "every"
    for sample, made in enumerate(run.steps.tolist()):
        for frame in range(frames):
            for tick in range(frame * steps, (frame + 1) * steps):
                yield from (f"state {s.name} {_numbers(run.states[s.name][tick, sample])}" for s in net.states)
            if every or frame == frames - 1:
                for name, codes in run.outputs.items():
                    yield f"output {name} {_numbers(codes[sample, frame] if every else codes[sample])}"
        yield f"steps {made}"
