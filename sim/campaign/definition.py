"""What a campaign is: a folder whose `campaign.json`, `net.onnx` and `inputs.npz` say everything that its results
depend on, with the instrumented artifact in `instrument/` that some engines run. It is made whole or not at all and
never changes; results go into the store beside it.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...toolchain import artifact, registry
from ...toolchain.diagnostics import ArtifactError, Diagnostic, UsageError, VerifyError
from ...toolchain.ir import IntNet
from ...toolchain.ir.serial import load, save
from ...toolchain.typed_json import JsonObject
from ..faults.draw import Draw
from ..faults.model import EnumeratedModel, FaultModel, Population
from ..faults.table import Fault, FaultTable
from .notes import CampaignDocument, Notes
from .plan import Plan
from .strata import draw_numbers

__all__ = [
    "CAMPAIGN",
    "BASELINE",
    "STORE",
    "Campaign",
    "Content",
    "baselines_of",
    "read_campaign",
    "read_content",
    "write_campaign",
]

CAMPAIGN, NET, INPUTS, STORE = "campaign.json", "net.onnx", "inputs.npz", "results.duckdb"
INSTRUMENT = "instrument"
BASELINE = "baseline"
"""Folder of the first baseline; those of further ones are called `baseline2` and so on."""
VERSION = 3
_TOOLS = ("duckdb", "numba", "scipy", "distributed")


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """`inputs`: codes `[samples, (frame,) *shape]` by input. `model` and `engine` are registered names, `options` the
    fields of the model that were stated or chosen. `core`: what describes the core that faults are injected into,
    options of the target `rtl` (empty: the serial core as it is by default). `near`: codes within which the end counts
    as near. `artifact`: the folder of the instrumented artifact, for engines that run one. `notes`: what else
    `campaign.json` holds (JSON values): the command, the source, the environment."""

    net: IntNet
    inputs: Mapping[str, NDArray[np.int64]]
    model: str
    options: JsonObject
    engine: str
    near: int
    plan: Plan
    core: JsonObject = field(default_factory=dict)
    artifact: Path | None = None
    notes: Notes = field(default_factory=Notes)

    @property
    def samples(self) -> int:
        return len(next(iter(self.inputs.values())))

    @property
    def ticks(self) -> int:
        """Ticks of a run, all frames together."""
        frames = next(iter(self.inputs.values())).shape[1] if self.net.schedule.frames else 1
        return frames * self.net.schedule.steps

    @cached_property
    def population(self) -> Population:
        """Where the faults of this campaign may be."""
        found: Population = self.fault_model.population(self.net, self.inputs)
        return found

    @cached_property
    def fault_model(self) -> FaultModel:
        """The model with its options, on the artifact."""
        made = registry.find_class("faults", self.model, FaultModel)(**self.options).on(self.artifact)
        return made

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        """The faults of a plan without replacement, in the order of their injection."""
        drawn: NDArray[np.int64] = np.random.default_rng(self.plan.seed).permutation(self.plan.population)
        return drawn[: self.plan.size]

    def drawn(self, number: int) -> Draw:
        """How the faults of chunk `number` of a counted campaign are drawn."""
        model, population = self._enumerated, self.population
        seed = np.random.SeedSequence(self.plan.seed, spawn_key=(number,)).generate_state(1, np.uint64)[0]
        return Draw(
            population=population,
            masks=tuple(model.masks(site) for site in population.sites),
            table=lambda points: model.faults(self.net, self.inputs, population, points),
            count=self.plan.faults_in(number),
            seed=int(seed),
        )

    def named(self, pairs: Sequence[tuple[int, int]]) -> list[Fault]:
        """Faults by chunk and number, in their order."""
        numbers: dict[int, list[int]] = {}
        for chunk, number in pairs:
            numbers.setdefault(chunk, []).append(number)
        tables = {chunk: iter(self.faults(chunk, which)) for chunk, which in numbers.items()}
        return [next(tables[chunk]) for chunk, _ in pairs]

    def faults(self, number: int, which: Sequence[int] | None = None) -> FaultTable:
        """The faults of chunk `number`, or those of the numbers `which`: the same ones whenever and wherever they are
        asked for."""
        if self.plan.counted:
            count = self.plan.faults_in(number)
            return self.drawn(number).faults(np.arange(count) if which is None else np.asarray(which, np.int64))
        table = self._chunk(number)
        return table if which is None else table.take(np.asarray(which, np.intp))

    def _chunk(self, number: int) -> FaultTable:
        first, count = number * self.plan.chunk, self.plan.faults_in(number)
        match self.plan.method:
            case "exhaustive":
                return self._at(np.arange(first, first + count))
            case "without replacement":
                return self._at(self._order[first : first + count])
            case "stratified":
                assert self.plan.strata is not None
                seeds = np.random.SeedSequence(self.plan.seed, spawn_key=(number,))
                generator = np.random.default_rng(seeds)
                return self._at(draw_numbers(self.population, self.plan.strata, first, count, generator))
            case "with replacement":
                seeds = np.random.SeedSequence(self.plan.seed, spawn_key=(number,))
                return self.fault_model.draw(self.net, count, np.random.default_rng(seeds), self.inputs)

    @property
    def _enumerated(self) -> EnumeratedModel:
        assert isinstance(self.fault_model, EnumeratedModel), "the plan lists the faults of enumerated models alone"
        return self.fault_model

    def _at(self, numbers: NDArray[np.int64]) -> FaultTable:
        return self._enumerated.faults(self.net, self.inputs, self.population, self.population.points(numbers))

    def to_json(self) -> CampaignDocument:
        """What `campaign.json` holds."""
        schedule = self.net.schedule
        return {
            "campaign_version": VERSION,
            "net": self.net.name,
            "family": self.net.family,
            "ir_digest": self.net.digest,
            "inputs": {"samples": self.samples, "digest": _digest(self.inputs)},
            "model": self.model,
            "options": dict(self.options),
            "engine": self.engine,
            "core": dict(self.core),
            "near": self.near,
            "plan": self.plan.to_json(),
            "schedule": {
                "steps": schedule.steps,
                "tolerance": schedule.tolerance,
                "frames": schedule.frames,
                "emit": schedule.emit,
                "stop": None,
            },
            "tools": artifact.tool_versions(*_TOOLS),
            **self.notes,
        }


@dataclass(frozen=True)
class Content:
    """The files of a campaign, as bytes: what a worker on another machine is given."""

    campaign: bytes
    net: bytes
    inputs: bytes
    instrument: tuple[tuple[str, bytes], ...] = ()

    def open(self, artifact: Path | None = None) -> Campaign:
        """The campaign; raises ArtifactError where the files do not fit one another. `artifact` is the folder of the
        instrumented artifact where it is at hand, else a temporary one that goes with the campaign."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / NET
            path.write_bytes(self.net)
            net = load(path)
        document: CampaignDocument = json.loads(self.campaign)
        stated = document["ir_digest"]
        with np.load(io.BytesIO(self.inputs), allow_pickle=False) as held:
            inputs = {name: held[name] for name in held.files}
        if not isinstance(net, IntNet) or net.digest != stated or _digest(inputs) != document["inputs"]["digest"]:
            what = f"{NET} or {INPUTS} is not what {CAMPAIGN} says: digest {net.digest[:12]}, {stated[:12]}"
            raise ArtifactError(Diagnostic("campaign-changed", what, document["net"], "run the campaign anew"))
        keys = Notes.__optional_keys__ & set(document)
        notes: Notes = {key: document[key] for key in keys}  # type: ignore[assignment, literal-required]
        unpacked = self._unpacked() if artifact is None and self.instrument else None
        campaign = Campaign(
            net=net,
            inputs=inputs,
            plan=Plan.from_json(document["plan"]),
            model=document["model"],
            options=document["options"],
            engine=document["engine"],
            core=document["core"],
            near=document["near"],
            artifact=artifact or unpacked,
            notes=notes,
        )
        if unpacked is not None:
            weakref.finalize(campaign, shutil.rmtree, unpacked, ignore_errors=True)
        return campaign

    def _unpacked(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="eqcompile-instrument-"))
        for name, content in self.instrument:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder


