"""Samples relaxed: by the float64 reference, by golden, or by a simulator of an artifact."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain import data
from eqcompile.toolchain.arrays import Array, Codes
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.compare import Comparison
from eqcompile.toolchain.compare import compare as compare_runs
from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import FloatRun, Imported, Run
from eqcompile.toolchain.ir import IntNet, Net
from eqcompile.toolchain.passes import label_keys, output_keys
from eqcompile.toolchain.reference import run_reference

from ..accuracy import deviations, warnings_of
from ..documents import RunDocument
from ..files import replacing
from ..progress import of_simulator, progress_if, stage_progress
from ..report import panels
from ..report.data import deviation_document, histogram, number, plain_object
from ..report.figure import BLUE, RED, Curve, curves
from ..report.schema import Kind, Number
from ..settling import still_moving, trace_of
from ..verification import first_able, simulators_for
from .display import Display, Picture, Row
from .samples import SampleSource, name_of, samples_of

__all__ = ["GOLDEN", "Difference", "Inference", "compare", "relax_artifact", "relax_floats", "relax_integers"]

GOLDEN, REFERENCE = "golden", "float64 reference"
_CURVES = 32
"""Samples whose movement is drawn, at most."""


@dataclass(frozen=True, eq=False)
class Inference(Display):
    """What became of samples. `run`: states, outputs and steps; `samples`: the real inputs, from `source`; `runner`:
    golden, the float64 reference or a simulator; `seconds`: its wall-clock time; `saturated`: input values that the
    input format clipped; `origin`: the checkpoint, artifact or net that ran."""

    net: Net
    run: Run | FloatRun
    samples: data.Inputs
    source: str
    runner: str
    seconds: float
    origin: str
    saturated: int = 0
    warnings: tuple[str, ...] = field(default=())

    @property
    def outputs(self) -> Mapping[str, Array]:
        """Outputs `[samples, *shape]` by name: int64 codes of integers, float64 of a float net."""
        return self.run.outputs

    @property
    def steps(self) -> NDArray[np.int64]:
        """Ticks until each sample `[samples]` settled, or the budget."""
        return self.run.steps

    @property
    def states(self) -> Mapping[str, Array]:
        """States after each tick `[ticks, samples, *shape]` by name, codes or float64; empty without a trace."""
        return trace_of(self.run)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The label of each sample `[samples]`, or of each entry that tells classes.

        Raises UsageError unless exactly one output tells classes.
        """
        names = [o.name for o in self.net.outputs if o.kind == "classes"]
        if len(names) != 1:
            what = f"{len(names)} outputs tell classes: {', '.join(names) or 'none'}"
            raise UsageError(Diagnostic("no-labels", what, self.net.name, "take the largest entry of an output"))
        labels: NDArray[np.int64] = self.run.outputs[names[0]].argmax(axis=-1)
        return labels

    @property
    def accuracy(self) -> float | None:
        """The share of the labels that are right; None without true labels."""
        true = self.samples.labels
        return None if true is None else float(np.mean(self.labels == true))

    def _right(self) -> Number | None:
        """How many labels are right; None without true ones, or where no output or several ones tell classes."""
        true = self.samples.labels
        if true is None or [o.kind for o in self.net.outputs].count("classes") != 1 or true.shape != self.labels.shape:
            return None
        return number(int(np.sum(self.labels == true)), self.kind, "labels right", f"of {true.size}")

    @property
    def budget(self) -> int:
        """Steps that a sample may take, over all of its frames."""
        frames = next(iter(self.samples.values())).shape[1] if self.net.schedule.frames else 1
        return self.net.schedule.steps * frames

    @property
    def moving(self) -> NDArray[np.bool_]:
        """Which samples `[samples]` spent the budget of steps and had not settled."""
        tolerance = self.net.schedule.tolerance if isinstance(self.net, IntNet) else 0
        return still_moving(self.run, tolerance=tolerance, budget=self.budget)

    @property
    def kind(self) -> Kind:
        """How its numbers came about."""
        return "measured" if isinstance(self.run, FloatRun) else "simulated"

    def save(self, path: str | Path, *, force: bool = False, trace: bool = False) -> RunDocument:
        """Write outputs, labels and steps, with `trace` the states as well, to an `.npz`, as `eqcompile run` does.

        Returns the document of the run. Raises ArtifactError as `replacing`.
        """
        path = Path(path)
        with replacing(path, force=force) as temporary:
            keys = self.write(temporary, trace=trace)
        return {**self.to_json(), "output": str(path), "keys": keys}

    def write(self, file: Path, *, trace: bool) -> list[str]:
        """Write the same over a file that is there already; return its keys."""
        arrays = self._arrays(trace)
        with file.open("wb") as handle:
            np.savez(handle, **arrays)
        return list(arrays)

    def _arrays(self, trace: bool) -> dict[str, Array]:
        arrays = {key: self.run.outputs[name] for name, key in output_keys(self.net).items()}
        arrays |= {key: self.run.outputs[name].argmax(axis=-1) for name, key in label_keys(self.net).items()}
        arrays["steps"] = self.run.steps
        return arrays | ({f"state.{name}": codes for name, codes in self.states.items()} if trace else {})

    def to_json(self) -> RunDocument:
        """The numbers of the run, each with its kind."""
        spent = int(np.sum(self.steps >= self.budget))
        document: RunDocument = {
            "source": self.origin,
            "family": self.net.family,
            "digest": self.net.digest,
            "simulator": self.runner,
            "samples": number(len(self.steps), "measured", "samples"),
            "steps": {
                "smallest": number(int(self.steps.min()), self.kind, "steps"),
                "largest": number(int(self.steps.max()), self.kind, "steps"),
                "at_budget": number(spent, self.kind, "samples", f"of {self.budget} steps"),
            },
            "seconds": number(self.seconds, "measured", "s", "wall-clock time on this machine"),
            "output": "",
            "keys": [],
        }
        if (right := self._right()) is not None:
            document["right"] = right
        if isinstance(self.run, Run):
            document["saturated"] = number(self.saturated, "measured", "input values", "clipped by the input format")
            document["output_scale"] = {o.name: o.scale for o in self.net.outputs}
            counters = plain_object(self.run.details)
            document["details"] = {"kind": "simulated", "how": f"counters of {self.runner}", **counters}
            return document
        compared = deviations(self.run, self.samples, self.source)
        document["warnings"] = [*warnings_of(compared), *self.warnings]
        document["deviations"] = [deviation_document(d) for d in compared]
        return document

    def rows(self) -> Sequence[Row]:
        """Samples, settling, accuracy where labels are known."""
        d, moving = self.to_json(), self.moving
        rows: list[Row] = [("warning", text) for text in d.get("warnings", ())]
        rows += [
            ("net", f"{self.origin} ({self.net.family})"),
            ("run by", self.runner),
            ("samples", f"{len(self.steps)} of {self.source}"),
            ("steps", f"{self.steps.min()} to {self.steps.max()}"),
            ("not settled", f"{int(moving.sum())} of {len(moving)}"),
        ]
        if self.accuracy is not None:
            rows.append(("accuracy", number(self.accuracy, self.kind, "of labels")))
        if self.saturated:
            rows.append(("clipped", f"{self.saturated} input values"))
        return [*rows, ("time", d["seconds"])]

    def plot(self) -> Picture:
        """The settling histogram and, with a trace, how much states move from tick to tick."""
        moving = self.moving
        lost = number(int(moving.sum()), self.kind, "samples")
        counts = [number(float(f(self.steps)), self.kind, "steps") for f in (np.min, np.median, np.max)]
        settling = panels.settling_panel(
            {
                "not_settled": lost,
                "smallest": counts[0],
                "median": counts[1],
                "largest": counts[2],
                "histogram": {"kind": "simulated", "unit": "samples", "bins": histogram(self.steps, moving)},
            }
        )
        moves = [np.abs(np.diff(s.astype(np.float64), axis=0)) for s in self.states.values() if len(s) > 1]
        if not moves:
            return Picture((settling,))
        largest = np.max([m.reshape(*m.shape[:2], -1).max(axis=2) for m in moves], axis=0)
        shown = largest[:, :_CURVES].T.tolist()
        label = f"each of {len(shown)} samples"
        rows = [Curve(s, BLUE, 1.0, 0.4, "" if k else label, first=2) for k, s in enumerate(shown)]
        rows.append(Curve(largest.max(axis=1).tolist(), RED, 2.2, label="largest over the samples", first=2))
        integers = isinstance(self.net, IntNet)
        movement = curves(
            "movement",
            rows,
            title="Movement: largest change of any unit in a tick",
            x_label="tick",
            y_label="LSB (log scale that holds 0)" if integers else "change of a state",
            log=integers,
        )
        return Picture((settling, movement))


