"""Every fault of integers, and what became of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError

from ..exhaust import ExhaustOptions, begin, go_on
from ..exhaust import report as write_report
from ..report import kit
from ..report.figure import RED, Curve, curves
from .build import Build
from .campaign import Replay, read_groups
from .display import Display, Picture, Row
from .quantization import Quantization
from .samples import SampleSource

__all__ = ["Exhaust", "exhaust"]


@dataclass(frozen=True)
class Exhaust(Display):
    """A run over every fault in its folder."""

    folder: Path
    proved: int = ExhaustOptions.proved

    @cached_property
    def document(self) -> Mapping[str, Any]:
        """The report as JSON values: outcomes, maps, ticks, samples, and what is proved; see `report.json`."""
        from eqcompile.sim.campaign.exhaust import document_of

        found: Mapping[str, Any] = document_of(self.folder, proved=self.proved)
        return found

    @property
    def page(self) -> Path:
        """The page of the report."""
        return self.folder / kit.HTML

    @property
    def outcomes(self) -> Mapping[str, int]:
        """Faults by outcome."""
        return dict(self.document["outcomes"])

    def ids(self, outcome: str) -> Iterator[str]:
        """The id of each fault that ended so, as `sdc`; UsageError for what is no outcome."""
        from eqcompile.sim.campaign.definition import read_campaign
        from eqcompile.sim.campaign.exhaust import ids
        from eqcompile.sim.faults.engine import Outcome

        names = [o.name.lower() for o in Outcome]
        if outcome not in names:
            what = f"{outcome!r} is no outcome"
            raise UsageError(Diagnostic("usage", what, hint=f"known: {', '.join(names)}"))
        return ids(self.folder, read_campaign(self.folder), Outcome[outcome.upper()])

    def replay(self, fault: str, *, engine: str | None = None) -> Replay:
        """Inject one fault again by its id. Raises UsageError for what names no fault."""
        from eqcompile.sim.campaign import api

        document, states = api.replay(self.folder, fault, engine=engine)
        return Replay(document["fault"], document["engine"], document["ticks"], states)

    def report(self) -> Path:
        """Write `report.html` and `report.json` anew, and return the page."""
        write_report(self.folder, proved=self.proved)
        return self.page

    def rows(self) -> Sequence[Row]:
        """What is said of the run, a sentence each."""
        from ..report.exhaust import summary_lines

        first, *rest = summary_lines(self.document)  # type: ignore[arg-type]
        rows: list[Row] = [("faults", first)]
        rows += [(line.partition(": ")[0], line.partition(": ")[2]) for line in rest]
        return [*rows, ("report", str(self.page))]

    def plot(self) -> Picture:
        """Silent corruption by tick, a line for each site that has any."""
        lines = [
            Curve([c / site["faults_a_tick"] for c in site["silent_ticks"]], RED, 2.2, 1.0, site["site"])
            for site in self.document["sites"]
            if site["silent"] and site["ticks"] > 1
        ]
        title = "Silent corruption by tick"
        drawn = curves("silent", lines, title=title, x_label="tick of the upset", y_label="share") if lines else None
        return Picture(() if drawn is None else (drawn,))


def exhaust(
    net: Build | Quantization | str | Path,
    *,
    model: str,
    out: str | Path,
    inputs: SampleSource | None = None,
    engine: str = ExhaustOptions.engine,
    proved: int = ExhaustOptions.proved,
    force: bool = False,
    progress: bool = True,
    **options: Any,
) -> Exhaust:
    """Inject every fault of a model into integers: exact counts, without intervals.

    e = eq.exhaust(art, model="seu", sites="state", inputs="test.npz", out="every")

    Args:
        net: what `compile`, `open` or `quantize` returns, or a folder or file.
        model: a fault model whose faults can be listed; `engine`: what injects; `fault_models` lists both.
        out: the folder of the outcomes; a run that is there goes on if it is of the same faults (`force`: anew).
        inputs: real samples `[samples, (frame,) *shape]`, or a file of them; by default codes that are generated.
        proved: samples whose certificate is compared with the worst case.
        progress: whether progress is shown.
        options: the other fields of `ExhaustOptions`, and those of the model.

    Raises:
        UsageError: everything that is wrong with the options. UnsupportedError: what model and engine say against the
            net. ArtifactError: a folder of something else.
    """
    keywords = {"model": model, "engine": engine, "proved": proved, **options}
    (chosen,), model_options, source, samples = read_groups([ExhaustOptions], net, inputs, keywords, "eq.exhaust")
    folder = Path(out)
    begin(chosen, model_options, source, samples, folder, command=f"eq.exhaust, model {model}", force=force)
    go_on(folder, chosen, show=progress)
    return Exhaust(folder, chosen.proved)
