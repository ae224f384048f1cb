"""Beside the way from net to campaign: widths that suffice, training for the integers, cells of a core on an FPGA."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from eqcompile.quantization.config import config_of
from eqcompile.quantization.search import SearchResult
from eqcompile.quantization.search import search as search_widths
from eqcompile.quantization.widen import halves
from eqcompile.targets.rtl.synth.flow import require_rtl, synthesise_artifact
from eqcompile.targets.rtl.synth.report import SynthReport
from eqcompile.toolchain import artifact
from eqcompile.toolchain.data import Inputs
from eqcompile.toolchain.options import QuantizeOptions, TuneOptions
from eqcompile.toolchain.typed_json import JSON

from ..clocks import InputCodes, bench_inputs, count_clocks
from ..documents import TuneDocument
from ..files import replacing
from ..options import SeedsOption
from ..progress import progress_if
from ..report.figure import BLUE, Bar, bars
from ..report.pareto import front, picture
from ..wording import percent
from .build import Build
from .display import Display, Picture, Row
from .keywords import keyword_groups, keyword_options
from .model import Model, load
from .quantization import Quantization, quantize
from .samples import MEMORY, SampleSource, name_of, samples_of

__all__ = ["Search", "Synthesis", "Tuning", "find_widths", "search", "synthesise", "tune"]

SEARCH_JSON, SEARCH_PICTURE = "search.json", "pareto.svg"


@dataclass(frozen=True, eq=False)
class Search(Display):
    """The smallest widths that keep the labels. `result`: every setting that was tried, and how the best was judged;
    `calibration`: the samples that gave the ranges, half of those that were searched on if none were named."""

    model: Model
    result: SearchResult
    calibration: Inputs = field(repr=False)
    samples: str
    per_row: bool

    @property
    def meets_target(self) -> bool:
        """Whether the best setting keeps the share of labels on the samples that chose nothing."""
        return self.result.meets_target

    @property
    def options(self) -> QuantizeOptions:
        """The widths that were found, as options."""
        best = self.result.best
        return replace(self.result.options, widths=best.kinds, state_bits=best.state_bits, input_bits=best.input_bits)

    def config(self) -> dict[str, JSON]:
        """The widths that were found, as `Quantization.config` gives them."""
        return config_of(self.model.net, self.options)

    def quantize(self) -> Quantization:
        """The net with these widths: the one that was judged."""
        return quantize(self.model, calibrate=self.calibration, config=self.config())

    def to_json(self) -> dict[str, JSON]:
        """All settings, the best one and how it was judged."""
        return {**self.result.to_json(), "front": [trial.to_json() for trial in front(self.result.trials)]}

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write the table of settings and the picture into a folder; ArtifactError if they exist without `force`."""
        folder = Path(folder)
        with (
            replacing(folder / SEARCH_JSON, force=force) as table,
            replacing(folder / SEARCH_PICTURE, force=force) as drawing,
        ):
            artifact.write_json(table, {**self.to_json(), "tools": artifact.tool_versions()})
            drawing.write_text(picture(self.result), encoding="utf-8")
        return folder

    def rows(self) -> Sequence[Row]:
        """Widths, memory, and the labels on both halves."""
        best, widest, validation = self.result.best, self.result.trials[0], self.result.validation
        met = "meets" if self.meets_target else "MISSES"
        return [
            ("net", self.model.family),
            ("samples", self.samples),
            *((f"weight {name}", kind) for name, kind in best.kinds.items()),
            ("states", f"{best.state_bits} bits"),
            ("inputs", f"{best.input_bits} bits"),
            ("memory", f"{best.bits:,} bits, {percent(best.bits / widest.bits, 1)} of the widest"),
            ("search half", f"{best.equal} of {best.labels} labels equal [simulated]"),
            (
                "validation",
                f"{validation.equal} of {validation.labels} labels equal [simulated], {met} {self.result.target:g}",
            ),
        ]

    def plot(self) -> Picture:
        """Memory and labels of every setting."""
        return Picture((Markup(picture(self.result)),))  # noqa: S704 - drawn by the figure module


def find_widths(
    model: Model,
    inputs: SampleSource,
    options: QuantizeOptions,
    *,
    calibrate: SampleSource | None,
    target: float,
    samples: int,
    show: bool,
) -> Search:
    """The smallest widths with which integers tell a share `target` of the labels of the float net.

    `inputs`: real samples `[samples, (frame,) *shape]`, every other one judges; the first `samples` of them. `options`:
    the widest integers. Raises UsageError for a net without labels, or too few samples.
    """
    users = samples_of(inputs, model.net, limit=samples)
    ranges = samples_of(halves(users)[0], model.net) if calibrate is None else samples_of(calibrate, model.net)
    with progress_if(show) as progress:
        result = search_widths(
            model.net,
            options,
            calibration=ranges,
            inputs=users,
            target=target,
            progress=lambda done, total: progress("search", done, total),
        )
    return Search(model, result, ranges, name_of(inputs), options.per_row)


def search(
    model: Model,
    inputs: SampleSource,
    *,
    calibrate: SampleSource | None = None,
    target: float = 0.999,
    samples: int = 2000,
    progress: bool = True,
    **options: Any,
) -> Search:
    """The smallest widths of weights, states and inputs that keep a share `target` of the labels of the float net.

    Args:
        model: what `load` returns.
        inputs: real samples `[samples, (frame,) *shape]`, or a file of them, `samples` at most; every other one judges.
        calibrate: samples that give the ranges; by default the half that chooses.
        progress: whether progress is shown.
        options: the widest integers, fields of `QuantizeOptions`.

    Raises UsageError for a net without labels, too few samples, or options that mean nothing.
    """
    widest = keyword_options(QuantizeOptions, options, "eq.search")
    return find_widths(model, inputs, widest, calibrate=calibrate, target=target, samples=samples, show=progress)


