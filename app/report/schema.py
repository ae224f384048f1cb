"""The document of a compilation as types: what `data` makes, and what page and terminal are written from.

Every number that is a result stands in an object that says its `kind`:

- `measured`: read off the file, or computed by running on this machine (the unit and `how` say what);
- `simulated`: out of golden or a simulator of the hardware;
- `estimated`: out of a model of the hardware;
- `proved`: a bound that holds for every input.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from eqcompile.toolchain.typed_json import JSON, JsonObject

from ..contraction import ContractionDocument

__all__ = [
    "AccuracyDocument",
    "AgreementDocument",
    "Choices",
    "CubeCodes",
    "Changing",
    "DeviationDocument",
    "Kind",
    "Logits",
    "Movement",
    "Number",
    "Relaxation",
    "ReportDocument",
    "ReportedResult",
    "ResultDocument",
    "SampleRelaxation",
    "Setting",
    "Settings",
    "Settling",
    "StepCount",
    "UnitCodes",
    "VerificationDocument",
]

Kind = Literal["measured", "simulated", "estimated", "proved"]


class Number(TypedDict):
    """A result; `how` says where it comes from."""

    value: float
    kind: Kind
    unit: str
    how: NotRequired[str]


class Model(TypedDict):
    """The checkpoint and the net in it; shapes by name."""

    file: str
    sha256: str | None
    family: str
    family_from: str
    eqnet_digest: str
    inputs: dict[str, list[int]]
    states: dict[str, list[int]]
    outputs: list[str]
    steps: int
    ignored_tensors: list[str]


class Setting(TypedDict):
    """A setting of the import, and who chose its value."""

    name: str
    value: JSON
    source: str


class Settings(TypedDict):
    """Settings that the user or the file state, and those that nobody did."""

    given: list[Setting]
    assumed: list[Setting]


class Choices(TypedDict):
    """Scales and formats: a row for each tensor, state and input."""

    kind: Kind
    how: str
    rows: list[JsonObject]


class Quantization(TypedDict):
    """`calibration`: name of the file, None without one."""

    options: JsonObject
    calibration: str | None
    choices: Choices
    assumed: list[Setting]


class Accumulators(TypedDict):
    """Width of every exact sum, by value name."""

    kind: Kind
    unit: str
    how: str
    values: dict[str, int]


class SamplesDocument(TypedDict):
    """The inputs that were run; `saturated`: entries out of range."""

    source: str
    generated: bool
    count: Number
    saturated: Number


class AgreementDocument(TypedDict):
    """Golden against the float64 reference, by state and output; `labels_equal` where the net tells classes."""

    labels_equal: NotRequired[Number]
    labels: Number
    state_error: dict[str, Number]
    state_error_lsb: dict[str, Number]
    output_error: dict[str, Number]


class StepCount(TypedDict):
    """How many samples made `first` to `last` steps and settled, and how many did not settle."""

    first: int
    last: int
    settled: int
    not_settled: int


class Histogram(TypedDict):
    """Bins in order, without gaps."""

    kind: Kind
    unit: str
    bins: list[StepCount]


class Settling(TypedDict):
    """Steps until the samples settled, and how many did not."""

    not_settled: Number
    smallest: Number
    median: Number
    largest: Number
    histogram: Histogram


class TargetDocument(TypedDict):
    """The target with its options; `details`: what it says of the artifact, with `kind` and `how`."""

    name: str
    options: JsonObject
    details: JsonObject


class EqualDocument(TypedDict):
    """A simulator whose every code was golden's."""

    simulator: str
    status: Literal["equal"]
    samples: Number
    steps: Number
    values: Number
    mismatches: Number
    seconds: Number
    labels_equal: NotRequired[Number]
    details: JsonObject


class MissingDocument(TypedDict):
    """A simulator whose tool is absent."""

    simulator: str
    status: Literal["missing"]
    reason: str
    install: str


class SkippedDocument(TypedDict):
    """A simulator that cannot hold the net, or would take too long."""

    simulator: str
    status: Literal["skipped"]
    reason: str


VerificationDocument = EqualDocument | MissingDocument | SkippedDocument


class Confusion(TypedDict):
    """`counts[true][golden]`: samples by their true label and by that of golden."""

    kind: Kind
    counts: list[list[int]]


