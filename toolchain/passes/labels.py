"""Names of the labels among the results of an artifact."""

from __future__ import annotations

from ..ir import Net

__all__ = ["label_keys"]


def label_keys(net: Net) -> dict[str, str]:
    """Key of the labels of each output of classes: `labels`, or `labels.<output>` where there are several."""
    classes = [o.name for o in net.outputs if o.kind == "classes"]
    return {name: "labels" if len(classes) == 1 else f"labels.{name}" for name in classes}
