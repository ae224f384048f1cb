"""What `campaign.json` holds beside what the results depend on: where net and samples are from, and the environment."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from eqcompile.toolchain.typed_json import JsonObject

from .environment.orbit import KindRate
from .plan import PlanDocument

__all__ = ["CampaignDocument", "Environment", "Flux", "Notes", "Part", "Rate", "Samples", "Source", "Synthesis"]


class Flux(TypedDict):
    """Particles per cm2 and hour."""

    particle: str
    per_cm2_hour: float
    source: str


class Part(TypedDict):
    """A class of parts; in an orbit its title alone."""

    title: str
    cm2_per_bit: NotRequired[float]
    source: NotRequired[str]
    note: NotRequired[str]


class Rate(TypedDict):
    """Upsets of a bit a day."""

    upsets_per_bit_day: float
    source: str


class Environment(TypedDict):
    """Upsets of a bit per hour, and the constants it comes from: a rate, or a flux with a part; or rates by kind of
    memory cell (`kinds`), with the kind of cell that holds a site (`held_by`, by the site's kind or whole name) and the
    factor within which the fluxes lie. `scrub_s`: period of scrubbing, None without; `mission_s`: length of a mission;
    both in seconds."""

    name: str
    title: str
    flux: NotRequired[Flux]
    part: NotRequired[Part]
    rate: NotRequired[Rate]
    upsets_per_bit_hour: NotRequired[float]
    kinds: NotRequired[dict[str, KindRate]]
    held_by: NotRequired[dict[str, str]]
    factor: NotRequired[float]
    spectra: NotRequired[str]
    scrub_s: float | None
    mission_s: float
    devices: int
    kind: str


class Synthesis(TypedDict):
    """Figures of a core on an FPGA: `cells` by kind, Fmax in MHz (None: not routed)."""

    part: str
    flip_flops: int
    fmax_mhz: float | None
    fmax_range_mhz: list[float] | None
    tools: list[str]
    cells: dict[str, int]
    seeds: int
    kind: str
    how: str


class Source(TypedDict):
    """The artifact or net file, its target (None: a net file), and figures of its synthesis, if it has any."""

    path: str
    target: str | None
    synthesis: NotRequired[list[Synthesis]]


class Samples(TypedDict):
    """Where the input codes are from, as a sentence."""

    source: str


class Notes(TypedDict, total=False):
    """`command`: the command line; `choices`: why options are as they are, a sentence each."""

    command: str
    source: Source
    samples: Samples
    environment: Environment
    choices: list[str]


class InputsDocument(TypedDict):
    """How many samples, and the SHA-256 of their codes."""

    samples: int
    digest: str


class ScheduleDocument(TypedDict):
    """The schedule of the net, as the fields of `Schedule`."""

    steps: int
    tolerance: int
    frames: bool
    emit: str
    stop: None


class CampaignDocument(Notes):
    """What `campaign.json` holds."""

    campaign_version: int
    net: str
    family: str
    ir_digest: str
    inputs: InputsDocument
    model: str
    options: JsonObject
    engine: str
    core: JsonObject
    near: int
    plan: PlanDocument
    schedule: ScheduleDocument
    tools: dict[str, str]
