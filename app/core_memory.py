"""How much block RAM a core of a net takes of a part, before anything is synthesised."""

from __future__ import annotations

from eqcompile.targets.rtl.synth.parts import Part
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.ir import EqNet, IntNet, Net
from eqcompile.toolchain.options import QuantizeOptions

from .documents import Inspection

__all__ = ["with_memory"]


def with_memory(document: Inspection, source: Artifact | Net, part: Part | None) -> Inspection:
    """The document with what a core takes of `part`, unchanged if there is none: the core of an artifact of target
    `rtl`, else the one that `auto` chooses for the net. A float net is quantized with the default options first, and
    no calibration data.

    Raises UnsupportedError where no architecture takes the net, MissingToolError without Amaranth, and what quantizing
    raises.
    """
    if part is None:
        return document
    from eqcompile.quantization.lower import lower
    from eqcompile.targets.rtl.estimate import memory_estimate, memory_of_core
    from eqcompile.targets.rtl.synth.flow import engine_of

    if isinstance(source, Artifact) and source.manifest.target == "rtl":
        arch = str(source.manifest.details.get("arch"))
        estimate, basis = memory_of_core(engine_of(source.manifest.details), arch, part), "this core"
    else:
        net = source.net if isinstance(source, Artifact) else source
        basis = "the core that auto chooses"
        if isinstance(net, EqNet):
            options = QuantizeOptions()
            basis += f", with weights of {options.weights} and no calibration data"
            net = lower(net, options, calibration=None).net
        assert isinstance(net, IntNet)
        estimate = memory_estimate(net, part)
    return {**document, "core_memory": {"basis": basis, **estimate.to_json()}}
