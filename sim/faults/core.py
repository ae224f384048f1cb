"""The core that a campaign is about, as the options of the target `rtl` that describe it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...toolchain import registry

__all__ = ["core_target"]


def core_target(core: Mapping[str, Any]) -> Any:
    """The target that emits this core with saboteurs; without options the serial core as it is by default. Raises
    UsageError for options that mean nothing."""
    target: Any = registry.target_class("rtl")
    # With a trace the core that is checked against is the only other one to convert.
    return target(**{"arch": "serial", **core}, trace=True, saboteurs=True)
