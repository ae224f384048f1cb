"""The last stage: faults injected into integers, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from eqcompile.sim.campaign.api import ReplayTick
from eqcompile.toolchain import registry
from eqcompile.toolchain.data import Inputs
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.typed_json import JsonObject

from ..campaign import begin, define, make, plan_of_population, resume
from ..campaign_options import BaselineOptions, CampaignOptions, EnvironmentOptions, WorkerOptions, environment
from ..certification import integers_in
from ..files import replacing
from ..report import kit
from ..report.figure import BLUE, Bar, Curve, bars, curves
from ..wording import percent
from .build import Build
from .display import Display, Picture, Row
from .keywords import keyword_groups
from .quantization import Quantization
from .samples import SampleSource, samples_of

__all__ = ["Campaign", "Replay", "campaign", "open_campaign", "plan_campaign", "read_groups"]

_GROUPS = (CampaignOptions, BaselineOptions, EnvironmentOptions, WorkerOptions)


@dataclass(frozen=True)
class Campaign(Display):
    """A campaign in its folder: what is stored of it, and its report."""

    folder: Path

    @cached_property
    def document(self) -> Mapping[str, Any]:
        """The report as JSON values: outcomes, sites, ticks, units, rates in an environment; see `report.json`."""
        from ..report.campaign.document import document

        report: Mapping[str, Any] = document(self.folder)
        return report

    @property
    def page(self) -> Path:
        """The page of the report."""
        return self.folder / kit.HTML

    @property
    def finished(self) -> bool:
        """Whether every fault of the plan was injected, or the margin was reached."""
        return bool(self.document["finished"])

    @property
    def outcomes(self) -> Mapping[str, Mapping[str, Any]]:
        """How many faults ended so, by outcome: `faults`, and `rate` with `estimate`, `low` and `high`."""
        return {row["outcome"]: {"faults": row["faults"], "rate": row["rate"]} for row in self.document["outcomes"]}

    def resume(self, *, progress: bool = True, **workers: Any) -> Campaign:
        """Go on with a campaign that was interrupted: no fault is lost or doubled. `workers`: the fields of
        `WorkerOptions`. Raises UsageError for a keyword that there is not."""
        (options,) = keyword_groups([WorkerOptions], workers, "Campaign.resume")
        resume(self.folder, workers=options, show=progress)
        return Campaign(self.folder)

    def report(self, *against: Campaign | str | Path) -> Path:
        """Write `report.html` and `report.json` anew, and return the page. With other campaigns beside it they go to a
        folder inside this one, so that no report takes the place of another.

        Raises ArtifactError if there are no results.
        """
        from ..report.campaign import place, write

        others = [other.folder if isinstance(other, Campaign) else Path(other) for other in against]
        write(self.folder, against=others)
        return place(self.folder, others) / "report.html"

    def pack(self, file: str | Path, *, force: bool = False) -> Path:
        """Pack the campaign into a zip file to hand over: what it leaves out first, assumptions, result, command,
        versions, seeds, and every file with its hash. Returns the file.

        Raises ArtifactError if there are no results, or the file exists without `force` or cannot be written.
        """
        from ..report.campaign.evidence import pack

        pack(self.folder, Path(file), force=force)
        return Path(file)

    def replay(self, fault: str, *, engine: str | None = None) -> Replay:
        """Inject one fault again: its id, or `CHUNK.NUMBER` as in the table of results.

        Raises UsageError for what names no fault.
        """
        from eqcompile.sim.campaign import api

        document, states = api.replay(self.folder, fault, engine=engine)
        return Replay(document["fault"], document["engine"], document["ticks"], states)

    def rows(self) -> Sequence[Row]:
        """Net, model, plan, and each outcome with the interval of its rate."""
        d = self.document
        c = d["campaign"]
        rows: list[Row] = [
            ("net", str(c["net"])),
            ("faults", f"{d['faults']['value']:,} of model {c['model']}, engine {c['engine']} (simulated)"),
            ("plan", c["plan"]["how"]),
        ]
        rows += [("chosen", choice) for choice in c.get("choices", ())]
        for name, row in self.outcomes.items():
            if row["faults"]:
                estimate, low, high = kit.interval(row["rate"])
                rows.append((name, f"{row['faults']:,} faults, {estimate} [{low}, {high}] (estimated)"))
        return [*rows, ("state", "finished" if self.finished else "NOT FINISHED: resume()"), ("report", str(self.page))]

    def plot(self) -> Picture:
        """The rate of each outcome with its interval."""
        drawn = []
        for name, row in self.outcomes.items():
            if row["faults"]:
                estimate, low, high = kit.raw(row["rate"])
                drawn.append(Bar(name, estimate, low, high, BLUE, f"{percent(estimate, 2)}, {row['faults']:,} faults"))
        return Picture((bars("outcomes", drawn),) if drawn else ())


@dataclass(frozen=True, eq=False)
class Replay(Display):
    """One fault again. `ticks`: after each, how many state codes differ from the clean run and by how much at most;
    `states`: codes `[ticks, *shape]` int64 by state."""

    fault: str
    engine: str
    ticks: Sequence[ReplayTick]
    states: Mapping[str, NDArray[np.int64]]

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write every state after every tick to an `.npz`; ArtifactError if the file exists without `force`."""
        path = Path(path)
        with replacing(path, force=force) as temporary, temporary.open("wb") as file:
            np.savez(file, **{f"state.{name}": codes for name, codes in self.states.items()})
        return path

    def rows(self) -> Sequence[Row]:
        """The fault, and how far the net was away after each tick."""
        rows: list[Row] = [("fault", self.fault), ("engine", f"{self.engine} (simulated)")]
        return rows + [
            (f"tick {row['tick']}", f"{row['differ']:,} codes differ, by {row['distance']:,} at most")
            for row in self.ticks
        ]

    def plot(self) -> Picture:
        """The largest difference of any code from the clean run, tick by tick."""
        values = [float(row["distance"]) for row in self.ticks]
        title = "Distance to the clean run"
        rows = [Curve(values, BLUE, 2.2)]
        return Picture((curves("distance", rows, title=title, x_label="tick", y_label="LSB", log=True),))


