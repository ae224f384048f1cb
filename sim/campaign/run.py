"""Run a campaign, or go on with one: give out the chunks that are missing, store each, stop where it is allowed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...toolchain.diagnostics import ArtifactError, Diagnostic
from ..faults.engine import Outcome
from ..process import each_second, usable_processors
from .chunks import chunk_digest, find_engine, run_chunk
from .definition import STORE, Campaign, Content, read_content
from .plan import Plan
from .scheduler import LOCAL, make_pool
from .store import Store, open_store

__all__ = ["Progress", "State", "run_campaign", "state_of"]


@dataclass(frozen=True)
class State:
    """Where a campaign stands. `outcomes`: faults by outcome, of all rows. `finished`: every chunk is there, or it
    stopped at a look; `stopped` says the latter. `preparing`: the engine that is being compiled, if one is."""

    plan: Plan
    faults: int
    outcomes: dict[Outcome, int] = field(default_factory=dict)
    finished: bool = False
    stopped: bool = False
    preparing: str = ""

    @property
    def margin(self) -> float:
        """Half the width of the widest interval of an outcome, so far."""
        return max(self.plan.interval(self.outcomes.get(o, 0), self.faults).margin for o in Outcome)


Progress = Callable[[State], None]


def run_campaign(
    folder: Path, *, scheduler: str = LOCAL, workers: int | None = None, progress: Progress | None = None
) -> State:
    """Inject what is missing of the campaign in `folder`; what was there stays. `workers`: local processes, by default
    one for each processor.

    The rows are the same whoever runs them and in whatever order: a look is taken only when all chunks before it are
    there, and none after it was begun. What an engine compiles for the machine is compiled here, before local workers
    that would each do so. Raises ArtifactError if the folder is no campaign or its results are of other
    faults, and what the engine, the scheduler and the store raise; all rows stored before stay.
    """
    content = read_content(folder)
    campaign = content.open()
    plan = campaign.plan
    count = min(workers or usable_processors(), plan.chunks)
    engine = find_engine(campaign)
    if scheduler == LOCAL and engine.alone:
        count = 1
    with open_store(folder / STORE, write=True) as store:
        _demand_same(campaign, store, folder)
        state = state_of(plan, store)
        if progress is not None:
            progress(state)
        if state.finished:
            return state
        if scheduler == LOCAL:
            with each_second(lambda: progress and progress(replace(state, preparing=engine.name))):
                engine.prepare(campaign.net)
            if progress is not None:
                progress(state)
        return _inject(content, store, state, scheduler, count, progress)


def _inject(
    content: Content, store: Store, state: State, scheduler: str, workers: int, progress: Progress | None
) -> State:
    plan = state.plan
    with closing(make_pool(content, run_chunk, scheduler, workers)) as pool:
        for end in plan.looks or (plan.chunks,):
            there = store.chunks()
            missing = [number for number in range(end) if number not in there]
            for chunk in pool.run(missing):
                store.append(chunk)
                if progress is not None:
                    progress(state_of(plan, store))
            state = state_of(plan, store)
            if state.finished:
                break
    return state


def state_of(plan: Plan, store: Store) -> State:
    """Where the campaign of a store stands."""
    outcomes = {Outcome(code): count for code, count in store.outcomes().items()}
    state = State(plan, sum(outcomes.values()), outcomes)
    there = len(store.chunks())
    if there == plan.chunks:
        return State(plan, state.faults, outcomes, finished=True)
    # Nothing is begun beyond a look before it is taken, so this many chunks are the first ones.
    stops = there in plan.looks and plan.stop_at_margin is not None and state.margin <= plan.stop_at_margin
    return State(plan, state.faults, outcomes, finished=stops, stopped=stops)


def _demand_same(campaign: Campaign, store: Store, folder: Path) -> None:
    """Refuse to go on with results of other faults: a changed fault model would mix two campaigns in one."""
    for number, digest in list(store.chunks().items())[:1]:
        found = chunk_digest(campaign, number)
        if found != digest:
            what = f"chunk {number} was drawn as {digest[:12]}, this eqcompile draws {found[:12]}"
            raise ArtifactError(Diagnostic("campaign-changed", what, str(folder), "run the campaign anew"))
