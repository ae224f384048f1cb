"""Targets: options, and nets that one does not take."""

from __future__ import annotations

import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from emitting import emitted
from strategies import random_net, with_formats

from eqcompile.rtl.parallel.protect import ranked_units
from eqcompile.targets.c.target import CTarget
from eqcompile.targets.hls4ml.target import Hls4mlTarget
from eqcompile.targets.loihi.target import LoihiTarget
from eqcompile.targets.nir.target import NirTarget
from eqcompile.targets.numpy.target import NumpyTarget
from eqcompile.targets.onnx.target import OnnxTarget
from eqcompile.targets.rtl.board.write import bitstream, write_sources
from eqcompile.targets.rtl.synth import flow, tools
from eqcompile.targets.rtl.synth.fit import known_shortfalls
from eqcompile.targets.rtl.synth.flow import DoesNotFitError, placement_failure, require_rtl, synthesise
from eqcompile.targets.rtl.synth.harness import CorePort, core_ports, harness
from eqcompile.targets.rtl.synth.parse import timing_of
from eqcompile.targets.rtl.synth.parts import PARTS
from eqcompile.targets.rtl.synth.tools import Deadline, run_tool
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain.interfaces import Target
from eqcompile.toolchain.ir import Encoding, Format, Input, IntNet, Output, Param, Schedule, ops

from .case import ROOT, Case, Provocations, tiny

REPORT = ROOT / "tests" / "data" / "synth" / "ecp5_report.json"


def planned(target: Target, net: IntNet | None = None) -> Any:
    """A target asked for a net."""
    return target.require_plan(net or tiny())


def with_output(name: str) -> IntNet:
    """A net whose output has this name."""
    net = tiny()
    return replace(net, outputs=(replace(net.outputs[0], name=name),))


def with_param(name: str) -> IntNet:
    """A net whose matrix has this name."""
    net = tiny()
    params = tuple(replace(p, name=name) if p.name == "W" else p for p in net.params)
    return replace(net, params=params, step=(ops.Linear(out="w", x="h", weight=name), *net.step[1:]))


def with_weights(value: Any, **changes: Any) -> IntNet:
    """A net whose state is the table of its sums, which these weights make wide."""
    net = tiny()
    params = tuple(Param("W", np.array(value), "test") if p.name == "W" else p for p in net.params)
    formats = {n: f for n, f in net.formats.items() if n in ("h", "x")}
    step = (net.step[0], ops.Lookup(out="y", x="w", table="T", first=-8))
    return with_formats(replace(net, params=params, formats=formats, step=step, **changes))


def far_table() -> IntNet:
    """A table whose first operand is close to the end of a word."""
    net = tiny()
    return replace(net, step=(*net.step[:2], ops.Lookup(out="y", x="a", table="T", first=1 - (1 << 62))))


def wide_input(bits: int) -> IntNet:
    """A matrix of zeros on an input of so many bits."""
    net = IntNet(
        name="wide",
        family="test",
        inputs=(Input("x", (1,), encoding=Encoding(Format(bits, True), 1.0)),),
        params=(Param("W", np.array([[0]]), "test"),),
        states=(),
        drive=(),
        step=(),
        readout=(ops.Linear(out="y", x="x", weight="W"),),
        outputs=(Output("o", "y", "values", 1.0),),
        schedule=Schedule(1),
    )
    return with_formats(net)


def with_product() -> IntNet:
    """A random net with a product of two values."""
    nets = (random_net(random.Random(seed), spaces=("tokens",), tolerance=0) for seed in range(100))
    return next(n for n in nets if any(isinstance(op, ops.MatMul) for op in n.all_ops()))


def large() -> IntNet:
    """One unit that reads more inputs than a neurocore holds."""
    size = 1 << 17
    net = wide_input(2)
    params = (Param("W", np.ones((1, size), np.int64), "test"),)
    return with_formats(replace(net, inputs=(replace(net.inputs[0], shape=(size,)),), params=params, formats={}))


def many_nodes(case: Case) -> Any:
    case.patch.setattr("eqcompile.targets.nir.target.MAX_NODES", 3)
    return planned(NirTarget())


def other_artifact(case: Case) -> Any:
    return require_rtl(emitted(NumpyTarget(), tiny(), case.folder / "out"), "ecp5-25k")


def synthesised(case: Case, *, top: str = "core", seeds: tuple[int, ...] = (1,)) -> Any:
    return synthesise(case.folder / "core.v", top, "up5k", seeds=seeds, timeout_s=1.0)


