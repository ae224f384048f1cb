"""`eqfault run`, `resume`, `report` and `plan`."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.options import option

from ..campaign_options import BaselineOptions, CampaignOptions, EnvironmentOptions, WorkerOptions, environment
from ..options import COUNT, ForceOption
from .console import INTERRUPTED, Parser, Reply
from .fault_options import parse_campaign
from .options import add_field_options, build

if TYPE_CHECKING:
    from eqcompile.sim.campaign.api import Standing

__all__ = ["plan", "report", "resume", "run"]

_EXAMPLES = """\
  eqfault run out --model seu --inputs test.npz -o campaign
  eqfault run out --model seu --faults exhaustive --engine fast --baseline mlp -o campaign
  eqfault run --model seu --help           this help with the options of model seu"""


_REQUIRED = {"source": "DIR", "output": "-o CAMPAIGN", "model": "--model M"}


@dataclass(frozen=True, kw_only=True)
class _PopulationOption:
    population: int | None = option(None, bounds=COUNT, help="faults there are, in place of DIR")


def _parser(name: str, text: str) -> Parser:
    return Parser(prog=f"eqfault {name}", description=text, examples=_EXAMPLES)


def run(argv: Sequence[str]) -> Reply:
    """Make a campaign, run it, and report."""
    from .. import campaign as campaigns

    parser = _parser("run", "Draw faults, inject them into a compiled net, and report what became of them.")
    parser.add_argument("source", type=Path, nargs="?", metavar="DIR", help="artifact folder, or net.onnx")
    parser.add_argument("-o", "--output", type=Path, metavar="CAMPAIGN", help="folder of the campaign")
    add_field_options(parser, ForceOption, None)
    add_field_options(parser, WorkerOptions, "workers")
    add_field_options(parser, BaselineOptions, "baselines")
    add_field_options(parser, EnvironmentOptions, "environment (rates of upsets and failures in the report)")
    namespace, options, model_options = parse_campaign(parser, argv, kind=CampaignOptions, required=_REQUIRED)
    against = build(BaselineOptions, namespace)
    notes = environment(build(EnvironmentOptions, namespace))
    notes["command"] = shlex.join(["eqfault", "run", *argv])

    campaigns.make(
        options,
        model_options,
        namespace.source,
        options.inputs,
        namespace.output,
        against=against,
        notes=notes,
        force=build(ForceOption, namespace).force,
    )
    workers = build(WorkerOptions, namespace)
    return _reported(namespace.output, lambda: campaigns.begin(namespace.output, workers=workers, show=True))


def resume(argv: Sequence[str]) -> Reply:
    """Go on with a campaign."""
    parser = _parser("resume", "Go on with a campaign that was interrupted or killed: no fault is lost or doubled.")
    parser.add_argument("output", type=Path, metavar="CAMPAIGN", help="folder of the campaign")
    add_field_options(parser, WorkerOptions, "workers")
    namespace = parser.parse_all(argv)
    from .. import campaign as campaigns

    workers = build(WorkerOptions, namespace)
    return _reported(namespace.output, lambda: campaigns.resume(namespace.output, workers=workers, show=True))


def _reported(folder: Path, work: Callable[[], None]) -> Reply:
    """What stands in the folder of a campaign after some work, or after its interruption."""
    from eqcompile.sim.campaign import api

    try:
        work()
    except KeyboardInterrupt:
        parts = api.standing(folder)
        text = f"{_summary(parts)}\ninterrupted; eqfault resume {shlex.quote(str(folder))} goes on"
        return Reply({**parts, "interrupted": True, "folder": str(folder)}, text, INTERRUPTED)
    parts, page = api.standing(folder), folder / "report.html"
    lines = [_summary(parts), *_rates(folder), str(page)]
    return Reply({**parts, "folder": str(folder), "report": str(page)}, "\n".join(lines))


def _rates(folder: Path) -> list[str]:
    """What the report says in front of rates in an environment; nothing without one."""
    from ..report.campaign.headline import environment_rows

    document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return [f"  {name}: {value} ({kind})" for name, value, kind in environment_rows(document)]


def report(argv: Sequence[str]) -> Reply:
    """Write the report of what is stored."""
    from ..report.campaign import place, write

    parser = _parser("report", "Write report.html and report.json of what a campaign holds so far.")
    parser.add_argument("output", type=Path, metavar="CAMPAIGN", help="folder of the campaign")
    help = "another campaign to compare with (may be stated again)"
    parser.add_argument("--against", type=Path, action="append", default=[], metavar="CAMPAIGN", help=help)
    help = "folder of the report (default: the campaign's, and one inside it for a comparison)"
    parser.add_argument("--report", type=Path, metavar="DIR", help=help)
    namespace = parser.parse_all(argv)
    output = namespace.report or place(namespace.output, namespace.against)
    document = write(namespace.output, against=namespace.against, output=output)
    return Reply(document, str(output / "report.html"))


def plan(argv: Sequence[str]) -> Reply:
    """How many faults are needed.

    Raises UsageError unless there is either DIR with a model, or a population.
    """
    from .. import campaign as campaigns

    parser = _parser("plan", "How many faults a margin needs, of a net's population or of one that is given.")
    parser.add_argument("source", type=Path, nargs="?", metavar="DIR", help="artifact folder, or net.onnx")
    add_field_options(parser, _PopulationOption, None)
    namespace, options, model_options = parse_campaign(parser, argv, kind=CampaignOptions)
    population = build(_PopulationOption, namespace).population
    if namespace.source is None:
        document = campaigns.plan_of_population(population, options)
        return Reply(
            document, f"{document['faults']:,} faults ({document['infinite_population']:,} of infinitely many)"
        )
    if population is not None or options.model is None:
        what = "give DIR and --model, or --population alone"
        raise UsageError(Diagnostic("usage", what, hint="eqfault plan --help"))
    with contextlib.ExitStack() as stack:
        campaign = campaigns.define(options, model_options, namespace.source, options.inputs, {}, stack)
    planned = {"net": campaign.net.name, "model": options.model, **campaign.plan.to_json(), "kind": "estimated"}
    return Reply(planned, "\n".join([campaign.plan.how, *campaign.notes.get("choices", ())]))


def _summary(parts: Mapping[str, Standing]) -> str:
    """Outcomes of a campaign and of its baselines, as text."""
    lines = []
    for part, d in parts.items():
        head = "" if part == "campaign" else f"{part}: "
        core = "".join(f", {name} {value}" for name, value in d["core"].items())
        what = f"{d['net']}, model {d['model']}, engine {d['engine']}{core}"
        lines.append(f"{head}{what}: {d['faults']:,} faults (simulated)")
        lines.append(f"  {d['plan']['how']}")
        lines += [f"  chosen: {choice}" for choice in d["choices"]]
        for name, row in d["outcomes"].items():
            if row["faults"] and row["rate"]:
                rate = row["rate"]
                lines.append(
                    f"  {name:<10} {row['faults']:>9,}  {rate['estimate']:8.3%}  "
                    f"[{rate['low']:.3%}, {rate['high']:.3%}]"
                )
        margin, asked = d["margin"], d["plan"]["stop_at_margin"]
        if margin is not None and d["stopped_at_margin"]:
            lines.append(f"  stopped: every outcome is known to +/- {margin:.3%}")
        elif margin is not None and asked is not None and d["finished"] and d["plan"]["looks"] and margin > asked:
            lines.append(f"  all faults injected, the widest interval is +/- {margin:.3%}")
    return "\n".join(lines)
