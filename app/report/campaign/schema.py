"""The document of a campaign's report, as types: what `document` makes and the page is drawn from."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from eqcompile.sim.campaign.environment.rates import Failures, Missions
from eqcompile.sim.campaign.notes import CampaignDocument, Environment, Synthesis
from eqcompile.sim.campaign.statistics import IntervalDocument
from eqcompile.toolchain.typed_json import JsonObject

from ..schema import Kind, Number

__all__ = [
    "Baseline",
    "Bound",
    "CampaignPart",
    "CampaignReport",
    "CoreRate",
    "CoreRow",
    "Cores",
    "Cube",
    "Difference",
    "EnvironmentReport",
    "EnvironmentRow",
    "EnvironmentTotal",
    "Exposure",
    "FoundBy",
    "KindTotal",
    "Measure",
    "OutcomeRow",
    "Ranking",
    "RankingRow",
    "Rate",
    "Recovery",
    "RecoveryCurve",
    "ReportedCampaign",
    "SiteRow",
    "Strata",
    "StratifiedRate",
    "Stratum",
]


class Rate(IntervalDocument):
    """An interval with its kind."""

    kind: Kind


class ReportedCampaign(CampaignDocument):
    """`campaign.json`, and what a bit of -1 means."""

    bits_note: str


class OutcomeRow(TypedDict):
    """Faults that ended so, of all."""

    outcome: str
    meaning: str
    faults: int
    kind: Kind
    rate: Rate


class Measure(TypedDict):
    """A rate that compares networks: `hits` of `faults`."""

    measure: str
    kind: Kind
    hits: int
    faults: int
    rate: Rate


class SiteRow(TypedDict):
    """Faults of a site by outcome; `hits` counts those of `measure`."""

    site: str
    kind: Kind
    faults: int
    outcomes: dict[str, int]
    hits: int
    measure: str
    rate: Rate


class Stratum(TypedDict):
    """Faults of one stratum, and the interval of their rate. Keys that the strata do not have are left out."""

    site: NotRequired[str]
    bit: NotRequired[int]
    tick: NotRequired[int]
    hits: int
    faults: int
    rate: float
    low: float
    high: float


class Strata(TypedDict):
    """Rates by stratum."""

    measure: str
    kind: Kind
    rows: list[Stratum]


class RankingRow(IntervalDocument):
    """A bit or a unit (`number`) of a site, and the ranks that it may have."""

    site: str
    number: int
    hits: int
    faults: int
    rank_first: int
    rank_last: int


class Ranking(TypedDict):
    """The worst of `of` bits or units."""

    measure: str
    kind: Kind
    how: str
    of: int
    rows: list[RankingRow]


class Cube(TypedDict):
    """A state on a lattice of `edge`^3 units: by unit its faults, those not healed (`hits`), and wrong labels."""

    state: str
    edge: int
    kind: Kind
    measure: str
    faults: list[int]
    hits: list[int]
    wrong: list[int]


class StratifiedRate(TypedDict):
    """The rate with its strata weighted by their shares of the population."""

    measure: str
    by: str
    strata: int
    rate: Rate


class RecoveryCurve(TypedDict):
    """Distance to the clean run, in codes, after each tick that follows the upset."""

    id: str
    outcome: str
    distance: list[int]


class Bound(TypedDict):
    """A proved bound on the distance, in codes, and its part that is the upset's alone (`contraction`)."""

    factor: float
    kind: Kind
    how: str
    distance: list[float]
    contraction: list[float]


class Recovery(TypedDict):
    """How disturbed runs come back."""

    kind: Kind
    how: str
    unit: str
    curves: list[RecoveryCurve]
    median: list[float]
    largest: list[float]
    bound: NotRequired[Bound]


class EnvironmentRow(Failures):
    """Rates of a site. `failing`: the estimated fraction of upsets that fail; `fit_low`, `fit_high`: joint interval of
    rate and fraction at the campaign's confidence; `cell`: the kind of memory cell, where rates are given by kind."""

    site: str
    bits: int
    failing: float
    fit_low: float
    fit_high: float
    cell: NotRequired[str]


class EnvironmentTotal(EnvironmentRow):
    """Of all sites; `accumulated`: upsets that stand at a time (None: no scrubbing)."""

    accumulated: float | None


class KindTotal(TypedDict):
    """Rates of all bits of one kind of memory cell."""

    cell: str
    bits: int
    upsets_per_hour: float
    fit: float
    fit_low: float
    fit_high: float


class EnvironmentReport(Environment):
    """Rates of upsets and failures in an environment; `by_kind`: empty where one rate holds for all bits."""

    note: str
    sites: list[EnvironmentRow]
    by_kind: list[KindTotal]
    total: EnvironmentTotal
    mission: Missions


class CoreRate(TypedDict):
    """Faults of a core that ended so."""

    outcome: str
    faults: int
    kind: Kind
    rate: Rate


class FoundBy(TypedDict):
    """Detected faults by the mechanisms that reported them, and how many of the runs were aborted."""

    mechanisms: list[str]
    faults: int
    aborted: int
    kind: Kind


class CoreRow(TypedDict):
    """A core: `core` holds the options that describe it, `synthesis` its figures on parts."""

    net: str
    core: JsonObject
    faults: int
    rates: list[CoreRate]
    found_by: list[FoundBy]
    synthesis: list[Synthesis]
    label: NotRequired[str]


class Cores(TypedDict):
    """Cores side by side; `part`: the one for which all that have figures have them."""

    rows: list[CoreRow]
    part: str | None


class Exposure(TypedDict):
    """Bits that stand in the memory of a net, and those of them whose upset ends as `measure` says: the sum of bits
    times rate over the sites, `low` and `high` of the ends of their intervals. An upset rate of a bit times these is
    the rate of failures of a net that is never idle, however long one inference takes."""

    kind: Kind
    measure: str
    bits: int
    failing: float
    low: float
    high: float


class CampaignPart(TypedDict):
    """What is told of every campaign, compared ones too."""

    campaign: ReportedCampaign
    faults: Number
    finished: bool
    stopped_at_margin: bool
    seconds: Number
    outcomes: list[OutcomeRow]
    measures: list[Measure]
    reset: list[OutcomeRow]
    sites: list[SiteRow]
    exposure: Exposure
    core: NotRequired[CoreRow]
    environment: NotRequired[EnvironmentReport]


class Difference(TypedDict):
    """A measure of two campaigns, and whether its intervals are apart."""

    measure: str
    net: Rate
    baseline: Rate
    intervals_apart: bool


class Baseline(TypedDict):
    """A campaign that is compared with."""

    name: str
    baseline: CampaignPart
    difference: list[Difference]


class CampaignReport(CampaignPart):
    """The whole report."""

    report_version: Literal[3]
    tools: dict[str, str]
    maps: list[Strata]
    ticks: list[Strata]
    bits: list[Ranking]
    units: list[Ranking]
    wrong_ids: list[str]
    cube: Cube | None
    stratified: StratifiedRate | None
    recovery: Recovery | None
    baselines: list[Baseline]
    cores: Cores | None
