"""`eqfault run`, `resume`, `report` and `plan`."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eqcompile.toolchain.diagnostics import Diagnostic, EqcompileError, UsageError

from ..options import ForceOption, InputsOption, LimitOption
from .console import INTERRUPTED, Parser, Reply
from .numbers import fraction, integer
from .options import add_field_options, build
from .progress import stage_progress

__all__ = ["plan", "report", "resume", "run"]

_EXAMPLES = """\
  eqfault run out --model seu --inputs test.npz -o campaign
  eqfault run out --model seu --faults exhaustive --engine fast --baseline mlp -o campaign
  eqfault run --model seu --help           this help with the options of model seu"""


def _parser(name: str, text: str) -> Parser:
    return Parser(prog=f"eqfault {name}", description=text, examples=_EXAMPLES)


def _add_statistics(parser: Any) -> None:
    group = parser.add_argument_group("statistics")
    group.add_argument(
        "--margin", type=fraction, default=0.01, metavar="M", help="half width of the interval of a rate (default 1%%)"
    )
    group.add_argument("--confidence", type=fraction, default=0.95, metavar="C", help="of all intervals (default 95%%)")
    group.add_argument(
        "--stop-at-margin",
        type=fraction,
        metavar="M",
        help="look at a few points that are fixed beforehand, and stop once every outcome is known to +/- M",
    )


def _add_workers(parser: Any) -> None:
    parser.add_argument(
        "--scheduler", default="local", metavar="S", help="local, or HOST:PORT of a dask scheduler (default local)"
    )
    parser.add_argument(
        "--workers", type=integer(1), metavar="N", help="local processes (default: one for each processor)"
    )


def _add_model(parser: Any, *, required: bool) -> None:
    parser.add_argument("--model", required=required, metavar="M", help="fault model; `eqfault models` lists them")
    add_field_options(parser, InputsOption, None)
    add_field_options(parser, LimitOption, None)


def _add_campaign(parser: Any) -> None:
    parser.add_argument("--engine", default="golden", metavar="E", help="engine that injects (default golden)")
    parser.add_argument(
        "--faults", type=_count, default="auto", metavar="N", help="faults: a number, auto or exhaustive (default auto)"
    )
    parser.add_argument("--seed", type=integer(0), default=0, metavar="S", help="of everything drawn (default 0)")
    parser.add_argument(
        "--near-lsb",
        type=integer(0),
        default=1,
        metavar="K",
        help="LSB of the states within which an end counts as near (default 1)",
    )


def _count(text: str) -> int | str:
    return text if text in ("auto", "exhaustive") else integer(1)(text)


def run(argv: Sequence[str]) -> Reply:
    """Make a campaign, run it, and report."""
    from . import campaign_args

    parser = _parser("run", "Draw faults, inject them into a compiled net, and report what became of them.")
    parser.add_argument("source", type=Path, metavar="DIR", help="artifact folder, or net.onnx")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="CAMPAIGN", help="folder of the campaign")
    _add_model(parser, required=True)
    _add_campaign(parser)
    _add_statistics(parser)
    _add_workers(parser)
    parser.add_argument(
        "--baseline",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="another net, as a feed-forward one, or core, as one with other hardening, for the same campaign (may be "
        "stated again)",
    )
    parser.add_argument(
        "--baseline-inputs", type=Path, metavar="X.npz", help="samples for the baselines (default: --inputs)"
    )
    campaign_args.add_environment(parser)
    add_field_options(parser, ForceOption, None)
    namespace, options = campaign_args.parse_with_model(parser, argv)
    notes = campaign_args.environment(namespace)
    notes["command"] = shlex.join(["eqfault", "run", *argv])
    from eqcompile.sim.campaign import api

    samples = build(InputsOption, namespace).inputs
    with contextlib.ExitStack() as stack:
        campaign = campaign_args.define(namespace, namespace.source, samples, options, notes, stack)
        inputs = namespace.baseline_inputs or samples
        baselines = [
            campaign_args.define(namespace, source, inputs, options, notes, stack) for source in namespace.baseline
        ]
        api.create(campaign, namespace.output, baselines=baselines, force=build(ForceOption, namespace).force)
    try:
        return _go_on(namespace.output, namespace)
    except EqcompileError:
        # What no engine takes leaves nothing that `eqfault resume` could finish.
        if not api.has_results(namespace.output):
            shutil.rmtree(namespace.output)
        raise


def resume(argv: Sequence[str]) -> Reply:
    """Go on with a campaign."""
    parser = _parser("resume", "Go on with a campaign that was interrupted or killed: no fault is lost or doubled.")
    parser.add_argument("output", type=Path, metavar="CAMPAIGN", help="folder of the campaign")
    _add_workers(parser)
    namespace = parser.parse_all(argv)
    return _go_on(namespace.output, namespace)


def _go_on(folder: Path, namespace: argparse.Namespace) -> Reply:
    from eqcompile.sim.campaign import api

    from ..report.campaign import write

    try:
        with stage_progress("fault") as progress:
            api.resume(
                folder,
                scheduler=namespace.scheduler,
                workers=namespace.workers,
                progress=lambda name, state: progress(name or "faults", state.faults, state.plan.size),
            )
        write(folder)
    except KeyboardInterrupt:
        document = {**api.standing(folder), "interrupted": True, "folder": str(folder)}
        text = f"{_summary(document)}\ninterrupted; eqfault resume {shlex.quote(str(folder))} goes on"
        return Reply(document, text, INTERRUPTED)
    document = {**api.standing(folder), "folder": str(folder), "report": str(folder / "report.html")}
    return Reply(document, f"{_summary(document)}\n{folder / 'report.html'}")


def report(argv: Sequence[str]) -> Reply:
    """Write the report of what is stored."""
    from ..report.campaign import write

    parser = _parser("report", "Write report.html and report.json of what a campaign holds so far.")
    parser.add_argument("output", type=Path, metavar="CAMPAIGN", help="folder of the campaign")
    parser.add_argument("--against", type=Path, metavar="CAMPAIGN", help="another campaign to compare with")
    namespace = parser.parse_all(argv)
    document = write(namespace.output, against=namespace.against)
    return Reply(document, str(namespace.output / "report.html"))


def plan(argv: Sequence[str]) -> Reply:
    """How many faults are needed.

    Raises UsageError unless there is either DIR with a model, or a population.
    """
    from eqcompile.sim.campaign.statistics import sample_size

    from . import campaign_args

    parser = _parser("plan", "How many faults a margin needs, of a net's population or of one that is given.")
    parser.add_argument("source", type=Path, nargs="?", metavar="DIR", help="artifact folder, or net.onnx")
    parser.add_argument("--population", type=integer(1), metavar="N", help="faults there are, in place of DIR")
    _add_model(parser, required=False)
    _add_campaign(parser)
    _add_statistics(parser)
    namespace, options = campaign_args.parse_with_model(parser, argv)
    if namespace.source is None:
        population = namespace.population
        found = {
            "population": population,
            "margin": namespace.margin,
            "confidence": namespace.confidence,
            "faults": sample_size(population, margin=namespace.margin, confidence=namespace.confidence),
            "infinite_population": sample_size(None, margin=namespace.margin, confidence=namespace.confidence),
            "how": "N / (1 + e^2 (N - 1) / (t^2 p (1 - p))) at p = 0.5, Leveugle et al., DATE 2009",
            "kind": "estimated",
        }
        return Reply(found, f"{found['faults']:,} faults ({found['infinite_population']:,} of infinitely many)")
    if namespace.population is not None or namespace.model is None:
        what = "give DIR and --model, or --population alone"
        raise UsageError(Diagnostic("usage", what, hint="eqfault plan --help"))
    samples = build(InputsOption, namespace).inputs
    with contextlib.ExitStack() as stack:
        campaign = campaign_args.define(namespace, namespace.source, samples, options, {}, stack)
    document = {"net": campaign.net.name, "model": namespace.model, **campaign.plan.to_json(), "kind": "estimated"}
    return Reply(document, "\n".join([campaign.plan.how, *campaign.notes.get("choices", ())]))


def _summary(document: Mapping[str, Any]) -> str:
    """Outcomes of a campaign and of its baselines, as text."""
    lines = []
    for part, d in document.items():
        if part != "campaign" and not part.startswith("baseline"):
            continue
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
        if d["stopped_at_margin"]:
            lines.append(f"  stopped: every outcome is known to +/- {d['margin']:.3%}")
        elif d["finished"] and d["plan"]["looks"] and d["margin"] > d["plan"]["stop_at_margin"]:
            lines.append(f"  all faults injected, the widest interval is +/- {d['margin']:.3%}")
    return "\n".join(lines)