def _digest(inputs: Mapping[str, NDArray[np.int64]]) -> str:
    found = hashlib.sha256()
    for name, codes in sorted(inputs.items()):
        found.update(f"{name}{codes.shape}".encode())
        found.update(np.ascontiguousarray(codes, np.int64).tobytes())
    return found.hexdigest()


def write_campaign(campaign: Campaign, folder: Path, *, baselines: Sequence[Campaign] = (), force: bool) -> None:
    """Make the folder, or leave what was there: ArtifactError if it exists (with `force`: and is no campaign).

    `baselines` are campaigns on other nets or cores, to compare with, in folders inside (`baselines_of`).
    """
    with artifact.new_folder(folder, force=force, marker=CAMPAIGN) as temporary:
        _write(campaign, temporary)
        for number, baseline in enumerate(baselines, 1):
            place = temporary / (BASELINE if number == 1 else f"{BASELINE}{number}")
            place.mkdir()
            _write(baseline, place)


def baselines_of(folder: Path) -> list[Path]:
    """The folders of the baselines of a campaign, in the order in which they were stated."""
    places = [p for p in folder.glob(f"{BASELINE}*") if p.is_dir()]
    return sorted(places, key=lambda p: int(p.name.removeprefix(BASELINE) or 1))


def _write(campaign: Campaign, folder: Path) -> None:
    save(campaign.net, folder / NET)
    with (folder / INPUTS).open("wb") as file:
        np.savez(file, **campaign.inputs)
    if campaign.artifact is not None:
        shutil.copytree(campaign.artifact, folder / INSTRUMENT)
    artifact.write_json(folder / CAMPAIGN, campaign.to_json())


def read_content(folder: Path) -> Content:
    """The files of a campaign folder; ArtifactError if it is none, or of another version."""
    try:
        campaign, net, inputs = ((folder / name).read_bytes() for name in (CAMPAIGN, NET, INPUTS))
        content = Content(
            campaign,
            net,
            inputs,
            tuple(
                (path.relative_to(folder / INSTRUMENT).as_posix(), path.read_bytes())
                for path in sorted((folder / INSTRUMENT).rglob("*"))
                if path.is_file()
            ),
        )
        said = json.loads(content.campaign)
        version = said.get("campaign_version") if isinstance(said, dict) else None
    except (OSError, ValueError) as error:
        what = f"no readable campaign: {getattr(error, 'strerror', None) or error}"
        raise ArtifactError(Diagnostic("not-a-campaign", what, str(folder), "eqfault run makes one")) from error
    if version != VERSION:
        what = f"campaign version {version}, this eqcompile reads {VERSION}"
        raise ArtifactError(Diagnostic("campaign-version", what, str(folder / CAMPAIGN)))
    return content


def read_campaign(folder: Path) -> Campaign:
    """The campaign of a folder. Raises ArtifactError as `read_content`, or where a file was changed or damaged."""
    content = read_content(folder)
    try:
        return content.open((folder / INSTRUMENT).absolute() if content.instrument else None)
    except (LookupError, ValueError, TypeError, OSError) as error:
        if isinstance(error, (ArtifactError, UsageError, VerifyError)):
            raise
        what = f"the campaign is damaged: {error}"
        raise ArtifactError(Diagnostic("not-a-campaign", what, str(folder), "run the campaign anew")) from error
