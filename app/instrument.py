"""Instrumented artifacts for fault campaigns: the engines that run hardware get them handed in, and build none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from eqcompile.toolchain import registry
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.typed_json import JsonObject

from .emission import emit_artifact

__all__ = ["build_instrument", "instrument_builder"]


def build_instrument(target: str, net: IntNet, core: JsonObject, folder: Path) -> None:
    """Emit what an engine of `target` runs into an empty folder: of `rtl` the core that `core` describes (empty: the
    serial core as it is by default) with saboteurs and a trace, of other targets the artifact itself.

    Raises UnsupportedError with every reason why the target does not take the net.
    """
    # With a trace, the core that is checked against is the only other one to convert.
    options = {"arch": "serial", **core, "trace": True, "saboteurs": True} if target == "rtl" else {}
    emit_artifact(registry.target_class(target).of(**options), net, folder)


def instrument_builder(net: IntNet, core: JsonObject, stack: ExitStack) -> Callable[[str], Path]:
    """A function that builds the instrumented artifact of a target into a temporary folder, which `stack` removes."""

    def build(target: str) -> Path:
        folder = Path(
            stack.enter_context(TemporaryDirectory(prefix="eqcompile-instrument-", ignore_cleanup_errors=True))
        )
        build_instrument(target, net, core, folder)
        return folder

    return build
