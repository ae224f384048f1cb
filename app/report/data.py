"""The report as JSON values. Every number that is a result stands in an object that says its `kind`:

- `measured`: read off the file, or computed by running on this machine (the unit and `how` say what);
- `simulated`: out of golden or a simulator of the hardware;
- `estimated`: out of a model of the hardware;
- `proved`: a bound that holds for every input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np

from eqcompile.toolchain import artifact
from eqcompile.toolchain.artifact import Manifest
from eqcompile.toolchain.ir import IntNet, ops

from ..accuracy import Accuracy
from ..compile import CompileResult, Verification
from .relaxation import relaxation

__all__ = [
    "Kind",
    "Number",
    "accumulators",
    "document",
    "number",
    "plain",
    "result_document",
    "told",
    "verification_document",
]

Kind = Literal["measured", "simulated", "estimated", "proved"]


class Number(TypedDict):
    """A result; `how` says where it comes from."""

    value: float
    kind: Kind
    unit: str
    how: NotRequired[str]


REPORT_VERSION = 1
_GROUP = 6
_TOOLS = ("onnx", "onnxruntime", "torch", "lava-nc", "safetensors")

_FAR_LSB = 16.0
"""Distance of a state from the float net's that is worth a warning: an eighth of the range of 8 bits."""


def number(value: float, kind: Kind, unit: str, how: str = "") -> Number:
    """A number with its kind; `how` says where it comes from."""
    found: Number = {"value": value, "kind": kind, "unit": unit}
    if how:
        found["how"] = how
    return found


def document(results: Sequence[CompileResult], *, command: Sequence[str]) -> dict[str, Any]:
    """The whole report."""
    return {
        "report_version": REPORT_VERSION,
        "command": list(command),
        "tools": artifact.tool_versions(*_TOOLS),
        "results": [result_document(r) | {"relaxation": relaxation(r)} for r in results],
    }


def result_document(result: CompileResult) -> dict[str, Any]:
    """One compilation, without the relaxation curves; `accuracy` is there if the inputs have labels."""
    request, imported, net = result.request, result.imported, result.net
    labelled = {} if result.accuracy is None else {"accuracy": _accuracy(result.accuracy)}
    return {
        "warnings": _warnings(result),
        "model": {
            "file": request.model.name,
            "sha256": None if result.manifest.source is None else result.manifest.source.sha256,
            "family": imported.family,
            "family_from": "the command line" if request.family else "the file",
            "eqnet_digest": imported.net.digest,
            "inputs": {i.name: list(i.shape) for i in net.inputs},
            "states": {s.name: list(s.shape) for s in net.states},
            "outputs": [o.name for o in net.outputs],
            "steps": net.schedule.steps,
            "ignored_tensors": list(imported.ignored),
        },
        "settings": {"given": _given(result), "assumed": [plain(asdict(a)) for a in imported.assumed]},
        "quantization": {
            "options": _options(result),
            "calibration": None if request.calibration is None else request.calibration.name,
            "choices": {
                "kind": "measured",
                "how": "computed from the tensors and the calibration data",
                "rows": [plain(c) for c in result.lowered.choices],
            },
            "assumed": [plain(asdict(a)) for a in result.lowered.assumed],
        },
        "contraction": plain(result.contraction.to_json()),
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
            "options": plain(request.target.options),
            "details": {"kind": "estimated", "how": "stated by the target at emission", **_details(result.manifest)},
        },
        "verification": [verification_document(v) for v in result.verifications],
        "output": str(request.output),
    } | labelled


def _details(manifest: Manifest) -> dict[str, Any]:
    return {**plain(manifest.details)} | ({"summary": list(manifest.summary)} if manifest.summary else {})


def accumulators(net: IntNet) -> dict[str, int]:
    """Proved width in bits of every exact sum, by value name."""
    sums = (ops.Linear, ops.Stencil, ops.Conv, ops.MatMul)
    return {op.out: net.formats[op.out].bits for op in net.all_ops() if isinstance(op, sums)}


def _options(result: CompileResult) -> dict[str, Any]:
    """The options that had a say: a range of the inputs is assumed only where there is no calibration data."""
    options: dict[str, Any] = plain(asdict(result.request.quantize))
    if result.request.calibration is not None:
        del options["input_range"]
    return options


def _given(result: CompileResult) -> list[dict[str, Any]]:
    request = result.request
    stated = "the file" if request.config is None else f"{request.config.name} or the file"
    return [
        {"name": name, "value": plain(value), "source": "--set" if name in request.settings else stated}
        for name, value in result.imported.given.items()
    ]


