"""`eqfault`: inject faults into a compiled net, with statistics that say how sure the result is."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from . import console

__all__ = ["main"]

_DESCRIPTION = """\
Inject faults into a compiled net and say what becomes of them: masked, healed, another fixed point, another label.

  eqfault run DIR --model M -o CAMPAIGN    draw faults, inject them, write a report
  eqfault resume CAMPAIGN                  go on with a campaign that was interrupted or killed
  eqfault report CAMPAIGN                  write report.html and report.json anew
  eqfault plan DIR --model M               how many faults a margin needs; runs nothing
  eqfault replay CAMPAIGN ID               one fault again, tick by tick
  eqfault models                           fault models and engines

DIR is the folder of an artifact of any target, or a net.onnx."""
_EXAMPLES = """\
  eqfault run out --model seu --inputs test.npz -o campaign
  eqfault run out --model seu --n 100000 --target fast --env sealevel --part P -o campaign
  eqfault run out --model seu --env geo --part amd-7-series-block-ram -o campaign
  eqfault plan --population 1000000 --margin 1% --confidence 95%"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `eqfault` with `argv` (default: the process's arguments); return the exit code."""
    if argv is None:
        console.end_on_termination()
    return console.run(_command, sys.argv[1:] if argv is None else argv)


def _command(argv: Sequence[str]) -> console.Reply:
    # A command is imported when it is asked for: help must not wait for NumPy.
    match argv[:1]:
        case ["run"]:
            from . import fault

            return fault.run(argv[1:])
        case ["resume"]:
            from . import fault

            return fault.resume(argv[1:])
        case ["report"]:
            from . import fault

            return fault.report(argv[1:])
        case ["plan"]:
            from . import fault

            return fault.plan(argv[1:])
        case ["replay"]:
            from . import fault_replay

            return fault_replay.command(argv[1:])
        case ["models"]:
            from . import fault_replay

            return fault_replay.models(argv[1:])
        case _:
            parser = console.Parser(prog="eqfault", description=_DESCRIPTION, examples=_EXAMPLES)
            parser.add_argument("command", choices=("run", "resume", "report", "plan", "replay", "models"))
            parser.parse_all(argv)
            raise AssertionError("every choice is a case above")


if __name__ == "__main__":
    sys.exit(main())