def campaign(
    net: Build | Quantization | str | Path,
    *,
    model: str,
    out: str | Path,
    inputs: SampleSource | None = None,
    engine: str = CampaignOptions.engine,
    faults: int | Literal["auto", "exhaustive"] = CampaignOptions.faults,
    seed: int = CampaignOptions.seed,
    force: bool = False,
    progress: bool = True,
    **options: Any,
) -> Campaign:
    """Draw faults, inject them into integers, and report what became of them.

    c = eq.campaign(art, model="seu", inputs="test.npz", engine="fast", out="campaign")

    Args:
        net: what `compile`, `open` or `quantize` returns, or a folder or file.
        model: a fault model; `engine`: what injects; `fault_models` lists both.
        out: the folder of the campaign, replaced with `force`.
        inputs: real samples `[samples, (frame,) *shape]`, or a file of them; by default codes that are generated.
        faults: how many, `auto` (as the margin needs) or `exhaustive`.
        seed: of everything that is drawn.
        progress: whether progress is shown.
        options: the fields of `CampaignOptions` (such as `margin`), of `BaselineOptions`, `EnvironmentOptions` and
            `WorkerOptions`, and of the model; times in seconds (`mission_s=3600.0`) or as the command line has them
            (`mission="5y"`).

    Raises:
        UsageError: everything that is wrong with the options. UnsupportedError: what model and engine say against the
            net. MissingToolError: an engine that cannot run here. ArtifactError: a folder that is there.
    """
    keywords = {"model": model, "engine": engine, "faults": faults, "seed": seed, **options}
    groups, model_options, source, samples = read_groups(_GROUPS, net, inputs, keywords, "eq.campaign")
    chosen, against, surroundings, workers = groups
    make(
        chosen,
        model_options,
        source,
        samples,
        Path(out),
        against=against,
        notes={**environment(surroundings), "command": f"eq.campaign, model {model}"},
        force=force,
    )
    begin(Path(out), workers=workers, show=progress)
    return Campaign(Path(out))


def plan_campaign(
    net: Build | Quantization | str | Path | None = None,
    *,
    inputs: SampleSource | None = None,
    population: int | None = None,
    **options: Any,
) -> JsonObject:
    """How many faults a margin needs: of a net's population with the keywords of `campaign`, or without a net of a
    `population` (None: infinite). Runs nothing.

    `inputs`: as in `campaign`, real samples `[samples, (frame,) *shape]`. Raises as `campaign`.
    """
    from contextlib import ExitStack

    if net is None:
        (chosen,) = keyword_groups([CampaignOptions], options, "eq.plan_campaign")
        return plan_of_population(population, chosen)
    (chosen, *_), model_options, source, samples = read_groups(_GROUPS, net, inputs, options, "eq.plan_campaign")
    with ExitStack() as stack:
        planned = define(chosen, model_options, source, samples, {}, stack)
    document = {"net": planned.net.name, "model": planned.model, **planned.plan.to_json(), "kind": "estimated"}
    return cast("JsonObject", document)


def open_campaign(folder: str | Path) -> Campaign:
    """The campaign in a folder; ArtifactError if there is none, or it was changed."""
    from eqcompile.sim.campaign.definition import read_campaign

    read_campaign(Path(folder))
    return Campaign(Path(folder))


def read_groups(
    groups: Sequence[type[Any]],
    net: Build | Quantization | str | Path,
    inputs: SampleSource | None,
    keywords: Mapping[str, Any],
    where: str,
) -> tuple[list[Any], JsonObject, Path | IntNet, Path | Inputs | None]:
    """The options of each of `groups`, those of the model, the net or where it lies, and the samples.

    Raises UsageError with everything that is wrong with the keywords.
    """
    from eqcompile.sim.faults.model import FaultModel

    kinds: list[Any] = list(groups)
    model_class = registry.find_class("faults", keywords["model"], FaultModel) if "model" in keywords else None
    if model_class is not None:
        kinds.append(model_class)
    found = keyword_groups(kinds, keywords, where)
    names = set() if model_class is None else {f.name for f in fields(model_class)}
    model_options = {name: value for name, value in keywords.items() if name in names}
    source = net.folder if isinstance(net, Build) else net.net if isinstance(net, Quantization) else Path(net)
    if inputs is None or isinstance(inputs, (str, Path)):
        samples: Path | Inputs | None = None if inputs is None else Path(inputs)
    else:
        samples = samples_of(inputs, integers_in(source) if isinstance(source, Path) else source)
    return found[: len(groups)], model_options, source, samples
