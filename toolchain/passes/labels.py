"""Keys of the results of an artifact: what an output and its labels are called in a file, whatever the net says."""

from __future__ import annotations

from ..ir import Net

__all__ = ["label_keys", "output_keys"]

_TAKEN = frozenset({"batch", "file", "labels", "report", "steps"})
"""Results that every artifact has, the batch of an ONNX graph, and the parameter `file` of numpy.savez."""


def label_keys(net: Net) -> dict[str, str]:
    """Key of the labels of each output of classes: `labels`, or `labels.<output>` where there are several."""
    classes = [o.name for o in net.outputs if o.kind == "classes"]
    return {name: "labels" if len(classes) == 1 else f"labels.{name}" for name in classes}


def output_keys(net: Net) -> dict[str, str]:
    """Key of each output: its name, or `output.<name>` where something else has that key: another result, or an input.

    All other keys that are no single name begin with another word: `state.`, `labels.`, `codes.`, `events.`.
    """
    taken = _TAKEN | {i.name for i in net.inputs}
    names = [o.name for o in net.outputs]
    return {n: n if n.isidentifier() and n not in taken else f"output.{n}" for n in names}
