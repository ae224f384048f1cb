"""The campaign as stages of the pipeline: what the command `eqfault` reaches by entry point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from ...toolchain import registry
from ...toolchain.diagnostics import Diagnostic, UnsupportedError, UsageError
from ...toolchain.ir import IntNet
from ...toolchain.typed_json import JsonObject
from ..faults.draw import same_ticks
from ..faults.engine import Outcome
from ..faults.model import EnumeratedModel, FaultModel, Population
from ..faults.table import Fault, parse_fault
from .chunks import open_engine, usable_engine
from .defaults import Hardware, filled_clocks, filled_options
from .definition import STORE, Campaign, baselines_of, read_campaign, write_campaign
from .environment.rates import unassigned
from .estimates import rate_of
from .notes import Notes
from .plan import Plan, PlanDocument, Stratification, make_plan
from .run import State, run_campaign, state_of
from .statistics import Interval, IntervalDocument, sample_size
from .store import open_store
from .strata import count_strata

__all__ = ["create", "define", "has_results", "replay", "resume", "size", "standing"]

size = sample_size


class OutcomeStanding(TypedDict):
    """How many faults ended so, and the interval of their rate (None: no fault yet)."""

    faults: int
    rate: IntervalDocument | None
    kind: str


class Standing(TypedDict):
    """What is stored of a campaign; `margin`: of the widest interval of an outcome (None: no fault yet)."""

    net: str
    model: str
    engine: str
    core: JsonObject
    choices: list[str]
    plan: PlanDocument
    faults: int
    finished: bool
    stopped_at_margin: bool
    margin: float | None
    outcomes: dict[str, OutcomeStanding]


class ReplayTick(TypedDict):
    """After a tick: how many state codes differ from the clean run, and by how much at most."""

    tick: int
    differ: int
    distance: int


class Replay(TypedDict):
    """One fault run again; `output`: the file with its states."""

    fault: str
    engine: str
    net: str
    ticks: list[ReplayTick]
    kind: str
    output: NotRequired[str]


def define(
    net: IntNet,
    inputs: Mapping[str, NDArray[np.int64]],
    *,
    model: str,
    options: JsonObject,
    engine: str,
    near: int,
    count: int | Literal["auto", "exhaustive"],
    seed: int,
    margin: float,
    confidence: float,
    stop_at_margin: float | None,
    strata: Stratification | None = None,
    counted: bool = False,
    notes: Notes,
    core: JsonObject | None = None,
    target: str | None = None,
    instrument: Callable[[str], Path] | None = None,
) -> Campaign:
    """A campaign with its plan; writes nothing.

    `core` as in `Campaign`; `target`: the one of the artifact that the net is from. `instrument(target)` builds the
    instrumented artifact that an engine runs and returns its folder; it is called once nothing else is left to refuse.
    Options that follow from the hardware, the engine and the inputs are filled in; the note `choices` says which and
    why. Raises UsageError for an unknown model or engine, for sites that the engine does not take, or without a fault
    to inject, MissingToolError where the engine cannot run here, UnsupportedError with what model and engine say
    against the net.
    """
    model_class = registry.find_class("faults", model, FaultModel)
    model_class(**options)
    machine = usable_engine(engine, net, None)
    hardware = Hardware(target=machine.instrument or target, core=core or {})
    filled, choices = filled_options(model_class, options, machine, hardware)
    artifact = None
    if machine.instrument and instrument is not None:
        artifact = instrument(machine.instrument)
        machine = usable_engine(engine, net, artifact)
    filled, more = filled_clocks(model_class, filled, machine, net, inputs, near)
    choices += more
    chosen = model_class(**filled).on(artifact)
    reasons = chosen.check(net)
    if reasons:
        raise UnsupportedError(reasons)
    population = chosen.population(net, inputs)
    if "environment" in notes and (absent := unassigned(notes["environment"], [s.name for s in population.sites])):
        raise UsageError(absent)
    if counted:
        _require_counted(chosen, population)
    plan = make_plan(
        population.size,
        count,
        enumerated=isinstance(chosen, EnumeratedModel),
        seed=seed,
        margin=margin,
        confidence=confidence,
        stop_at_margin=stop_at_margin,
        strata=strata,
        counted=counted,
        stratum_count=0 if strata is None else count_strata(population, strata),
    )
    return Campaign(
        net=net,
        inputs=inputs,
        model=model,
        options=filled,
        engine=engine,
        near=near,
        plan=plan,
        core=core or {},
        artifact=artifact,
        notes={**notes, "choices": choices} if choices else notes,
    )


def _require_counted(model: FaultModel, population: Population) -> None:
    """Refuse faults that do more than flip bits of one register once: they are not counted by unit, bit and tick."""
    masks = [model.masks(site) if isinstance(model, EnumeratedModel) else None for site in population.sites]
    if any(m is None for m in masks) or not same_ticks(population):
        what = f"faults of model {model.name} at these sites are not counted: they are more than flips of one register"
        raise UsageError(
            Diagnostic("counted-model", what, "--counted", "--model seu --sites state, or leave --counted out")
        )


def create(campaign: Campaign, folder: Path, *, baselines: Sequence[Campaign] = (), force: bool) -> None:
    """Write the folder of a campaign that has not begun."""
    write_campaign(campaign, folder, baselines=baselines, force=force)


def has_results(folder: Path) -> bool:
    """Whether any fault of a campaign or of its baselines is stored."""
    return any((place / STORE).exists() and _state(place).faults for _, place in _parts(folder))


def resume(
    folder: Path,
    *,
    scheduler: str,
    workers: int | None,
    progress: Callable[[str, State], None] | None = None,
) -> dict[str, State]:
    """Run what is missing of a campaign and of its baselines; where each stands, by `""`, `"baseline"`, `"baseline2"`.

    `progress(name, state)` is called as chunks are stored. Raises as `run_campaign`.
    """
    states = {}
    for name, place in _parts(folder):
        told = None if progress is None else _named(progress, name)
        states[name] = run_campaign(place, scheduler=scheduler, workers=workers, progress=told)
    return states


def _named(progress: Callable[[str, State], None], name: str) -> Callable[[State], None]:
    return lambda state: progress(name, state)


def _parts(folder: Path) -> list[tuple[str, Path]]:
    return [("", folder), *((place.name, place) for place in baselines_of(folder))]


def standing(folder: Path) -> dict[str, Standing]:
    """What is stored of a campaign and of its baselines, as JSON values."""
    found = {}
    for name, place in _parts(folder):
        found[name or "campaign"] = _state_document(read_campaign(place), _state(place), place)
    return found


def _state(place: Path) -> State:
    """Where one campaign stands, by what is stored."""
    plan = read_campaign(place).plan
    if not (place / STORE).exists():
        return State(plan, 0)
    with open_store(place / STORE, write=False) as store:
        return state_of(plan, store)


def _state_document(campaign: Campaign, state: State, place: Path) -> Standing:
    rows: dict[str, OutcomeStanding] = {}
    margin: float | None = None
    intervals = _intervals(campaign, place) if state.faults else {}
    for outcome in Outcome:
        interval = intervals.get(outcome)
        told = None if interval is None else interval.to_json()
        rows[outcome.name.lower()] = {"faults": state.outcomes.get(outcome, 0), "rate": told, "kind": "simulated"}
    if intervals:
        margin = max(interval.margin for interval in intervals.values())
    return {
        "net": campaign.net.name,
        "model": campaign.model,
        "engine": campaign.engine,
        "core": campaign.core,
        "choices": list(campaign.notes.get("choices", ())),
        "plan": campaign.plan.to_json(),
        "faults": state.faults,
        "finished": state.finished,
        "stopped_at_margin": state.stopped,
        "margin": margin,
        "outcomes": rows,
    }


def _intervals(campaign: Campaign, place: Path) -> dict[Outcome, Interval]:
    """The rate of each outcome so far."""
    with open_store(place / STORE, write=False) as store:
        return {o: rate_of(campaign.plan, campaign.population, store, f"outcome = {int(o)}") for o in Outcome}


def replay(folder: Path, text: str, *, engine: str | None) -> tuple[Replay, Mapping[str, NDArray[np.int64]]]:
    """One fault of a campaign again: its id, and after each tick the states and their distance to the clean run.

    `text` is an id, or `CHUNK.NUMBER` as in the table of results. Returns the document, and codes `[ticks, *shape]`
    int64 by state. Raises UsageError for what names no fault.
    """
    campaign = read_campaign(folder)
    if engine is not None:
        campaign = replace(campaign, engine=engine)
    fault = _fault(campaign, text)
    session = open_engine(campaign)
    states = session.trace(fault)
    clean = session.clean(fault.sample)
    apart = {name: np.abs(codes - clean[name]).reshape(len(codes), -1) for name, codes in states.items()}
    document: Replay = {
        "fault": str(fault),
        "engine": campaign.engine,
        "net": campaign.net.name,
        "ticks": [
            {
                "tick": tick,
                "differ": int(sum((d[tick] != 0).sum() for d in apart.values())),
                "distance": int(max(d[tick].max(initial=0) for d in apart.values())),
            }
            for tick in range(campaign.ticks)
        ],
        "kind": "simulated",
    }
    return document, states


def _fault(campaign: Campaign, text: str) -> Fault:
    chunk, _, number = text.partition(".")
    if not (chunk.isdecimal() and number.isdecimal()):
        fault = parse_fault(text)
        if fault.sample >= campaign.samples:
            what = f"sample {fault.sample} of {campaign.samples}"
            raise UsageError(Diagnostic("fault-sample", what, text, f"samples count from 0 to {campaign.samples - 1}"))
        return fault
    plan: Plan = campaign.plan
    if int(chunk) >= plan.chunks or int(number) >= plan.faults_in(int(chunk)):
        what = f"the campaign has {plan.chunks} chunks of {plan.chunk} faults"
        raise UsageError(Diagnostic("fault-number", what, text))
    return campaign.named([(int(chunk), int(number))])[0]