@dataclass(frozen=True, eq=False)
class Tuning(Display):
    """A checkpoint that was trained for its integers. `document`: what `eqcompile tune --json` prints."""

    path: Path
    document: TuneDocument

    @property
    def model(self) -> Model:
        """The net of the new checkpoint."""
        return load(self.path)

    def rows(self) -> Sequence[Row]:
        """Accuracy before and after, the bound, and how to go on."""
        d = self.document
        rows: list[Row] = [("checkpoint", d["output"]), ("family", d["family"])]
        for name, share in d["accuracy"].items():
            rows += [
                (f"{name}, float", share["float_before"]),
                (f"{name}, integers before", share["integers_before"]),
                (f"{name}, integers after", share["integers_after"]),
            ]
        rows += [("L a step", d["bound"])] if d["bound"] is not None else []
        return [*rows, ("time", d["seconds"]), ("next", f"eqcompile {d['output']} --target T {d['compile_options']}")]

    def plot(self) -> Picture:
        """Accuracy of the floats, and of the integers before and after."""
        drawn = []
        for name, share in self.document["accuracy"].items():
            parts = {"floats": share["float_before"], "integers before": share["integers_before"]}
            for label, part in (*parts.items(), ("integers after", share["integers_after"])):
                drawn.append(Bar(f"{name}: {label}", part["value"], note=percent(part["value"], 2)))
        return Picture((bars("accuracy", drawn, limit=1.0),) if drawn else ())


def tune(
    model: Model,
    samples: SampleSource,
    *,
    out: str | Path,
    test: SampleSource | None = None,
    force: bool = False,
    progress: bool = True,
    **options: Any,
) -> Tuning:
    """Fine-tune a checkpoint so that it stays accurate as integers, and write the new one.

    Args:
        model: what `load` returns of a checkpoint.
        samples: real samples `[samples, (frame,) *shape]` with their labels, or a file of them.
        out: the file of the new checkpoint, replaced with `force`.
        test: samples that are only measured.
        progress: whether progress is shown.
        options: the fields of `QuantizeOptions` (weights are ternary by default) and of `TuneOptions`.

    Raises UsageError for options that mean nothing or samples without labels, ArtifactError for a file that is there,
    MissingToolError without PyTorch and Brevitas.
    """
    from ..tuning import tune_checkpoint

    names = {f.name for f in fields(TuneOptions)} - {"quantize"}
    training = {name: value for name, value in options.items() if name in names}
    integers = {name: value for name, value in options.items() if name not in names}
    (chosen,) = keyword_groups([QuantizeOptions], {"weights": "ternary", **integers}, "eq.tune")
    document = tune_checkpoint(
        model.imported,
        samples_of(samples, model.net),
        TuneOptions(quantize=chosen, **training),
        Path(out),
        test=None if test is None else samples_of(test, model.net),
        data=str(samples) if isinstance(samples, (str, Path)) else MEMORY,
        force=force,
        show=progress,
    )
    return Tuning(Path(out), document)


@dataclass(frozen=True, eq=False)
class Synthesis(Display):
    """What the core of a build costs on a part: estimates of the open tools."""

    result: SynthReport

    def to_json(self) -> Mapping[str, JSON]:
        """The same as JSON values."""
        return self.result.to_json()

    def rows(self) -> Sequence[Row]:
        """Cells, frequency, latency."""
        first, *lines = self.result.text().splitlines()
        return [("core [estimated]", first), *((("", line.strip())) for line in lines)]

    def plot(self) -> Picture:
        """The share of each resource of the part that the core takes."""
        drawn = [
            Bar(u.label, u.percent / 100, colour=BLUE, note=f"{u.core:,} of {u.available:,}") for u in self.result.usage
        ]
        return Picture((bars("utilisation", drawn, limit=1.0),) if drawn else ())


def synthesise(
    build: Build,
    *,
    part: str,
    seeds: int = SeedsOption.seeds,
    clock_mhz: float | None = None,
    inputs: SampleSource | None = None,
    timeout_s: float = 1800.0,
    progress: bool = True,
) -> Synthesis:
    """Synthesise, place and route the core of a build of the rtl target.

    Args:
        build: what `compile` or `open` returns.
        part: as `ecp5-25k`, `up5k` or `xilinx`.
        seeds: how many placements.
        clock_mhz: the frequency that is asked for.
        inputs: real samples `[samples, (frame,) *shape]` whose clocks are counted; by default those of the bench.
        timeout_s: limit of all of it, in seconds.
        progress: whether progress is shown.

    Raises UsageError for a part or an artifact that does not fit, MissingToolError without the tools.
    """
    require_rtl(build.artifact, part, clock_mhz)
    codes = bench_inputs(build.artifact)
    if isinstance(inputs, (str, Path)):
        codes = InputCodes.read(Path(inputs), build.net)
    elif inputs is not None:
        codes = InputCodes.of(build.net, samples_of(inputs, build.net), name_of(inputs))
    with contextlib.ExitStack() as stack:
        report = stack.enter_context(progress_if(progress))
        result = synthesise_artifact(
            build.artifact,
            part,
            seeds=range(1, seeds + 1),
            timeout_s=timeout_s,
            clock_mhz=clock_mhz,
            clocks=count_clocks(build.artifact, codes, timeout_s=timeout_s, progress=report),
            progress=report,
        )
    return Synthesis(result)
