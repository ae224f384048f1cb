"""Campaigns, environments, and the programs that simulators are."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from fault_toys import installed_toys
from strategies import small_net
from toy_campaigns import made

from eqcompile.sim.campaign import api
from eqcompile.sim.campaign.chunks import run_chunk
from eqcompile.sim.campaign.definition import CAMPAIGN, NET, Campaign, read_campaign
from eqcompile.sim.campaign.environment import rates
from eqcompile.sim.campaign.environment.spectra import read_let
from eqcompile.sim.campaign.exhaust import begin, exhaust, totals_of
from eqcompile.sim.campaign.exhaust.store import OUTCOMES
from eqcompile.sim.campaign.plan import make_plan
from eqcompile.sim.campaign.run import run_campaign
from eqcompile.sim.campaign.scheduler import make_pool
from eqcompile.sim.campaign.store import open_store
from eqcompile.sim.exchange import demand, read_run
from eqcompile.sim.process import run_process

from .case import Case, Provocations

STATES = {"model": "seu", "engine": "golden", "options": {"sites": "state"}, "count": 10}


def campaign(case: Case) -> Path:
    """A campaign that has not begun."""
    return made(case.folder / "campaign", **STATES)


def rate(name: str | Path, part: str | None = None) -> Any:
    """The rate of upsets in an environment."""
    return rates.read(str(name), part=part, scrub_s=None, mission_s=None, devices=1)


def unrated(case: Case) -> Any:
    """A campaign on weights in an environment that has a rate of flip-flops alone."""
    path = case.file("orbit.toml", "title = 'a'\n[kinds.flip-flop]\nsource = 's'\nupsets_per_bit_day = 1e-7\n")
    notes = {"environment": rate(path)}
    return made(case.folder / "campaign", model="seu", engine="golden", options={"sites": "weight"}, notes=notes)


def plan(population: int, count: Any, **changes: Any) -> Any:
    """A plan of faults that cannot be listed, unless `changes` say otherwise."""
    stated = {"enumerated": False, "seed": 0, "margin": 0.01, "confidence": 0.95}
    return make_plan(population, count, **{**stated, **changes})


def other_net(case: Case) -> Any:
    folder = campaign(case)
    case.net().replace(folder / NET)
    return read_campaign(folder)


def other_version(case: Case) -> Any:
    folder = campaign(case)
    document = json.loads((folder / CAMPAIGN).read_text())
    (folder / CAMPAIGN).write_text(json.dumps({**document, "campaign_version": 99}))
    return read_campaign(folder)


def dying_workers(case: Case) -> Any:
    case.patch.setattr("eqcompile.sim.campaign.scheduler._DEATHS", 0)
    (case.folder / "toys").mkdir()
    for folder in installed_toys(case.folder / "toys", case.patch):
        campaign = made(case.folder / "campaign", model="random-toy", count=1000)
        plugin = folder / "eqfault_toys.py"
        plugin.write_text(plugin.read_text().replace("rows = np.zeros", "os._exit(9)\n        rows = np.zeros"))
        run_campaign(campaign, workers=2)


def unreachable(case: Case) -> Any:
    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise OSError("Connection refused")

    case.patch.setitem(sys.modules, "distributed", SimpleNamespace(Client=refuse))
    return make_pool(None, run_chunk, "localhost:9", 1)  # type: ignore[arg-type]


def no_store(case: Case) -> Any:
    with open_store(case.file("results.duckdb", "no database"), write=False):
        pass


def no_results(case: Case) -> Any:
    with open_store(case.folder / "results.duckdb", write=False):
        pass


def no_output(case: Case) -> Any:
    read_run(case.file("results.npz", "no archive"), small_net([[0]], table=[0], first=0, steps=1), case.folder)


def program(case: Case, script: str, timeout_s: float = 60.0) -> Any:
    """A simulator that is a shell script."""
    return run_process(["sh", "-c", script], cwd=case.folder, timeout_s=timeout_s)


def every_fault(case: Case) -> tuple[Path, Campaign]:
    """A folder for every fault of a campaign that has not begun."""
    campaign = replace(read_campaign(made(case.folder / "campaign", **STATES)), near=2)
    begin(campaign, case.folder / "every", force=False)
    return case.folder / "every", campaign


def cut_outcomes(case: Case) -> Any:
    folder, campaign = every_fault(case)
    (folder / OUTCOMES / "000000.npz").write_text("no archive")
    return totals_of(folder, campaign)


def other_faults(case: Case) -> Any:
    folder, campaign = every_fault(case)
    return begin(replace(campaign, near=3), folder, force=False)


CAMPAIGNS: Provocations = {
    "campaign-changed": other_net,
    "campaign-version": other_version,
    "counted": lambda case: plan(9, "auto", enumerated=True, counted=True, stop_at_margin=0.1),
    "counted-model": lambda case: made(case.folder / "c", model="stuck", engine="golden", options={}, counted=True),
    "environment-file": lambda case: rate(case.file("env.toml", "title = 'x'\n[rate]\nsource = 'y'\n")),
    "environment-kind": lambda case: unrated(case),
    "environment-part": lambda case: rate("sealevel"),
    "environment-rate": lambda case: rate("leo"),
    "exhaust-damaged": cut_outcomes,
    "exhaust-none": lambda case: exhaust(campaign(case)),
    "exhaust-other": other_faults,
    "fault-number": lambda case: api.replay(campaign(case), "99.0", engine=None),
    "fault-sample": lambda case: api.replay(campaign(case), "9/state:h.0.0/state:h[0]^1@0", engine=None),
    "missing-tool": lambda case: demand("c-host", packages={}, programs={"no-such-gcc": "apt-get install gcc"}),
    "no-faults": lambda case: plan(0, "auto"),
    "no-results": no_results,
    "no-scheduler": unreachable,
    "not-a-campaign": lambda case: read_campaign(case.folder),
    "not-exhaustive": lambda case: plan(9, "exhaustive"),
    "scheduler": lambda case: make_pool(None, run_chunk, "localhost", 1),  # type: ignore[arg-type]
    "simulator-died": lambda case: program(case, "echo 3 of 4 >&2; exit 3"),
    "simulator-output": no_output,
    "simulator-start": lambda case: run_process(["no-such-program"], cwd=case.folder, timeout_s=1.0),
    "simulator-timeout": lambda case: program(case, "sleep 9", timeout_s=0.05),
    "spectrum-file": lambda case: read_let(case.file("orbit.let", "  1 orbit.let 210 1\n% no numbers\n")),
    "store": no_store,
    "strata": lambda case: plan(10_000_000, 5, enumerated=True, strata="site", stratum_count=4),
    "unknown-environment": lambda case: rate("mars"),
    "unknown-part": lambda case: rate("sealevel", "no-such-part"),
    "workers-died": dying_workers,
}
