"""Target `nir`: the network as a graph of the Neuromorphic Intermediate Representation."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from eqcompile.toolchain.interfaces import Emission, Plan, Progress, Refusals, Target, Vectors, quiet

from ...toolchain.artifact import CoreDescription
from ...toolchain.diagnostics import Diagnostic, MissingToolError
from ...toolchain.ir import EqNet, IntNet, check
from ...toolchain.passes import Analysis, output_keys
from ...toolchain.requirements import Requirements
from .. import inputs as inputs_module
from .lower import lower, preflight
from .templates import fill

if TYPE_CHECKING:
    from nir import NIRGraph

__all__ = ["NirTarget"]

MAX_NODES = 20_000


@dataclass(frozen=True, kw_only=True)
class NirTarget(Target):
    """Takes what affine maps, thresholds and delays hold without loss; refuses the rest, naming each operation."""

    name: ClassVar[str] = "nir"
    summary: ClassVar[str] = "a NIR graph of affine maps, thresholds and delays, equal to the integers bit for bit"
    install: ClassVar[str] = "pip install 'eqcompile[nir]'"
    conformance: ClassVar[tuple[str, ...]] = (
        "plain",
        "unsigned",
        "random*",
        "Looped*",
        "Ternary*",
        "LazyEqProp_release*",
        "NeuralCube*",
        "Temporal*",
        "Toroidal*",
    )

    def missing(self) -> Sequence[str]:
        return () if find_spec("nir") else ("nir",)

    def preflight(self, needs: Requirements) -> Sequence[Diagnostic]:
        return preflight(needs)

    def plan(self, net: IntNet, source: EqNet | None = None) -> NirPlan | Refusals:
        faults = list(check(net))
        if faults:
            return Refusals(tuple(faults))
        if self.missing():
            raise MissingToolError(Diagnostic("missing-tool", "nir is not installed", self.name, self.install))
        graph, faults = lower(net)
        if not faults and len(graph.nodes) > MAX_NODES:
            what = f"the graph would have {len(graph.nodes)} nodes, at most {MAX_NODES} are written"
            faults = [Diagnostic("nir-size", what, net.name, "choose fewer --state-bits, which shortens the tables")]
        return Refusals(tuple(faults)) if faults else NirPlan(net, graph)


@dataclass(frozen=True)
class NirPlan(Plan):
    """`graph`: an `nir.NIRGraph`."""

    graph: NIRGraph

    @property
    def core(self) -> CoreDescription:
        return CoreDescription()

    def emit(self, folder: Path, vectors: Vectors | None, progress: Progress = quiet) -> Emission:
        import nir

        net, graph = self.net, self.graph
        graph.metadata = {"steps": net.schedule.steps, "dt": 1.0, "ir_digest": net.digest}
        nir.write(folder / "net.nir", graph)
        types = Analysis.of(net).types
        host = {
            "inputs": {
                i.name: [list(i.shape), *i.limits, None if i.encoding is None else i.encoding.scale] for i in net.inputs
            },
            "states": {s.name: list(s.shape) for s in net.states},
            "outputs": {o.name: [output_keys(net)[o.name], list(types[o.value].shape)] for o in net.outputs},
            "steps": net.schedule.steps,
            "tolerance": net.schedule.tolerance,
            "frames": net.schedule.frames,
            "every_frame": net.schedule.emit == "every",
        }
        (folder / "net.json").write_text(json.dumps(host, indent=2) + "\n", encoding="utf-8")
        run = fill("run.py.tmpl")
        (folder / "run.py").write_text(run, encoding="utf-8")
        shutil.copyfile(inputs_module.__file__, folder / "inputs.py")
        kinds = Counter(type(node).__name__ for node in graph.nodes.values())
        (folder / "README.md").write_text(_readme(net, kinds), encoding="utf-8")
        counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        line = f"{len(graph.nodes)} nodes ({counted}), {len(graph.edges)} edges [measured: counted]"
        return Emission({"needs": ["numpy", "nir"], "nodes": dict(sorted(kinds.items()))}, (line,))


def _readme(net: IntNet, kinds: Mapping[str, int]) -> str:
    rows = []
    for i in net.inputs:
        if i.encoding is not None:
            f, scale = i.encoding.format, i.encoding.scale
            rows.append(
                f"- `input-{i.name}`: codes `clip(rint(x / {scale!r}), {f.lo}, {f.hi})` of {list(i.shape)}, flat"
            )
    rows += [f"- `state-{s.name}`: codes of {list(s.shape)}, flat, after the ticks made so far" for s in net.states]
    rows += [f"- `output-{o.name}`: codes, one is {o.scale!r}; read them after the last tick" for o in net.outputs]
    return fill(
        "README.md.tmpl",
        title=net.name,
        kinds="\n".join(f"| {kind} | {count} |" for kind, count in sorted(kinds.items())),
        steps=net.schedule.steps,
        rows="\n".join(rows),
        digest=net.digest,
    )
