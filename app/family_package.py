"""A package of one's own to change, which works as it is written."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.resources import files
from pathlib import Path
from string import Template

from eqcompile.toolchain.artifact import new_folder
from eqcompile.toolchain.diagnostics import Diagnostic, UsageError

__all__ = ["new_family"]

_FILES = {"pyproject.toml": "pyproject.toml", "module.py": "$module.py", "test.py": "test_$module.py"}
"""Templates, and what the files made of them are called."""


def new_family(name: str, *, out: str | Path | None = None) -> tuple[Path, list[str]]:
    """Write a package with one family of networks and its test; return its folder and files.

    Args:
        name: class of the network, as MyNet.
        out: folder of the package (default: my_net for MyNet).

    Raises UsageError for a name that no class of Python can have, ArtifactError if the folder exists or cannot be
    written.
    """
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) or keyword.iskeyword(name):
        raise UsageError(
            Diagnostic("usage", f"{name!r} is no name of a class", "NAME", "as in eqcompile new family MyNet")
        )
    module = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    if keyword.iskeyword(module) or module in sys.stdlib_module_names:
        module += "_net"
    place: Path = Path(module if out is None else out)
    words = {"name": name, "module": module, "package": module.replace("_", "-")}
    templates = files("eqcompile.app.cli").joinpath("family")
    written = {}
    with new_folder(place, force=False) as folder:
        for template, file in _FILES.items():
            text = templates.joinpath(f"{template}.tmpl").read_text(encoding="utf-8")
            written[Template(file).substitute(words)] = Template(text).substitute(words)
        for file, text in written.items():
            (folder / file).write_text(text, encoding="utf-8")
    return place, list(written)
