"""The test bench of a project and its vectors: codes that go in, and what golden says that comes out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.interfaces import Vectors

from ...toolchain.ir import IntNet
from ...toolchain.passes import example_codes
from .scope import Port
from .templates import fill

__all__ = ["bench_inputs", "title_of", "write_bench", "write_vectors"]

Codes = NDArray[np.int64]

UNIFORM = 5
"""Samples of uniform codes beside those of one code throughout: zero and both ends."""


def title_of(net: IntNet) -> str:
    """The name of a net, fit for a comment."""
    return net.name if net.name.isascii() and net.name.isprintable() else json.dumps(net.name)


def bench_inputs(net: IntNet) -> dict[str, Codes]:
    """Codes `[samples, *shape]`: all zero, all at the upper end, all at the lower, and uniform ones."""
    return example_codes(net, uniform=UNIFORM)


def write_vectors(net: IntNet, vectors: Vectors, folder: Path, *, ticks: bool) -> int:
    """Write `tb_data`; how many samples. `ticks`: the project puts out the number of ticks, and has a trace port."""
    inputs, golden = vectors.inputs, vectors.run
    batch = len(golden.steps)
    outputs = [*golden.outputs.values(), *([golden.steps] if ticks else [])]
    data = folder / "tb_data"
    data.mkdir(exist_ok=True)
    _write(data / "tb_input_features.dat", [[x[s] for x in inputs.values()] for s in range(batch)])
    _write(data / "tb_output_predictions.dat", [[x[s] for x in outputs] for s in range(batch)])
    if not ticks:
        return batch
    states = list(golden.states.values())
    rows = [[x[tick, s] for x in states] for s in range(batch) for tick in range(net.schedule.steps)]
    _write(data / "tb_states.dat", rows)
    return batch


def _write(path: Path, rows: Iterable[Sequence[Codes]]) -> None:
    lines = (" ".join(str(code) for part in row for code in part.reshape(-1).tolist()) for row in rows)
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def write_bench(
    net: IntNet, path: Path, project: str, inputs: Sequence[Port], outputs: Sequence[Port], types: Sequence[str]
) -> None:
    """Write the test bench; `types`: C++ names of the types of all ports. It compares the states of every tick if the
    project has a trace port, that is, if the number of ticks is among its outputs."""
    traced = any(port.name == "ticks" for port in outputs)
    units = sum(int(np.prod(s.shape, dtype=int)) for s in net.states)
    steps = net.schedule.steps
    copied, start = [], 0
    for port in inputs:
        copied.append(f"for (unsigned i = 0; i < {port.size}; i++)")
        copied.append(f"    {port.name}[i] = given[{start} + i];")
        start += port.size
    ports = zip((*inputs, *outputs), types, strict=True)
    declared = [f"{type_} {port.name}[{port.size}];" for port, type_ in ports]
    collected = []
    for port in outputs:
        collected.append(f"for (unsigned i = 0; i < {port.size}; i++)")
        collected.append(f"    found.push_back({port.name}[i].to_int64());")
    path.write_text(
        fill(
            "bench.cpp.tmpl",
            title=title_of(net),
            project=project,
            compared=_TRACED if traced else "",
            trace_declared=_DECLARED if traced else "",
            states_opened=_OPENED.replace("SIZE", str(steps * units)) if traced else "",
            states_compared=_COMPARED.replace("STEPS", str(steps)).replace("UNITS", str(units)) if traced else "",
            input_size=start,
            declared=_indented(declared),
            copied=_indented(copied),
            arguments=", ".join(port.name for port in (*inputs, *outputs)),
            collected=_indented(collected),
        ),
        encoding="utf-8",
    )


_TRACED = """, and the
// states of every tick with tb_states.dat (C simulation alone: the hardware has no port for them)"""
_DECLARED = """
#ifndef RTL_SIM
extern "C" long long *eq_trace;
#endif
"""
_OPENED = """\
#ifndef RTL_SIM
    std::ifstream states("tb_data/tb_states.dat");
    std::vector<long long> trace(SIZE);
    eq_trace = &trace[0];
#endif"""
_COMPARED = """\
#ifndef RTL_SIM
        const size_t made = (size_t)found.back();
        for (size_t tick = 0; tick < STEPS; tick++) {
            const size_t row = (tick < made ? tick : made - 1) * UNITS;
            const std::vector<long long> state(trace.begin() + row, trace.begin() + row + UNITS);
            const std::vector<long long> wanted = numbers(states);
            codes += wanted.size();
            wrong += differing(state, wanted);
        }
#endif"""


def _indented(lines: Iterable[str]) -> str:
    return "\n".join(f"        {line}" for line in lines)
