"""The folder `ip/` of a core."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eqcompile.toolchain.ir import IntNet

from ..registers import register_rows
from .interfaces import Interfaces, ip_name, plain_text
from .ipxact import component_xml
from .vivado import constraints, package_script

if TYPE_CHECKING:
    # It imports Amaranth, which a list of targets must not wait for.
    from eqcompile.rtl.shell import Shell

__all__ = ["write_ip"]


def write_ip(
    net: IntNet,
    architecture: str,
    shell: Shell,
    folder: Path,
    *,
    top: str,
    contents: Sequence[str],
    clock_mhz: float | None,
) -> None:
    """Write the folder, which must not be there, beside the Verilog of the module `top`; `shell` is what that holds,
    `contents` are the files beside it that it reads into memories."""
    interfaces, rows = Interfaces.of(shell), register_rows(shell)
    vlnv = ip_name(net.digest, architecture)
    title = f"Relaxation core of the net {plain_text(net.name)}, architecture {plain_text(architecture)}"
    component = component_xml(vlnv, interfaces, rows, top=top, contents=contents, title=title)
    files = {
        "component.xml": component,
        "package.tcl": package_script(vlnv, interfaces, rows, contents=contents, title=title),
        f"{top}_ooc.xdc": constraints(clock_mhz),
    }
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
