"""The report of compilations as JSON values; `schema` says what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain import artifact
from eqcompile.toolchain.artifact import Manifest
from eqcompile.toolchain.interfaces import Assumption
from eqcompile.toolchain.ir import IntNet, ops
from eqcompile.toolchain.kept_labels import kept_labels
from eqcompile.toolchain.typed_json import JSON, JsonObject

from ..accuracy import Accuracy, Deviation, warnings_of
from ..compile import CompileRequest, CompileResult, Verification
from .relaxation import relaxation
from .schema import (
    AccuracyDocument,
    AgreementDocument,
    DeviationDocument,
    EqualDocument,
    Kind,
    Number,
    ReportDocument,
    ResultDocument,
    Setting,
    Settling,
    StepCount,
    VerificationDocument,
)

__all__ = [
    "accumulators",
    "deviation_document",
    "document",
    "histogram",
    "number",
    "plain",
    "plain_object",
    "result_document",
    "settings_of",
    "verification_document",
]

REPORT_VERSION = 3
_BINS = 30
"""Columns of a histogram, at most."""
_TOOLS = ("onnx", "onnxruntime", "torch", "lava-nc", "safetensors")

_FAR_LSB = 16.0
"""Distance of a state from the float net's that is worth a warning: an eighth of the range of 8 bits."""


def number(value: float, kind: Kind, unit: str, how: str = "") -> Number:
    """A number with its kind; `how` says where it comes from."""
    stated: Number = {"value": value, "kind": kind, "unit": unit}
    if how:
        stated["how"] = how
    return stated


def document(results: Sequence[CompileResult], *, command: Sequence[str]) -> ReportDocument:
    """The whole report."""
    return {
        "report_version": REPORT_VERSION,
        "command": list(command),
        "tools": artifact.tool_versions(*_TOOLS),
        "results": [{**result_document(r), "relaxation": relaxation(r)} for r in results],
    }


def result_document(result: CompileResult) -> ResultDocument:
    """One compilation, without the relaxation curves; `accuracy` is there if the inputs have labels."""
    request, imported, net = result.request, result.imported, result.net
    document: ResultDocument = {
        "warnings": _warnings(result),
        "model": {
            "file": result.imported.path.name,
            "sha256": None if result.manifest.source is None else result.manifest.source.sha256,
            "family": imported.family,
            "family_from": _family_from(request),
            "eqnet_digest": imported.net.digest,
            "inputs": {i.name: list(i.shape) for i in net.inputs},
            "states": {s.name: list(s.shape) for s in net.states},
            "outputs": [o.name for o in net.outputs],
            "steps": net.schedule.steps,
            "ignored_tensors": list(imported.ignored),
        },
        "settings": {"given": _given(result), "assumed": settings_of(imported.assumed)},
        "quantization": {
            "options": _options(result),
            "calibration": request.calibration_name,
            "choices": {
                "kind": "measured",
                "how": "computed from the tensors and the calibration data",
                "rows": [plain_object(c) for c in result.lowered.choices],
            },
            "assumed": settings_of(result.lowered.assumed),
        },
        "contraction": result.contraction.to_json(),
        "ir_digest": net.digest,
        "accumulators": {
            "kind": "proved",
            "unit": "bits",
            "how": "interval arithmetic on the actual codes",
            "values": accumulators(net),
        },
        "samples": {
            "source": result.samples.source,
            "generated": result.samples.generated,
            "count": number(result.samples.count, "measured", "samples"),
            "saturated": number(result.samples.saturated, "measured", "input values", "clipped by the input format"),
        },
        "agreement": _agreement(result),
        "settling": _settling(result),
        "target": {
            "name": request.target.name,
            "options": plain_object(request.target.options),
            "details": {"kind": "estimated", "how": "stated by the target at emission", **_details(result.manifest)},
        },
        "verification": [verification_document(v) for v in result.verifications],
        "output": str(request.output),
        "deviations": [deviation_document(d) for d in result.judgement.deviations],
    }
    if result.judgement.accuracy is not None:
        document["accuracy"] = _accuracy(result.judgement.accuracy)
    return document


def _family_from(request: CompileRequest) -> str:
    if not isinstance(request.model, Path):
        return "eq.load or the file"
    return "the command line" if request.family else "the file"


def settings_of(assumed: Sequence[Assumption]) -> list[Setting]:
    """What was assumed, as rows."""
    return [{"name": a.name, "value": plain(a.value), "source": a.source} for a in assumed]


def _details(manifest: Manifest) -> dict[str, JSON]:
    return plain_object(manifest.details) | ({"summary": list(manifest.summary)} if manifest.summary else {})


def accumulators(net: IntNet) -> dict[str, int]:
    """Proved width in bits of every exact sum, by value name."""
    sums = (ops.Linear, ops.Stencil, ops.Conv, ops.MatMul)
    return {op.out: net.formats[op.out].bits for op in net.all_ops() if isinstance(op, sums)}


def _options(result: CompileResult) -> JsonObject:
    """The options that had a say: a range of the inputs is assumed only where there is no calibration data."""
    options = plain_object(asdict(result.request.quantize))
    if result.request.calibration is not None:
        del options["input_range"]
    return options


def _given(result: CompileResult) -> list[Setting]:
    request = result.request
    stated = "the file" if request.config is None else f"{request.config.name} or the file"
    if not isinstance(request.model, Path):
        stated = "eq.load or the file"
    given: list[Setting] = [
        {"name": name, "value": plain(value), "source": "--set" if name in request.settings else stated}
        for name, value in result.imported.given.items()
    ]
    for own, name in result.imported.map.items():
        given.append({"name": own, "value": f"read as {name}", "source": "--map"})
    return given