def _accuracy(accuracy: Accuracy) -> dict[str, Any]:
    return {
        "source": accuracy.source,
        "samples": number(accuracy.samples, "measured", "samples"),
        "float": number(accuracy.float_correct / accuracy.samples, "measured", "fraction", "float64 reference"),
        "integer": number(accuracy.int_correct / accuracy.samples, "simulated", "fraction", "golden"),
    }


def _warnings(result: CompileResult) -> list[str]:
    """What the import assumed, and integers that are far from the float net they stand for."""
    errors = result.agreement.state_error_lsb
    worst = max(errors, key=lambda name: errors[name], default=None)
    if worst is None or errors[worst] <= _FAR_LSB:
        return list(result.imported.warnings)
    ranges = "; ".join(
        f"{name} from {values.min():.4g} to {values.max():.4g}" for name, values in result.samples.real.items()
    )
    far = f"state {worst} of the integers is up to {errors[worst]:.3g} LSB away from the float net's"
    return [*result.imported.warnings, f"{far}; check that inputs are scaled as in training ({ranges})"]


def _agreement(result: CompileResult) -> dict[str, Any]:
    a = result.agreement
    how = f"golden against the float64 reference, {a.samples} samples"
    labels = {} if a.labels_equal is None else {"labels_equal": number(a.labels_equal, "measured", "labels", how)}
    return labels | {
        "labels": number(a.labels, "measured", "labels"),
        "state_error": {n: number(v, "measured", "state units", how) for n, v in a.state_error.items()},
        "state_error_lsb": {n: number(v, "measured", "LSB", how) for n, v in a.state_error_lsb.items()},
        "output_error": {n: number(v, "measured", "output units", how) for n, v in a.output_error.items()},
    }


def _settling(result: CompileResult) -> dict[str, Any]:
    steps, budget = result.golden.steps, result.net.schedule.steps
    how = f"steps until no state moved by more than {result.net.schedule.tolerance} LSB, or the budget"
    return {
        "not_settled": number(result.unsettled, "simulated", "samples", f"of {len(steps)}, after {budget} steps"),
        "smallest": number(int(steps.min()), "simulated", "steps", how),
        "median": number(float(np.median(steps)), "simulated", "steps", how),
        "largest": number(int(steps.max()), "simulated", "steps", how),
    }


def verification_document(v: Verification) -> dict[str, Any]:
    """One simulator against golden as JSON values, every number with its kind."""
    if v.status == "missing":
        return {"simulator": v.simulator, "status": v.status, "reason": v.reason, "install": v.install}
    numbers = {
        "samples": number(v.samples, "simulated", "samples"),
        "steps": number(v.steps, "simulated", "steps", "steps compared with golden, all samples together"),
        "values": number(v.values, "simulated", "codes", "state and output codes compared with golden"),
        "mismatches": number(v.mismatches, "simulated", "codes"),
        "seconds": number(v.seconds, "measured", "s", "wall-clock time of the simulation on this machine"),
    }
    if v.labels_equal is not None:
        numbers["labels_equal"] = number(v.labels_equal, "simulated", "labels", "labels equal to those of golden")
    details = {"kind": "simulated", "how": f"counters of {v.simulator}", **plain(v.details)}
    return {"simulator": v.simulator, "status": v.status, **numbers, "details": details}


def told(details: Mapping[str, Any]) -> list[str]:
    """What people are shown of a runner's or a target's details: its own summary, else its counters with their kind."""
    if "summary" in details:
        return [str(line) for line in details["summary"]]
    groups = ((n, g) for n, g in details.items() if isinstance(g, dict) and "kind" in g)
    return [f"{name}: {scalars(found)} [{found['kind']}]" for name, found in groups]


def scalars(counters: Mapping[str, Any]) -> str:
    """Counters of a runner as a line of text, lists left out; a group of few numbers in brackets."""
    parts = []
    for name, value in counters.items():
        if isinstance(value, dict):
            inner = scalars(value) if len(value) <= _GROUP else ""
            parts += [f"{name} ({inner})"] if inner else []
        elif name != "kind" and not isinstance(value, list):
            parts.append(f"{name} {value:,.5g}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(parts)


def plain(value: Any) -> Any:
    """JSON values: NumPy scalars and arrays, tuples, paths and infinities turned into what JSON has."""
    match value:
        case Mapping():
            return {str(k): plain(v) for k, v in value.items()}
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
