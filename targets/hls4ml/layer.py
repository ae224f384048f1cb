"""The relaxation as a layer of hls4ml, through its Extension API: layer class, templates and source are registered."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from ...toolchain.ir import Format
from .body import Body
from .templates import HEADER

if TYPE_CHECKING:
    from hls4ml.backends.template import Template
    from hls4ml.model.layers import Layer
    from hls4ml.model.types import IntegerPrecisionType

__all__ = ["CLASS_NAME", "precision", "register"]

CLASS_NAME = "EqRelaxation"


def precision(of: Format) -> IntegerPrecisionType:
    """hls4ml's integer type of a format."""
    from hls4ml.model.types import IntegerPrecisionType

    return IntegerPrecisionType(width=of.bits, signed=of.signed)


@cache
def _extension() -> tuple[type[Layer], tuple[type[Template], ...]]:
    """The layer class and its templates. Defined here, because their bases are hls4ml's, which is imported when a
    project is written and never before."""
    from hls4ml.backends.template import FunctionCallTemplate, LayerConfigTemplate
    from hls4ml.model.layers import Layer

    class EqRelaxation(Layer):
        """All of a net: the attribute `body` holds its C++ and its constants."""

        def initialize(self) -> None:
            """Declare the outputs and the constants under the names that the C++ uses."""
            body: Body = self.attributes["body"]
            for port in body.outputs:
                self.add_output_variable([port.size], port.name, port.name, f"{port.name}_t", precision(port.format))
                self.set_attr(f"{port.name}_t", self.get_output_variable(port.name).type)
            for made in body.stored:
                name, type_name = made.name, f"{made.name}_t"
                self.add_weights_variable(name, name, type_name, precision(made.format), data=made.codes)

    class EqRelaxationConfig(LayerConfigTemplate):
        """The functions of the net, where hls4ml puts the configuration of a layer: behind the weights."""

        def __init__(self) -> None:
            super().__init__(EqRelaxation)

        def format(self, node: Layer) -> str:
            """Text for `parameters.h`."""
            text: str = node.get_attr("body").text
            return text

    class EqRelaxationCall(FunctionCallTemplate):
        """The call in the top function."""

        def __init__(self) -> None:
            super().__init__(EqRelaxation, include_header=[f"nnet_utils/{HEADER.name}"])

        def format(self, node: Layer) -> str:
            """One statement."""
            body: Body = node.get_attr("body")
            return f"eq_relax({', '.join(port.name for port in (*body.inputs, *body.outputs))});"

    return EqRelaxation, (EqRelaxationConfig, EqRelaxationCall)


@cache
def register(backend_name: str) -> None:
    """Make the layer known to a backend of hls4ml, once in a process."""
    from hls4ml.backends import get_backend
    from hls4ml.model.layers import register_layer

    layer, templates = _extension()
    backend = get_backend(backend_name)
    register_layer(CLASS_NAME, layer)
    for template in templates:
        backend.register_template(template)
    backend.register_source(HEADER)
