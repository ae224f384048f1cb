"""An hls4ml project in a folder: what hls4ml writes, made reproducible."""

from __future__ import annotations

import io
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...toolchain.ir import Format
from .body import Body
from .layer import CLASS_NAME, precision, register
from .stock import Unrolled

if TYPE_CHECKING:
    from hls4ml.model.graph import ModelGraph

__all__ = ["PROJECT", "Settings", "custom_graph", "stock_graph", "write_project"]

PROJECT = "relaxation"


@dataclass(frozen=True)
class Settings:
    """What hls4ml is told: its backend, the part, the reuse factor, and a stamp in the name of the compiled library."""

    backend: str
    part: str
    reuse: int
    stamp: str


def custom_graph(body: Body, settings: Settings) -> ModelGraph:
    """The graph of a net as one layer of our own."""
    register(settings.backend)
    inputs = [_input(port.name, port.size) for port in body.inputs]
    layer = {
        "name": "relax",
        "class_name": CLASS_NAME,
        "inputs": [port.name for port in body.inputs],
        "outputs": [port.name for port in body.outputs],
        "body": body,
    }
    return graph_of(
        [*inputs, layer],
        [port.name for port in body.inputs],
        ["relax"],
        {port.name: port.format for port in body.inputs},
        settings,
        # A pipelined top function would unroll every loop below it.
        style={"Strategy": "Resource", "PipelineStyle": "dataflow"},
    )


def stock_graph(net: Unrolled, settings: Settings) -> ModelGraph:
    """The graph of a net that was unrolled into layers of hls4ml."""
    return graph_of(
        net.layers,
        [port.name for port in net.inputs],
        [port.name for port in net.outputs],
        {port.name: port.format for port in net.inputs},
        settings,
        # What the drive gives is read in every tick, which a dataflow of layers does not allow.
        style={"Strategy": "Latency", "PipelineStyle": "pipeline", "PipelineInterval": settings.reuse},
        layer_types=net.types,
        traced=net.traced(),
    )


def _input(name: str, size: int) -> dict[str, object]:
    return {"name": name, "class_name": "InputLayer", "input_shape": [size]}


def graph_of(
    layers: Sequence[Mapping[str, object]],
    inputs: Sequence[str],
    outputs: Sequence[str],
    formats: Mapping[str, Format],
    settings: Settings,
    *,
    style: Mapping[str, object],
    layer_types: Mapping[str, Mapping[str, str]] | None = None,
    traced: Collection[str] = (),
) -> ModelGraph:
    """A ModelGraph of hls4ml; `formats`: integer types of inputs; `style`: how it is pipelined; `layer_types`: other
    types, by layer and kind; `traced`: layers whose results a simulation keeps."""
    from hls4ml.model.graph import ModelGraph
    from hls4ml.utils.config import create_config

    named: dict[str, dict[str, object]] = {
        name: {"Precision": {"result": str(precision(of))}} for name, of in formats.items()
    }
    named |= {name: {"Precision": dict(types)} for name, types in (layer_types or {}).items()}
    for name in traced:
        named[name]["Trace"] = True
    config = create_config(
        output_dir=".",
        project_name=PROJECT,
        backend=settings.backend,
        part=settings.part,
        io_type="io_parallel",
        # In the headers alone, which synthesis reads, 18,000 weights take g++ half a minute.
        write_weights_txt=True,
    )
    config["HLSConfig"] = {
        "Model": {
            "Precision": {"default": "ap_int<32>"},
            "ReuseFactor": settings.reuse,
            **style,
        },
        "LayerName": named,
    }
    config["TraceOutput"] = bool(traced)
    with quiet():
        return ModelGraph.from_layer_list(config, [dict(layer) for layer in layers], inputs=inputs, outputs=outputs)


@contextmanager
def quiet() -> Iterator[None]:
    """hls4ml talks while it works, about choices that are stated in the manifest."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def write_project(graph: ModelGraph, folder: Path, settings: Settings) -> None:
    """Write the project of a graph: no path of this machine, no random stamp."""
    from hls4ml.writer import get_writer

    graph.config.config["OutputDir"] = str(folder)
    graph.config.config["Stamp"] = settings.stamp
    with quiet():
        get_writer(settings.backend).write_hls(graph)
    config = folder / "hls4ml_config.yml"
    config.write_text(config.read_text(encoding="utf-8").replace(f"OutputDir: {folder}\n", "OutputDir: .\n"), "utf-8")
