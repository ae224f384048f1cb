"""The relaxation as a layer of hls4ml, through its Extension API: layer class, templates and source are registered.

Imports hls4ml, so it is imported where a project is written and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hls4ml
from hls4ml.backends.template import FunctionCallTemplate, LayerConfigTemplate
from hls4ml.model.layers import Layer, layer_map, register_layer
from hls4ml.model.types import IntegerPrecisionType

from ...toolchain.ir import Format
from .body import Body
from .templates import HEADER

__all__ = ["EqRelaxation", "precision", "register"]


def precision(of: Format) -> Any:
    """The integer type of a format."""
    return IntegerPrecisionType(width=of.bits, signed=of.signed)


class EqRelaxation(Layer):
    """All of a net: the attribute `body` holds its C++ and its constants."""

    def initialize(self) -> None:
        """Declare the outputs and the constants under the names that the C++ uses."""
        body: Body = self.attributes["body"]
        for port in body.outputs:
            self.add_output_variable([port.size], port.name, port.name, f"{port.name}_t", precision(port.format))
            self.set_attr(f"{port.name}_t", self.get_output_variable(port.name).type)
        for made in body.stored:
            self.add_weights_variable(
                made.name, made.name, f"{made.name}_t", precision(made.format), data=made.codes, quantizer=None
            )


class EqRelaxationConfig(LayerConfigTemplate):
    """The functions of the net, where hls4ml puts the configuration of a layer: behind the weights."""

    def __init__(self) -> None:
        super().__init__(EqRelaxation)

    def format(self, node: Any) -> str:
        """Text for `parameters.h`."""
        text: str = node.get_attr("body").text
        return text


class EqRelaxationCall(FunctionCallTemplate):
    """The call in the top function."""

    def __init__(self) -> None:
        super().__init__(EqRelaxation, include_header=[f"nnet_utils/{HEADER.name}"])

    def format(self, node: Any) -> str:
        """One statement."""
        return f"eq_relax({', '.join(_arguments(node.get_attr('body')))});"


def _arguments(body: Body) -> Sequence[str]:
    return [port.name for port in (*body.inputs, *body.outputs)]


def register(backend_name: str) -> None:
    """Make the layer known to a backend of hls4ml; a second time changes nothing."""
    backend = hls4ml.backends.get_backend(backend_name)
    if EqRelaxation.__name__ not in layer_map:
        register_layer(EqRelaxation.__name__, EqRelaxation)
    templates = set(hls4ml.model.optimizer.get_backend_passes(backend.name))
    for template in (EqRelaxationConfig, EqRelaxationCall):
        if f"{backend.name.lower()}:{template().get_name()}" not in templates:
            backend.register_template(template)
    backend.register_source(HEADER)