def relax_floats(imported: Imported, x: SampleSource, *, limit: int | None, trace: bool) -> Inference:
    """Samples `[samples, (frame,) *shape]` of real numbers through the float64 reference."""
    inputs = samples_of(x, imported.net, limit=limit)
    with stage_progress("sample") as progress:
        start = time.perf_counter()
        run = run_reference(imported.net, inputs, trace=trace, progress=lambda d, t: progress("reference", d, t))
        seconds = time.perf_counter() - start
    origin = str(imported.path)
    return Inference(imported.net, run, inputs, name_of(x), REFERENCE, seconds, origin, warnings=imported.warnings)


def relax_integers(
    net: IntNet, x: SampleSource, origin: str, *, limit: int | None, trace: bool, show: bool
) -> Inference:
    """Samples `[samples, (frame,) *shape]` of real numbers through golden."""
    runner = GOLDEN, lambda codes, tick: run_golden(net, codes, trace=trace, progress=tick)
    return _relaxed(net, x, origin, runner, limit=limit, show=show)


def relax_artifact(
    artifact: Artifact,
    x: SampleSource,
    *,
    simulator: str | None,
    limit: int | None,
    trace: bool,
    timeout_s: float,
    show: bool,
) -> Inference:
    """Samples `[samples, (frame,) *shape]` of real numbers through an artifact in a simulator: the named one, by
    default the first of its target's that can hold it; `golden` runs the net in golden.

    Raises UsageError: no such simulator, or none that can hold the artifact. MissingToolError: its tool is absent.
    SimulatorError: it died or ran for longer than `timeout_s` seconds.
    """
    if simulator == GOLDEN:
        return relax_integers(artifact.net, x, str(artifact.folder), limit=limit, trace=trace, show=show)
    target = artifact.manifest.target
    known = simulators_for(target, None if simulator is None else [simulator])
    if not known:
        what = f"target {target} has no simulator"
        raise UsageError(Diagnostic("no-simulator", what, str(artifact.folder), f"--simulator {GOLDEN}"))
    name = first_able(artifact, known)

    def run(codes: Mapping[str, Codes], tick: Callable[[int, int], None]) -> Run:
        return known[name]().run(artifact, codes, trace=trace, timeout_s=timeout_s, progress=tick)

    return _relaxed(artifact.net, x, str(artifact.folder), (name, run), limit=limit, show=show)