def _accuracy(accuracy: Accuracy) -> AccuracyDocument:
    document: AccuracyDocument = {
        "source": accuracy.source,
        "samples": number(accuracy.samples, "measured", "samples"),
        "float": number(accuracy.float_correct / accuracy.samples, "measured", "fraction", "float64 reference"),
        "integer": number(accuracy.int_correct / accuracy.samples, "simulated", "fraction", "golden"),
    }
    if accuracy.confusion is not None:
        document["confusion"] = {"kind": "simulated", "counts": accuracy.confusion.tolist()}
    return document


def deviation_document(d: Deviation) -> DeviationDocument:
    """The float net against an output that the file of samples states."""
    return {
        "output": d.output,
        "source": d.source,
        "samples": number(d.samples, "measured", "samples"),
        "largest": number(d.largest, "measured", "output units", "float64 reference against the file"),
        "relative": number(d.relative, "measured", "of the largest output"),
        "close": d.close,
    }


def _warnings(result: CompileResult) -> list[str]:
    """What the import assumed, a float net that is not the one that was trained, integers that are far from it."""
    lines = [*warnings_of(result.judgement.deviations), *result.imported.warnings]
    kept = kept_labels(result.lowered.choices)
    if kept is not None and not kept.met:
        most = f"{kept.equal} of {kept.labels} labels is the most that wider states keep, asked for is {kept.target:g}"
        lines.append(f"{most}; --input-bits or wider --weights may help")
    errors = result.agreement.state_error_lsb
    worst = max(errors, key=lambda name: errors[name], default=None)
    if worst is None or errors[worst] <= _FAR_LSB:
        return lines
    ranges = "; ".join(
        f"{name} from {values.min():.4g} to {values.max():.4g}" for name, values in result.samples.real.items()
    )
    far = f"state {worst} of the integers is up to {errors[worst]:.3g} LSB away from the float net's"
    return [*lines, f"{far}; check that inputs are scaled as in training ({ranges})"]


def _agreement(result: CompileResult) -> AgreementDocument:
    a = result.agreement
    how = f"golden against the float64 reference, {a.samples} samples"
    document: AgreementDocument = {
        "labels": number(a.labels, "measured", "labels"),
        "state_error": {n: number(v, "measured", "state units", how) for n, v in a.state_error.items()},
        "state_error_lsb": {n: number(v, "measured", "LSB", how) for n, v in a.state_error_lsb.items()},
        "output_error": {n: number(v, "measured", "output units", how) for n, v in a.output_error.items()},
    }
    if a.labels_equal is not None:
        document["labels_equal"] = number(a.labels_equal, "measured", "labels", how)
    return document


def _settling(result: CompileResult) -> Settling:
    steps, budget, moving = result.golden.steps, result.net.schedule.steps, result.moving
    how = f"steps until no state moved by more than {result.net.schedule.tolerance} LSB, or the budget"
    lost = number(int(moving.sum()), "simulated", "samples", f"of {len(steps)}, after {budget} steps")
    return {
        "not_settled": lost,
        "smallest": number(int(steps.min()), "simulated", "steps", how),
        "median": number(float(np.median(steps)), "simulated", "steps", how),
        "largest": number(int(steps.max()), "simulated", "steps", how),
        "histogram": {"kind": "simulated", "unit": "samples", "bins": histogram(steps, moving)},
    }


def histogram(steps: NDArray[np.int64], moving: NDArray[np.bool_]) -> list[StepCount]:
    """Samples by their steps `[samples]`, and which of them still moved `[samples]`; few enough bins to be drawn."""
    low, high = int(steps.min()), int(steps.max())
    width = -(-(high - low + 1) // _BINS)
    rows: list[StepCount] = []
    for first in range(low, high + 1, width):
        inside = (steps >= first) & (steps < first + width)
        lost = int((inside & moving).sum())
        last = min(first + width - 1, high)
        rows.append({"first": first, "last": last, "settled": int(inside.sum()) - lost, "not_settled": lost})
    return rows


def verification_document(v: Verification) -> VerificationDocument:
    """One simulator against golden as JSON values, every number with its kind."""
    if v.status == "missing":
        return {"simulator": v.simulator, "status": "missing", "reason": v.reason, "install": v.install}
    if v.status == "skipped":
        return {"simulator": v.simulator, "status": "skipped", "reason": v.reason}
    document: EqualDocument = {
        "simulator": v.simulator,
        "status": "equal",
        "samples": number(v.samples, "simulated", "samples"),
        "steps": number(v.steps, "simulated", "steps", "steps compared with golden, all samples together"),
        "values": number(v.values, "simulated", "codes", "state and output codes compared with golden"),
        "mismatches": number(v.mismatches, "simulated", "codes"),
        "seconds": number(v.seconds, "measured", "s", "wall-clock time of the simulation on this machine"),
        "details": {"kind": "simulated", "how": f"counters of {v.simulator}", **plain_object(v.details)},
    }
    if v.labels_equal is not None:
        document["labels_equal"] = number(v.labels_equal, "simulated", "labels", "labels equal to those of golden")
    return document


def plain(value: object) -> JSON:
    """JSON values: NumPy scalars and arrays, tuples, paths and infinities turned into what JSON has."""
    match value:
        case Mapping():
            return plain_object(value)
        case np.ndarray() | np.generic():
            return plain(value.tolist())
        case list() | tuple():
            return [plain(v) for v in value]
        case float() if not np.isfinite(value):
            return str(value)
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)


def plain_object(value: Mapping[str, object]) -> dict[str, JSON]:
    """A mapping as a JSON object, as `plain`."""
    return {str(key): plain(part) for key, part in value.items()}
