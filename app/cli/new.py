"""`eqcompile new`: a package of one's own to change, which works as it is written."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from .console import Parser, Reply

__all__ = ["command"]


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
    from ..family_package import new_family

    place, written = new_family(namespace.name, out=namespace.out)
    shown = shlex.quote(str(place))
    lines = [
        f"{place}: {', '.join(written)}",
        f"next: pip install -e {shown} && python -m pytest {shown}",
        f"then: eqcompile inspect model.pt --family own.{namespace.name}",
    ]
    return Reply({"package": str(place), "family": f"own.{namespace.name}", "files": written}, "\n".join(lines))