def _relaxed(
    net: IntNet,
    x: SampleSource,
    origin: str,
    runner: tuple[str, Callable[[Mapping[str, Codes], Callable[[int, int], None]], Run]],
    *,
    limit: int | None,
    show: bool,
) -> Inference:
    inputs = samples_of(x, net, limit=limit)
    codes, saturated = data.encode(net, inputs)
    name, run = runner
    with progress_if(show, "sample") as progress:
        start = time.perf_counter()
        result = run(codes, of_simulator(progress, name))
        seconds = time.perf_counter() - start
    return Inference(net, result, inputs, name_of(x), name, seconds, origin, saturated)


@dataclass(frozen=True, eq=False)
class Difference(Display):
    """Two runs of integers compared, code by code. `comparison`: what was compared, and the first divergence."""

    expected: Run
    got: Run
    comparison: Comparison

    @property
    def ok(self) -> bool:
        """Whether every state of every step, every output and every count of steps is equal."""
        return self.comparison.ok

    def require(self) -> None:
        """Raise SimulatorError with the first divergence unless all is equal."""
        self.comparison.require()

    def rows(self) -> Sequence[Row]:
        """Equal or not, over how much, and where first."""
        c = self.comparison
        rows: list[Row] = [
            ("verdict", "equal" if c.ok else "DIFFERS"),
            ("compared", f"{c.samples} samples, {c.ticks} ticks"),
            ("states", f"{c.mismatches} of {c.values} codes differ"),
            ("outputs", f"{c.output_mismatches} of {c.outputs} codes differ"),
            ("steps", f"{c.step_mismatches} of {c.samples} counts differ"),
        ]
        rows += [("not compared", fault.what) for fault in c.faults]
        return rows if c.first is None else [*rows, ("first", str(c.first))]

    def plot(self) -> Picture:
        """The largest difference of any state code after each tick; nothing where no states can be compared."""
        apart = [
            np.abs(codes - self.got.states[name]).reshape(len(codes), -1).max(axis=1)
            for name, codes in self.expected.states.items()
            if name in self.got.states and codes.shape == self.got.states[name].shape and codes.size
        ]
        if not apart:
            return Picture(())
        most = np.max(apart, axis=0).tolist()
        title = "Difference: largest of any state code"
        return Picture(
            (curves("difference", [Curve(most, RED, 2.2, first=1)], title=title, x_label="tick", y_label="LSB"),)
        )


def compare(expected: Inference | Run, got: Inference | Run, *, states: bool = True) -> Difference:
    """Compare two runs of integers with each other: every state of every step, outputs and counts of steps.

    `states=False` leaves the states out: for runs without a trace. Raises UsageError for a run of the float net, whose
    values are none of integers.
    """
    runs = []
    for side in (expected, got):
        run = side.run if isinstance(side, Inference) else side
        if not isinstance(run, Run):
            what = "a run of the float net has no codes to compare"
            raise UsageError(
                Diagnostic("compare-floats", what, "eq.compare", "compare eq.golden(q, x) with art.run(x)")
            )
        runs.append(run)
    return Difference(runs[0], runs[1], compare_runs(runs[0], runs[1], states=states))