def too_slow(case: Case) -> Any:
    def placed(tool: str, arguments: Any, *, cwd: Path, **_: object) -> tuple[int, str]:
        (cwd / "report.json").write_text(REPORT.read_text(encoding="utf-8"), encoding="utf-8")
        return 0, ""

    case.patch.setattr(flow, "run_tool", placed)
    case.file("top.v")
    return bitstream(case.folder, "top", PARTS["ecp5-25k"], case.file("pins").name, clock_hz=100_000_000, timeout_s=9.0)


def failed(case: Case) -> Any:
    case.patch.setattr(flow, "run_tool", lambda tool, *_, **__: (1, "ERROR: no such module\n"))
    case.file("top.v")
    return bitstream(case.folder, "top", PARTS["ecp5-25k"], case.file("pins").name, clock_hz=25_000_000, timeout_s=9.0)


def tool(case: Case, script: str, limit_s: float) -> Any:
    """A tool of synthesis that is a line of Python."""
    case.file("a_tool.py", f"import os, time\n\ndef run(argv):\n    {script}\n")
    case.patch.setenv("PYTHONPATH", str(case.folder))
    case.patch.setitem(tools.TOOLS, "yosys", ("a_tool", "run"))
    return run_tool("yosys", [], cwd=case.folder, deadline=Deadline.after(limit_s))


def unplaced() -> Any:
    raise placement_failure(PARTS["up5k"], "core", (), "ERROR: Failed to route\n")


def unfitting() -> Any:
    memories = [{"name": "weights", "width": 32, "depth": 1 << 16}]
    return require_fit_of({"memories": memories, "weight_bits": 8})


def require_fit_of(engine: Any) -> Any:
    raise DoesNotFitError(known_shortfalls(engine, PARTS["up5k"]), ())


TARGETS: Provocations = {
    "c-width": lambda case: planned(CTarget(), with_weights([[1 << 54, 1 << 54], [0, 0]])),
    "hls-frames": lambda case: planned(Hls4mlTarget(), tiny(frames=True)),
    "hls-unroll": lambda case: planned(Hls4mlTarget(unroll=8)),
    "hls-width": lambda case: planned(Hls4mlTarget(), with_weights([[1 << 54, 0], [0, 0]])),
    "loihi-capacity": lambda case: planned(LoihiTarget(chip="loihi1"), large()),
    "loihi-tolerance": lambda case: planned(LoihiTarget(), tiny(tolerance=2)),
    "loihi-unsupported": lambda case: planned(LoihiTarget(), with_product()),
    "loihi-width": lambda case: planned(LoihiTarget(), wide_input(32)),
    "nir-operation": lambda case: planned(NirTarget(), with_product()),
    "nir-size": many_nodes,
    "numpy-width": lambda case: planned(NumpyTarget(), far_table()),
    "onnx-input-bits": lambda case: planned(OnnxTarget(), wide_input(25)),
    "onnx-width": lambda case: planned(OnnxTarget(), far_table()),
    "does-not-fit": lambda case: unfitting(),
    "no-clock": lambda case: harness("core", [CorePort("ck", "input", 1)], "clk"),
    "no-frequency": lambda case: RtlTarget(synth="xilinx", clock=9.0),
    "no-outputs": lambda case: harness("core", [CorePort("clk", "input", 1)], "clk"),
    "no-seeds": lambda case: synthesised(case, seeds=()),
    "no-top": lambda case: synthesised(case, top="co re"),
    "no-verilog": synthesised,
    "not-rtl": other_artifact,
    "place-and-route-failed": lambda case: unplaced(),
    "port-direction": lambda case: core_ports(
        {"modules": {"core": {"ports": {"pad": {"direction": "inout", "bits": [2]}}}}}, "core"
    ),
    "rtl-protect": lambda case: ranked_units(case.file("report.json", "{}"), tiny(), 0.5),
    "synthesis-died": lambda case: tool(case, f"os.kill(os.getpid(), {int(signal.SIGKILL)})", 60.0),
    "synthesis-failed": failed,
    "synthesis-output": lambda case: timing_of("{}", "clk"),
    "synthesis-timeout": lambda case: tool(case, "time.sleep(60)", 0.2),
    "too-slow": too_slow,
    "unknown-board": lambda case: write_sources(tiny(), None, "no-such-board", case.folder, vectors=None, words=None),  # type: ignore[arg-type]
}