class AccuracyDocument(TypedDict):
    """The fraction of right labels, by the float64 reference and by golden; `confusion` of at most 64 classes."""

    source: str
    samples: Number
    float: Number
    integer: Number
    confusion: NotRequired[Confusion]


class DeviationDocument(TypedDict):
    """The float64 reference against an output that the file of samples states; `relative`: to its largest entry."""

    output: str
    source: str
    samples: Number
    largest: Number
    relative: Number
    close: bool


class ResultDocument(TypedDict):
    """One compilation."""

    warnings: list[str]
    model: Model
    settings: Settings
    quantization: Quantization
    contraction: ContractionDocument
    ir_digest: str
    accumulators: Accumulators
    samples: SamplesDocument
    agreement: AgreementDocument
    settling: Settling
    target: TargetDocument
    verification: list[VerificationDocument]
    output: str
    accuracy: NotRequired[AccuracyDocument]
    deviations: list[DeviationDocument]


class Movement(TypedDict):
    """The largest |change| of any unit in each tick, by sample."""

    unit: str
    samples: list[list[int]]


class Changing(TypedDict):
    """The fraction of `of_units` that change in each tick, over all samples."""

    unit: str
    of_units: int
    mean: list[float]


class UnitCodes(TypedDict):
    """Codes `[tick][unit]` of one state of one sample; `lowest` and `highest` are the ends of its format, a code is
    worth `2^-frac`."""

    unit: str
    state: str
    sample: int
    of_units: int
    format: str
    frac: int
    lowest: int
    highest: int
    codes: list[list[int]]


class Logits(TypedDict):
    """Codes `[tick][entry]` of an output, read after each of `ticks`; a code times `scale` is the value."""

    unit: str
    output: str
    scale: float | None
    sample: int
    kind_of_output: str
    ticks: list[int]
    codes: list[list[int]]


class SlopesDocument(TypedDict):
    """Slopes of the float64 step around the states of golden, by central differences. `steep[tick]`: the units
    of `units` that a change of the states moves by more than its 2-norm; `largest[tick]`: the largest such slope;
    `radius`: spectral radius around the last state."""

    kind: Kind
    how: str
    steep: list[list[int]]
    largest: list[float]
    radius: float


class NudgeDocument(TypedDict):
    """A nudged phase of the float64 reference from its free equilibrium on. `states[tick][unit]`: that equilibrium and
    the state after each nudged tick; `push[tick][unit]`: what the nudge added to the argument of the nonlinearity;
    `loss`: cross-entropy at the first and the last of the states."""

    kind: Kind
    how: str
    beta: float
    states: list[list[float]]
    push: list[list[float]]
    loss: tuple[float, float]


class SampleRelaxation(TypedDict):
    """One sample: the label that its file states, those of the float64 reference and of golden (each empty where there
    is none, several where there are several rows), and how it settles. No `logits` where the input is a sequence; no
    `slopes` of large nets and of nets with states that have no scale; `nudge` where the sample has a label and the net
    is a vector of states behind one nonlinearity."""

    sample: int
    label: list[int]
    float_label: list[int]
    integer_label: list[int]
    steps: int
    settled: bool
    units: UnitCodes
    logits: NotRequired[Logits]
    slopes: NotRequired[SlopesDocument]
    nudge: NotRequired[NudgeDocument]


class CubeCodes(TypedDict):
    """Codes `[tick][unit]` of a state on a lattice of `edge`^3 units of one sample, after each of `ticks`; `moves`: by
    how many codes each unit moved in that tick."""

    state: str
    sample: int
    edge: int
    lowest: int
    highest: int
    ticks: list[int]
    codes: list[list[int]]
    moves: list[list[int]]


class Relaxation(TypedDict):
    """How the net settles, tick by tick from `first_tick` on, and the first samples one by one. `cube`: of a net on a
    lattice."""

    kind: Kind
    how: str
    first_tick: int
    movement: Movement
    changing: Changing
    samples: list[SampleRelaxation]
    cube: NotRequired[CubeCodes]


class ReportedResult(ResultDocument):
    """One compilation with its curves; none of a net whose states have no scale."""

    relaxation: Relaxation | None


class ReportDocument(TypedDict):
    """The whole report; `tools`: versions by package."""

    report_version: int
    command: list[str]
    tools: dict[str, str]
    results: list[ReportedResult]
