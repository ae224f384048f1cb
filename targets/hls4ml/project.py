"""An hls4ml project in a folder: what hls4ml writes, made reproducible, with a test bench that compares.

Imports hls4ml, so it is imported where a project is written and nowhere else.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hls4ml.model.graph import ModelGraph
from hls4ml.utils.config import create_config
from hls4ml.writer import get_writer

from ...toolchain.ir import Format
from .body import Body
from .layer import EqRelaxation, precision, register

__all__ = ["PROJECT", "Settings", "custom_graph", "write_project"]

PROJECT = "relaxation"


@dataclass(frozen=True)
class Settings:
    """What hls4ml is told: its backend, the part, the reuse factor, and a stamp in the name of the compiled library."""

    backend: str
    part: str
    reuse: int
    stamp: str


def custom_graph(body: Body, settings: Settings) -> Any:
    """The graph of a net as one layer of our own."""
    register(settings.backend)
    inputs = [_input(port.name, port.size) for port in body.inputs]
    layer = {
        "name": "relax",
        "class_name": EqRelaxation.__name__,
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
    )


def _input(name: str, size: int) -> dict[str, Any]:
    return {"name": name, "class_name": "InputLayer", "input_shape": [size]}


def graph_of(
    layers: Sequence[Mapping[str, Any]],
    inputs: Sequence[str],
    outputs: Sequence[str],
    formats: Mapping[str, Format],
    settings: Settings,
    *,
    strategy: str = "Resource",
    layer_types: Mapping[str, Mapping[str, str]] | None = None,
) -> Any:
    """A ModelGraph of hls4ml; `formats`: integer types of inputs; `layer_types`: other types, by layer and kind."""
    named = {name: {"Precision": {"result": str(precision(of))}} for name, of in formats.items()}
    named |= {name: {"Precision": dict(types)} for name, types in (layer_types or {}).items()}
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
            "Strategy": strategy,
            # A pipelined top function would unroll every loop below it.
            "PipelineStyle": "dataflow",
        },
        "LayerName": named,
    }
    return ModelGraph.from_layer_list(config, [dict(layer) for layer in layers], inputs=inputs, outputs=outputs)


def write_project(graph: Any, folder: Path, settings: Settings) -> None:
    """Write the project of a graph: no path of this machine, no random stamp."""
    graph.config.config["OutputDir"] = str(folder)
    graph.config.config["Stamp"] = settings.stamp
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        get_writer(settings.backend).write_hls(graph)
    config = folder / "hls4ml_config.yml"
    config.write_text(config.read_text(encoding="utf-8").replace(f"OutputDir: {folder}\n", "OutputDir: .\n"), "utf-8")
