"""Settings of a family from the configuration that a checkpoint carries: constructor and call arguments by name."""

from __future__ import annotations

from collections.abc import Mapping

from ..diagnostics import Diagnostic, ImportFileError
from ..ir import EqNet, ops
from ..passes import Analysis
from .family import Family

__all__ = ["STEP_NAMES", "settings_from_config", "width_faults"]

STEP_NAMES = ("steps", "steps_per_frame", "max_steps", "eq_steps", "equilibrium_steps")
"""What the source code calls the number of steps, in order of preference."""


def settings_from_config(
    family: Family, config: Mapping[str, object], forward_kwargs: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The family's settings that are stated, by setting name; absent or None leaves a setting out.

    `config` holds arguments of the source class, `forward_kwargs` those of its call, which win. The number of steps
    goes by any of its names; a call with `steps_per_frame` is one over frames. Everything else that the class takes
    (widths, learning rates, spectral norm) is either in the tensors or no part of inference, and is left out here;
    `width_faults` compares the widths.

    Raises ImportFileError for a call that no net can stand for.
    """
    call = {k: v for k, v in (forward_kwargs or {}).items() if v is not None}
    arguments = {k: v for k, v in config.items() if v is not None}
    if call.get("apply_homeostasis") is True:
        raise ImportFileError(
            Diagnostic(
                "stateful-call",
                "the call has apply_homeostasis=True, which rewrites the layer scales from each batch",
                family.key,
                "set apply_homeostasis=False: the scales in the file are then the network",
            )
        )
    stated: dict[str, object] = {}
    for setting in family.settings:
        names = STEP_NAMES if setting.name == "steps" else (setting.name,)
        for source in (call, arguments):
            value = next((source[n] for n in names if n in source), None)
            if value is not None:
                stated[setting.name] = value
                break
    if "steps_per_frame" in call and any(s.name == "frames" for s in family.settings):
        stated["frames"] = True
    return stated


def width_faults(net: EqNet, config: Mapping[str, object]) -> list[Diagnostic]:
    """Widths in a configuration that contradict the net built from the tensors."""
    first = net.inputs[0]
    hidden = {s.shape[-1] for s in net.states if s.shape}
    # Later convolutions widen by a factor; the first has the class's own width.
    convolutions = [net.param(op.weight).shape[0] for op in net.all_ops() if isinstance(op, ops.Conv)]
    types = Analysis.of(net).types
    classes = {types[o.value].shape[-1] for o in net.outputs if o.kind == "classes"}
    widths: dict[str, set[int]] = {"hidden_dim": hidden, "output_dim": classes}
    if first.rows is not None:
        widths["vocab_size"] = {first.rows}
    elif len(first.shape) == 1:
        widths["input_dim"] = {first.shape[0]}
    elif len(first.shape) == 3:
        widths["input_channels"] = {first.shape[0]}
    widths["hidden_channels"] = set(convolutions[:1])
    faults = []
    for name, actual in widths.items():
        stated = config.get(name)
        if isinstance(stated, int) and actual and stated not in actual:
            shown = " or ".join(map(str, sorted(actual)))
            faults.append(
                Diagnostic(
                    "config-width",
                    f"the configuration says {name}={stated}, the tensors say {shown}",
                    net.name,
                    "the tensors and the configuration belong to different networks",
                )
            )
    return faults
