"""`eqcompile fault` (`eqfault`): inject faults into a compiled net, with statistics that say how sure the result is."""

from __future__ import annotations

from collections.abc import Sequence

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError

from .command import Command, choose, listing
from .console import Parser, Reply

__all__ = ["COMMANDS", "command"]

_EXAMPLES = """\
  eqfault run out --model seu --inputs test.npz -o campaign
  eqfault run out --model seu --faults 100000 --engine fast --env sealevel --part P -o campaign
  eqfault run out --model seu --env geo --part amd-7-series-block-ram -o campaign
  eqfault rate orbit.toml --mission 5y
  eqfault plan --population 1000000 --margin 1% --confidence 95%"""


def command(argv: Sequence[str]) -> Reply:
    """Run the command that the first word names; raises UsageError where it names none."""
    chosen = choose(COMMANDS, argv, "eqfault")
    if chosen is not None:
        return chosen.function(argv[1:])
    parser = Parser(prog="eqfault", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("command", choices=[c.name for c in COMMANDS], nargs="?")
    parser.parse_all(argv)
    names = ", ".join(c.name for c in COMMANDS)
    raise UsageError(Diagnostic("usage", f"a command is missing: {names}", hint="eqfault --help says what each does"))


def _run(argv: Sequence[str]) -> Reply:
    from . import fault

    return fault.run(argv)


def _resume(argv: Sequence[str]) -> Reply:
    from . import fault

    return fault.resume(argv)


def _report(argv: Sequence[str]) -> Reply:
    from . import fault

    return fault.report(argv)


def _plan(argv: Sequence[str]) -> Reply:
    from . import fault

    return fault.plan(argv)


def _exhaust(argv: Sequence[str]) -> Reply:
    from . import fault_exhaust

    return fault_exhaust.command(argv)


def _replay(argv: Sequence[str]) -> Reply:
    from . import fault_replay

    return fault_replay.command(argv)


def _pack(argv: Sequence[str]) -> Reply:
    from . import fault_pack

    return fault_pack.command(argv)


def _rate(argv: Sequence[str]) -> Reply:
    from . import fault_rate

    return fault_rate.command(argv)


def _models(argv: Sequence[str]) -> Reply:
    from . import fault_replay

    return fault_replay.models(argv)


COMMANDS: tuple[Command, ...] = (
    Command("run", "DIR --model M -o CAMPAIGN", "draw faults, inject them, write a report", _run),
    Command("resume", "CAMPAIGN", "go on with a campaign that was interrupted or killed", _resume),
    Command("report", "CAMPAIGN", "write report.html and report.json anew", _report),
    Command("plan", "DIR --model M", "how many faults a margin needs; runs nothing", _plan),
    Command("exhaust", "DIR --model M -o FOLDER", "every fault of a model: exact counts, maps", _exhaust),
    Command("replay", "CAMPAIGN ID", "one fault again, tick by tick", _replay),
    Command("pack", "CAMPAIGN -o FILE.zip", "evidence to hand over, what is excluded first", _pack),
    Command("rate", "FILE.toml", "upset rates of an orbit by kind of memory cell", _rate),
    Command("models", "", "fault models and engines", _models),
)
_DESCRIPTION = f"""\
Inject faults into a compiled net and say what becomes of them: masked, healed, another fixed point, another label.

{listing(COMMANDS, "eqfault")}

DIR is the folder of an artifact of any target, or a net.onnx. eqfault is a short name of eqcompile fault."""
