"""The JSON documents of commands that have no report, as types."""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict, final

from eqcompile.toolchain.typed_json import JSON, JsonObject

if TYPE_CHECKING:
    # The package `report` imports the pipeline, for which a list of targets must not wait.
    from .report.schema import DeviationDocument, Number, Settings, VerificationDocument

__all__ = [
    "Candidates",
    "CertifyDocument",
    "EngineDocument",
    "FamiliesDocument",
    "FamilyDocument",
    "InjectionDocument",
    "RefusalDocument",
    "CounterexampleDocument",
    "Inspection",
    "LocalDocument",
    "ProofDocument",
    "RecoveryDocument",
    "RecoveryRow",
    "RunDocument",
    "SettingDocument",
    "StepsDocument",
    "TargetState",
    "TuneDocument",
    "TunedAccuracy",
    "UnavailableDocument",
    "VerifyDocument",
    "WeightDocument",
]


class StepsDocument(TypedDict):
    """Steps of the samples; `at_budget`: how many made as many as the net may, settled or not."""

    smallest: Number
    largest: Number
    at_budget: Number


class RunDocument(TypedDict):
    """What `eqcompile run` ran; `saturated`, `output_scale` and `details` of an artifact alone,
    `deviations` of a checkpoint; `right`: labels as the samples' file states them."""

    warnings: NotRequired[list[str]]
    source: str
    family: str
    digest: str
    simulator: str
    samples: Number
    steps: StepsDocument
    seconds: Number
    right: NotRequired[Number]
    output: str
    keys: list[str]
    saturated: NotRequired[Number]
    output_scale: NotRequired[dict[str, float | None]]
    details: NotRequired[JsonObject]
    deviations: NotRequired[list[DeviationDocument]]


class RecoveryRow(TypedDict):
    """What holds after an upset of any states that leaves this many ticks."""

    ticks: int
    safe: Number
    apart_median: Number
    apart_most: Number


class ProofDocument(TypedDict):
    """What a checker replays: codes of the `inputs`, and for each sample and each number of ticks left whether the
    label is `safe` and by how many codes a unit can be `apart`; int64 in rows, little-endian, zlib, base64."""

    ticks: int
    inputs: dict[str, str]
    safe: str
    apart: str


class LocalDocument(TypedDict):
    """Of `samples` without a proof for upsets of any size: one that moves no unit by more than `radius` codes, in any
    number of units, leaves the label and brings each unit within `apart` codes, `ticks` ticks later. Radius 0: none."""

    ticks: int
    samples: list[int]
    radius: list[int]
    apart: list[int]
    share: Number
    rate: NotRequired[Number]


class CounterexampleDocument(TypedDict):
    """A run from `start` that `ticks` ticks later is elsewhere than the run of the net, by up to `codes` codes in a
    unit, or in a cycle of `period` ticks as one of both is; `labels` of both, the net's run first."""

    sample: int
    what: str
    ticks: int
    codes: int
    labels: list[int]
    period: int
    start: dict[str, str]


class RecoveryDocument(TypedDict):
    """What is proved of the samples, or the `reason` why nothing is. `harmless_from`: for each sample the ticks that an
    upset must leave to be harmless; None where that is not proved. `not_hit`: states that only count ticks, whose
    upsets are left out."""

    samples: str
    not_hit: NotRequired[list[str]]
    reason: NotRequired[str]
    count: NotRequired[int]
    settled: NotRequired[Number]
    never: NotRequired[Number]
    rows: NotRequired[list[RecoveryRow]]
    harmless_from: NotRequired[list[int | None]]
    proof: NotRequired[ProofDocument]
    theorem: NotRequired[str]
    local: NotRequired[LocalDocument]
    counterexamples: NotRequired[list[CounterexampleDocument]]


class CertifyDocument(TypedDict):
    """What `eqcompile certify` proved; `lines` are for people. `net_sha256`: of net.onnx, where there is a file.
    `sha256`: of the rest of the document, keys sorted and no blanks."""

    source: str
    ir_digest: str
    certificate: JsonObject
    lines: list[str]
    recovery: NotRequired[RecoveryDocument]
    net_sha256: NotRequired[str]
    sha256: NotRequired[str]


