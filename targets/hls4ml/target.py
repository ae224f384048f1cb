"""Target `hls4ml`: a project that Vitis HLS or Vivado HLS builds as it stands."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.interfaces import Emission, Plan, Progress, Refusals, Target, Vectors, quiet
from eqcompile.toolchain.options import Bounds, option
from eqcompile.toolchain.typed_json import JSON

from ...toolchain.artifact import CoreDescription, tool_versions
from ...toolchain.diagnostics import Diagnostic, MissingToolError
from ...toolchain.ir import EqNet, IntNet, Net, check
from ...toolchain.passes import MAX_WORD, Analysis, output_keys, wide_tables
from ...toolchain.requirements import Requirements
from .. import inputs as inputs_module
from .bench import bench_inputs, title_of, write_bench, write_vectors
from .body import Body
from .project import PROJECT, Settings, custom_graph, stock_graph, write_project
from .stock import Unrolled
from .stock import refusals as stock_refusals
from .templates import fill
from .values import BOOLEAN

__all__ = ["Hls4mlTarget"]

DOUBLE_BITS = 53
"""hls4ml hands codes to a simulation, and prints weights, as doubles."""
INSTALL = "pip install 'eqcompile[hls4ml]' && apt-get install g++"

Backend = Literal["Vitis", "Vivado"]


@dataclass(frozen=True, kw_only=True)
class Hls4mlTarget(Target):
    """Takes every valid IntNet without frames whose inputs, outputs and weights a double holds. Raises UsageError for
    options that make no project."""

    name: ClassVar[str] = "hls4ml"
    summary: ClassVar[str] = "an hls4ml project for Vitis HLS or Vivado HLS, the relaxation as one layer"
    install: ClassVar[str] = INSTALL
    conformance: ClassVar[tuple[str, ...]] = (
        "plain",
        "unsigned",
        "Looped*",
        "Ternary*",
        "Lazy*",
        "NeuralCube*",
        "Toroidal*",
    )

    backend: Backend = option("Vitis", help="who builds the project")
    part: str = option(
        "xcvu13p-flga2577-2-e",
        metavar="PART",
        pattern="[xX][a-zA-Z]{1,3}[0-9][a-zA-Z0-9]*(-[a-zA-Z0-9]+)+",
        help="device of AMD, as the tool names it: xc7z020clg400-1",
    )
    reuse: int = option(32, bounds=Bounds(1), help="how often a multiplier is used in a tick, at most; bits stay")
    unroll: int = option(
        0,
        metavar="K",
        bounds=Bounds(0),
        help="all K ticks of the net as layers of hls4ml itself, instead of one of ours",
    )

    def missing(self) -> Sequence[str]:
        return [*_absent_package(), *(["g++"] if shutil.which("g++") is None else [])]

    def preflight(self, needs: Requirements) -> Sequence[Diagnostic]:
        return [*_frames(needs.net)]

    def plan(self, net: IntNet, source: EqNet | None = None) -> Hls4mlPlan | Refusals:
        faults = [*check(net)] or [*_refusals(net)]
        if self.unroll:
            faults = faults or [*stock_refusals(net, self.unroll)]
        form = None if faults else Unrolled(net) if self.unroll else Body(net, self.reuse)
        if isinstance(form, Unrolled):
            faults = [*form.faults()]
        if faults or form is None:
            return Refusals(tuple(faults))
        if _absent_package():
            raise MissingToolError(Diagnostic("missing-tool", "hls4ml is not installed", self.name, INSTALL))
        return Hls4mlPlan(net, self, form)

    def _readme(self, net: IntNet, project: str, form: Unrolled | Body, samples: int) -> str:
        run = {"Vitis": "vitis-run --mode hls --tcl build_prj.tcl", "Vivado": "vivado_hls -f build_prj.tcl"}
        given: dict[str, object] = {"project": project, "steps": net.schedule.steps, "reuse": self.reuse}
        if isinstance(form, Body):
            rows = [f"| `{name}` | {m.reuse} | {m.lanes} | {m.outputs} x {m.inputs} |" for name, m in form.maps.items()]
            about = fill("about_layer.md.tmpl", **given, maps="\n".join(rows))
        else:
            about = fill("about_stock.md.tmpl", **given)
        return fill(
            "README.md.tmpl",
            title=title_of(net),
            project=project,
            backend=self.backend,
            part=self.part,
            command=run[self.backend],
            about=about.strip(),
            samples=samples,
            compared="every output"
            if isinstance(form, Unrolled)
            else "every output, the ticks made, and (C simulation) the states of every tick",
            digest=net.digest,
        )


@dataclass(frozen=True)
class Hls4mlPlan(Plan):
    """The relaxation as one layer (`Body`), or all its ticks as layers of hls4ml (`Unrolled`)."""

    target: Hls4mlTarget
    form: Unrolled | Body

    @property
    def core(self) -> CoreDescription:
        return CoreDescription()

    @property
    def bench_inputs(self) -> Mapping[str, NDArray[np.int64]]:
        return bench_inputs(self.net)

    def emit(self, folder: Path, vectors: Vectors | None, progress: Progress = quiet) -> Emission:
        assert vectors is not None
        net, target, form = self.net, self.target, self.form
        settings = Settings(target.backend, target.part, target.reuse, net.digest[:8])
        graph = stock_graph(form, settings) if isinstance(form, Unrolled) else custom_graph(form, settings)
        write_project(graph, folder, settings)
        types = [port.type.name for port in (*graph.get_input_variables(), *graph.get_output_variables())]
        write_bench(net, folder / f"{PROJECT}_test.cpp", PROJECT, form.inputs, form.outputs, types)
        samples = write_vectors(net, vectors, folder, ticks=isinstance(form, Body))
        (folder / "run.py").write_text(_run(net, PROJECT, form), encoding="utf-8")
        shutil.copyfile(inputs_module.__file__, folder / "inputs.py")
        (folder / "README.md").write_text(target._readme(net, PROJECT, form, samples), encoding="utf-8")
        details: dict[str, JSON] = {
            "project": PROJECT,
            "form": "stock layers" if isinstance(form, Unrolled) else "custom layer",
            "maps": {} if isinstance(form, Unrolled) else _maps(form),
            "vector_samples": samples,
            "tools": tool_versions("hls4ml"),
        }
        return Emission(details, ("an HLS project; no vendor tool was run on it",))


def _maps(body: Body) -> dict[str, dict[str, JSON]]:
    return {
        name: {"reuse": found.reuse, "multipliers": found.lanes, "turns": [found.outputs, found.inputs]}
        for name, found in body.maps.items()
    }


def _run(net: IntNet, project: str, form: Unrolled | Body) -> str:
    shapes = Analysis.of(net).shapes
    keys = output_keys(net)
    outputs = {keys[o.name]: shapes[o.value] for o in net.outputs}
    simulate = fill("simulate.py.tmpl")
    if isinstance(form, Unrolled):
        simulate = f"{_trace(form)}\n{fill('simulate_trace.py.tmpl')}"
    else:
        outputs |= {"steps": ()}
    return fill(
        "run.py.tmpl",
        project=project,
        inputs="\n".join(
            f"    {i.name!r}: {(i.shape, *i.limits, None if i.encoding is None else i.encoding.scale)!r},"
            for i in net.inputs
        ),
        outputs="\n".join(f"    {name!r}: {shape!r}," for name, shape in outputs.items()),
        states="\n".join(f"    {s.name!r}: {s.shape!r}," for s in net.states),
        steps=net.schedule.steps,
        simulate=simulate,
    )


def _trace(form: Unrolled) -> str:
    """Python text: for each state the layer, or the codes, that it is after each tick; its codes before the first."""
    rows = []
    for name, values in form.states.items():
        entries = [v if isinstance(v, str) else v.reshape(-1).tolist() for v in values]
        rows.append(f"    {name!r}: ({entries!r}, {form.initial[name].tolist()!r}),")
    return "\n".join(["TRACE = {", *rows, "}", ""])


def _absent_package() -> Sequence[str]:
    return () if find_spec("hls4ml") else ("hls4ml",)


def _frames(net: Net) -> Iterator[Diagnostic]:
    if net.schedule.frames:
        what = "the net reads frames and carries states over; the layer starts every input from the initial state"
        yield Diagnostic("hls-frames", what, net.name, "use another target, such as c or rtl")


def _refusals(net: IntNet) -> Iterator[Diagnostic]:
    """What the template does not hold."""
    yield from _frames(net)
    wide = [(i.name, f"input {i.name}", i.encoding.format.bits) for i in net.inputs if i.encoding is not None]
    wide += [(o.name, f"output {o.name}", net.formats.get(o.value, BOOLEAN).bits) for o in net.outputs]
    wide += [
        (p.name, f"parameter {p.name}", max(int(p.value.max()), -int(p.value.min()) - 1).bit_length() + 1)
        for p in net.params
        if p.value.size
    ]
    for where, what, bits in wide:
        if bits > DOUBLE_BITS:
            what = f"{what} has {bits} bits, a double of hls4ml holds {DOUBLE_BITS}"
            yield Diagnostic("hls-width", what, where, "choose narrower formats")
    for op, reach in wide_tables(net):
        what = f"{op.mnemonic} {op.out} meets {reach} on the way, the template holds {MAX_WORD}"
        yield Diagnostic("hls-width", what, op.out, "choose narrower states")
