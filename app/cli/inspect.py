"""`eqcompile inspect`: what a checkpoint, a saved net or an artifact folder holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..options import InspectOptions
from . import show
from .console import Parser, Reply
from .options import add_field_options, build

__all__ = ["command"]

_EXAMPLES = """\
  eqcompile inspect model.pt
  eqcompile inspect model.pt --part ecp5-25k
  eqcompile inspect out --json"""


def command(argv: Sequence[str]) -> Reply:
    """Describe one file or folder; a checkpoint whose family is open is answered with the families that fit."""
    parser = Parser(
        prog="eqcompile inspect",
        description="Show what a checkpoint, a net.onnx or an artifact folder holds.",
        examples=_EXAMPLES,
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="checkpoint, net (.onnx) or artifact folder")
    add_field_options(parser, InspectOptions, None)
    namespace = parser.parse_all(argv)
    from ..inspection import inspect_path

    document = inspect_path(namespace.model, build(InspectOptions, namespace))
    return Reply(document, show.candidates(document) if "candidates" in document else show.inspection(document))