class VerifyDocument(TypedDict):
    """What `eqcompile verify` found out."""

    artifact: str
    target: str
    ir_digest: str
    files: int
    samples: str
    verification: list[VerificationDocument]


class SettingDocument(TypedDict):
    """A setting of a family; a default of None must be given."""

    name: str
    default: JSON
    doc: str


class FamilyDocument(TypedDict):
    """A family of networks; `same_as` is the family that an alias names, `offer` how a command line asks for it."""

    family: str
    summary: str
    settings: list[SettingDocument]
    same_as: str | None
    offer: str


class UnavailableDocument(TypedDict):
    """A plug-in that cannot be loaded, and why."""

    name: str
    entry_point: str
    reason: str


class FamiliesDocument(TypedDict):
    """The families that can be imported, and plug-ins that cannot be loaded."""

    families: list[FamilyDocument]
    unavailable: list[UnavailableDocument]


class EngineDocument(TypedDict):
    """What an engine of fault campaigns lacks, and the command that installs it."""

    missing: list[str]
    install: str


class InjectionDocument(TypedDict):
    """Fault models (with a summary each) and engines by name, and plug-ins that cannot be loaded."""

    models: dict[str, str]
    engines: dict[str, EngineDocument]
    unavailable: list[UnavailableDocument]


class RefusalDocument(TypedDict):
    """A reason why a target does not take a net."""

    code: str
    what: str
    where: str
    hint: str


class WeightDocument(TypedDict):
    """A weight of a linear map; `norm`: None where the matrix is too large."""

    name: str
    op: str
    shape: list[int]
    source: str
    density: Number
    ternary: bool
    norm: Number | None


@final
class Inspection(TypedDict):
    """What `eqcompile inspect` says of a net; `manifest` of an artifact alone, `core_memory` where a part was named."""

    warnings: list[str]
    file: str
    what: str
    family: str
    digest: str
    inputs: dict[str, list[int]]
    states: dict[str, list[int]]
    outputs: dict[str, list[int]]
    steps: int
    settings: Settings
    ignored_tensors: list[str]
    weights: list[WeightDocument]
    certificate: JsonObject
    text: str
    manifest: NotRequired[JsonObject]
    core_memory: NotRequired[JsonObject]


@final
class Candidates(TypedDict):
    """A checkpoint whose family is open."""

    file: str
    what: str
    candidates: list[FamilyDocument]
    tensors: dict[str, list[int]]


class TargetState(TypedDict):
    """A target and whether it is installed; `missing`: what is absent, or why it cannot be loaded."""

    name: str
    summary: str
    installed: bool
    missing: list[str]
    install: str
    simulators: list[str]
    refusals: NotRequired[list[RefusalDocument]]
    """Of a model that was named: what is certain before quantization."""


class TunedAccuracy(TypedDict):
    """Shares of right labels on one set of samples."""

    samples: Number
    float_before: Number
    integers_before: Number
    integers_after: Number


class AlternativeDocument(TypedDict):
    """A training that a bound or a margin is priced with; `accuracy` is empty where it diverged, `bound` None where
    nothing is proved."""

    accuracy: dict[str, Number]
    bound: Number | None


class TuneDocument(TypedDict):
    """What `eqcompile tune` did; widths and guard bits of single tensors and states by name."""

    source: str
    output: str
    family: str
    weights: str
    widths: dict[str, str]
    state_bits: int
    states: dict[str, int]
    guard_bits: int
    guards: dict[str, int]
    digest: str
    max_lipschitz: float | None
    margin: float
    bound: Number | None
    others: dict[str, AlternativeDocument]
    accuracy: dict[str, TunedAccuracy]
    trained_on: Number
    epoch: Number
    seconds: Number
    frozen: dict[str, str]
    history: list[JsonObject]
    compile_options: str
