"""Test data of an artifact as text: input codes, and what golden says that `main.c` must write for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.interfaces import Run, Vectors

from ...toolchain.ir import IntNet
from ...toolchain.passes import example_codes

__all__ = ["bench_inputs", "vector_files"]

Codes = NDArray[np.int64]

FRAMES = 2


def bench_inputs(net: IntNet) -> dict[str, Codes]:
    """Codes `[samples, (frame,) *shape]`: all zero, all at the upper end, all at the lower, and uniform ones."""
    return example_codes(net, uniform=1, frames=FRAMES if net.schedule.frames else None)


def vector_files(net: IntNet, vectors: Vectors) -> tuple[str, str]:
    """The input file of `main.c`, traced, and the output that it must write."""
    framed = net.schedule.frames
    text = _input([i.name for i in net.inputs], vectors.inputs, framed=framed, trace=True)
    return text, "\n".join([*_output(net, vectors.run, FRAMES if framed else 1), ""])


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
