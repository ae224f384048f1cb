"""`eqcompile new`: a package of one's own to change, which works as it is written."""

from __future__ import annotations

import keyword
import re
import shlex
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from eqcompile.toolchain.artifact import new_folder
from eqcompile.toolchain.diagnostics import Diagnostic, UsageError

from .console import Parser, Reply

__all__ = ["command"]

_FILES = {"pyproject.toml": "pyproject.toml", "module.py": "$module.py", "test.py": "test_$module.py"}
"""Templates, and what the files made of them are called."""


def command(argv: Sequence[str]) -> Reply:
    """Write a package with a plug-in of one kind, and its test.

    Raises UsageError for a name that no class of Python can have, ArtifactError if the folder exists or cannot be
    written.
    """
    parser = Parser(
        prog="eqcompile new",
        description="Write a small package with one family of networks and its test: installed, it makes eqcompile read"
        " checkpoints of your class. Change the names of the tensors and the step in it.",
        examples="  eqcompile new family MyNet\n  pip install -e my_net && python -m pytest my_net",
    )
    parser.add_argument("kind", choices=["family"], help="what the package adds")
    parser.add_argument("name", metavar="NAME", help="class of the network, as MyNet")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the package (default: my_net for MyNet)")
    namespace = parser.parse_all(argv)
    name: str = namespace.name
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) or keyword.iskeyword(name):
        raise UsageError(
            Diagnostic("usage", f"{name!r} is no name of a class", "NAME", "as in eqcompile new family MyNet")
        )
    module = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    if keyword.iskeyword(module) or module in sys.stdlib_module_names:
        module += "_net"
    place: Path = Path(module) if namespace.out is None else namespace.out
    words = {"name": name, "module": module, "package": module.replace("_", "-")}
    templates = files(__package__).joinpath("family")
    written = {}
    with new_folder(place, force=False) as folder:
        for template, file in _FILES.items():
            text = templates.joinpath(f"{template}.tmpl").read_text(encoding="utf-8")
            written[Template(file).substitute(words)] = Template(text).substitute(words)
        for file, text in written.items():
            (folder / file).write_text(text, encoding="utf-8")
    shown = shlex.quote(str(place))
    lines = [
        f"{place}: {', '.join(written)}",
        f"next: pip install -e {shown} && python -m pytest {shown}",
        f"then: eqcompile inspect model.pt --family own.{name}",
    ]
    return Reply({"package": str(place), "family": f"own.{name}", "files": list(written)}, "\n".join(lines))
