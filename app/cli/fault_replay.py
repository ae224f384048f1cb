"""`eqfault replay` and `eqfault models`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..files import replacing
from ..options import ForceOption
from . import console
from .options import add_field_options, build

__all__ = ["command", "models"]

_EXAMPLES = """\
  eqfault replay campaign 3/state:h.12.6/state:h[12]^40@5
  eqfault replay campaign 0.17 --engine golden -o states.npz"""


def command(argv: Sequence[str]) -> console.Reply:
    """Inject one fault again and show how the net moves away and back."""
    text = "Inject one fault of a campaign again and tell its distance to the clean run, tick by tick."
    parser = console.Parser(prog="eqfault replay", description=text, examples=_EXAMPLES)
    parser.add_argument("campaign", type=Path, metavar="CAMPAIGN", help="folder of the campaign")
    parser.add_argument("fault", metavar="ID", help="id of a fault, or CHUNK.NUMBER of the table of results")
    parser.add_argument("--engine", metavar="E", help="engine (default: the campaign's)")
    parser.add_argument("-o", "--output", type=Path, metavar="Y.npz", help="also write every state after every tick")
    add_field_options(parser, ForceOption, None)
    namespace = parser.parse_all(argv)
    from eqcompile.sim.campaign import api

    document, states = api.replay(namespace.campaign, namespace.fault, engine=namespace.engine)
    if namespace.output is not None:
        import numpy as np

        with (
            replacing(namespace.output, force=build(ForceOption, namespace).force) as temporary,
            temporary.open("wb") as file,
        ):
            np.savez(file, **{f"state.{name}": codes for name, codes in states.items()})
        document["output"] = str(namespace.output)
    lines = [
        document["fault"],
        f"{document['net']} on engine {document['engine']} (simulated)",
        "  tick  codes differ  distance",
    ]
    lines += [f"  {row['tick']:>4}  {row['differ']:>12,}  {row['distance']:>8,}" for row in document["ticks"]]
    return console.Reply(document, "\n".join(lines))


def models(argv: Sequence[str]) -> console.Reply:
    """List fault models and engines."""
    text = "List the fault models and the engines that are installed."
    parser = console.Parser(prog="eqfault models", description=text, examples="  eqfault models --json")
    parser.parse_all(argv)
    from ..installation import injection

    document = injection()
    lines = ["models", *(f"  {name:<16} {summary}" for name, summary in document["models"].items()), "engines"]
    for name, engine in document["engines"].items():
        state = f"needs {', '.join(engine['missing'])}: {engine['install']}" if engine["missing"] else "installed"
        lines.append(f"  {name:<16} {state}")
    lines += [f"unavailable: {u['name']} ({u['entry_point']}): {u['reason']}" for u in document["unavailable"]]
    return console.Reply(document, "\n".join(lines))
