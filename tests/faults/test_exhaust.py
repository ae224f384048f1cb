"""A run over every fault: the same as golden says of each fault; resumed, damaged, and with a wrong classification."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_faults import drawn_net
from strategies import random_inputs, small_net, with_formats

from eqcompile.sim.campaign import api
from eqcompile.sim.campaign.definition import Campaign, read_campaign
from eqcompile.sim.campaign.exhaust import begin, blocks, bound, document_of, exhaust, ids
from eqcompile.sim.faults.engine import Outcome
from eqcompile.sim.faults.fast import engine as fast
from eqcompile.sim.faults.fast.clean import clean_run, without_tolerance
from eqcompile.sim.faults.fast.graph import compile_net
from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.gpu.plan import refusals
from eqcompile.sim.faults.models.seu import SeuModel
from eqcompile.sim.faults.native import library
from eqcompile.sim.faults.native.library import Native, native_of
from eqcompile.sim.faults.table import FaultTable, parse_fault
from eqcompile.toolchain.certificate import Recovery
from eqcompile.toolchain.diagnostics import ArtifactError, UsageError
from eqcompile.toolchain.ir import IntNet, Output, Param, ops

Codes = dict[str, np.ndarray[Any, np.dtype[np.int64]]]
WEIGHT = [[1, -1, 0], [0, 1, 1], [-1, 0, 1]]


@pytest.fixture(autouse=True)
def quick_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """These nets are small: optimizing takes longer than running."""
    monkeypatch.setattr(library, "_FLAGS", ("-O1", *library._FLAGS[1:]))


def net_of(steps: int = 5, tolerance: int = 0) -> IntNet:
    """A loop of three units that settles, with classes."""
    base = small_net(WEIGHT, table=[i // 3 for i in range(-90, 90)], first=-90, steps=steps)
    read = Param("R", np.array([[1, 0, -1], [-1, 1, 0]]), "test")
    net = replace(
        base,
        params=(*base.params, read),
        readout=(ops.Linear(out="r", x="h", weight="R"),),
        outputs=(Output("o", "r", "classes", 1.0),),
        schedule=replace(base.schedule, tolerance=tolerance),
    )
    return with_formats(net)


INPUTS = {"x": np.array([[20, 0, -19], [50, -33, 1], [2, 3, 2], [0, 0, 0], [7, 60, -60]])}

FEW = {"x": INPUTS["x"][:3]}


def campaign(net: IntNet, inputs: Codes, model: str = "seu", engine: str = "golden", **options: Any) -> Campaign:
    chosen = options or {"sites": "state"}
    return api.define(
        net, inputs, model=model, options=chosen, engine=engine, near=1, count="exhaustive", seed=0, margin=0.01,
        confidence=0.95, stop_at_margin=None, notes={},
    )  # fmt: skip


def brute(made: Campaign) -> dict[str, int]:
    """The outcome of each fault by its id: golden runs all of them again."""
    everything = made.fault_model.exhaustive(made.net, made.inputs)
    rows = GoldenEngine().open(made.net, made.inputs, near=made.near).run(everything)
    return dict(zip(map(str, everything), map(int, rows["outcome"]), strict=True))


def recorded(folder: Path) -> dict[str, int]:
    """The outcome of each fault that a folder holds, by its id."""
    made = read_campaign(folder)
    return {fault: int(outcome) for outcome in Outcome for fault in ids(folder, made, outcome)}


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("seu", {"sites": "state"}),
        ("seu", {"sites": "weight"}),
        ("pair", {"across": "neighbours"}),
        ("stuck", {"sites": "state", "at": 1}),
    ],
)
def test_every_fault_is_what_golden_says_of_it(
    tmp_path: Path, model: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if a block had its faults in another order, or left one out."""
    monkeypatch.setattr(blocks, "SAMPLES", 2)
    monkeypatch.setattr(blocks, "FAULTS", 100)
    made = campaign(net_of(), FEW, model, **options)
    begin(made, tmp_path / "every", force=False)
    exhaust(tmp_path / "every")
    expected, found = brute(made), recorded(tmp_path / "every")
    assert found == expected
    assert len(found) == made.population.size
    document = document_of(tmp_path / "every", proved=0)
    assert document["finished"]
    assert document["outcomes"] == {o.name.lower(): list(expected.values()).count(o) for o in Outcome}


def native(net: IntNet, inputs: Codes) -> Native:
    layout = compile_net(without_tolerance(net))
    done = clean_run(without_tolerance(net), inputs, layout, net.schedule.tolerance)
    found = native_of(net, layout, done, 1)
    assert found is not None
    return found


def swept(net: IntNet, inputs: Codes) -> dict[str, int]:
    """Outcomes of every flip of a state by compiled code, by the id of the fault."""
    compiled, found = native(net, inputs), {}
    for s in net.states:
        units = int(np.prod(s.shape))
        outcome = compiled.sweep(s.name, (0, units)).outcome
        for (unit, bit, tick, sample), value in np.ndenumerate(outcome):
            found[f"{sample}/state:{s.name}.{unit}.{bit}/state:{s.name}[{unit}]^{1 << bit:x}@{tick}"] = int(value)
    return found


def golden_of(net: IntNet, inputs: Codes, names: list[str]) -> dict[str, int]:
    rows = GoldenEngine().open(net, inputs, near=1).run(FaultTable.of(parse_fault(name) for name in names))
    return dict(zip(names, map(int, rows["outcome"]), strict=True))


@pytest.mark.parametrize("tolerance", [0, 2])
def test_a_sweep_in_c_is_golden(tolerance: int) -> None:
    """Would break if a run that stands still were shared by ticks that end elsewhere."""
    net = net_of(steps=7, tolerance=tolerance)
    found = swept(net, INPUTS)
    assert found == golden_of(net, INPUTS, list(found))
    assert len(set(found.values())) >= 3


def drawn(seeds: range) -> list[tuple[IntNet, Codes]]:
    """Random nets that the C takes: all operations of the plan, several states, values that are read twice."""
    cases = []
    for seed in seeds:
        source = random.Random(seed)
        net = drawn_net(source)
        if not refusals(net):
            cases.append((net, random_inputs(net, source)))
    return cases


def test_sweeps_of_random_nets_are_golden() -> None:
    """Would break for an operation that the C has otherwise."""
    cases = drawn(range(7))
    assert len(cases) >= 4
    for net, inputs in cases:
        found = swept(net, inputs)
        names = random.Random(0).sample(sorted(found), min(len(found), 600))
        assert {n: found[n] for n in names} == golden_of(net, inputs, names)


def test_rows_in_c_are_golden_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if the engine `fast` gave other rows where it compiles C: all columns of drawn flips."""
    monkeypatch.setattr(fast, "MANY", 1)
    compared = 0
    for net, inputs in [(net_of(steps=7, tolerance=2), INPUTS), *drawn(range(4))]:
        flips = SeuModel(sites="state").draw(net, 200, np.random.default_rng(0), inputs)
        opened: Any = fast.FastEngine().open(net, inputs, near=1)
        opened.native_wins = True
        if not opened.memory.fused:
            continue
        assert (opened.run(flips) == GoldenEngine().open(net, inputs, near=1).run(flips)).all()
        assert opened.native is not None
        compared += 1
    assert compared


MUTANTS = (
    ("u8 found = tick == begin ? masked : healed;", "u8 found = healed;"),
    ("end <= run->near);\n            i64 lowest", "end < run->near);\n            i64 lowest"),
    ("if (is_signed && bit == bits - 1) change = -change;", ""),
    ("i64 ends = TICKS - (tick + 1 - begin);", "i64 ends = TICKS - (tick - begin);"),
    ("found->label_differs = best != plain;", "found->label_differs = 0;"),
    ("int moving = still ? 0 : moves", "int moving = 0 && moves"),
)


@cache
def sweep_of_mutants() -> dict[str, int]:
    """What the code without a mutant says."""
    return swept(net_of(steps=7, tolerance=2), INPUTS)


@pytest.mark.parametrize("number", range(len(MUTANTS)))
def test_wrong_code_is_noticed(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparisons with golden could otherwise not fail."""
    right, wrong = MUTANTS[number]
    expected = sweep_of_mutants()
    loaded = library._loaded
    changed: list[str] = []

    def mutant(text: str) -> Any:
        changed.extend([right] if right in text else [])
        return loaded(text.replace(right, wrong))

    monkeypatch.setattr(library, "_loaded", mutant)
    assert swept(net_of(steps=7, tolerance=2), INPUTS) != expected
    assert changed


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a block were injected twice, or one that was stored were lost."""
    monkeypatch.setattr(blocks, "SAMPLES", 1)
    made, folder = campaign(net_of(), INPUTS), tmp_path / "every"
    begin(made, folder, force=False)

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exhaust(folder, stop)
    before = {p.name: p.stat().st_mtime_ns for p in (folder / "outcomes").iterdir()}
    part = document_of(folder, proved=2)
    assert not part["finished"]
    assert 0 < part["faults"] < part["population"]
    begin(made, folder, force=False)
    exhaust(folder)
    assert document_of(folder, proved=0)["finished"]
    assert all((folder / "outcomes" / name).stat().st_mtime_ns == time for name, time in before.items())
    assert recorded(folder) == brute(made)


def test_a_folder_of_other_faults_is_refused(tmp_path: Path) -> None:
    """Would break if outcomes of two nets were counted as one."""
    begin(campaign(net_of(), INPUTS), tmp_path / "every", force=False)
    with pytest.raises(ArtifactError, match="other ir_digest, schedule"):
        begin(campaign(net_of(steps=6), INPUTS), tmp_path / "every", force=False)
    begin(campaign(net_of(steps=6), INPUTS), tmp_path / "every", force=True)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """Would break if a cut file counted as no faults."""
    folder = tmp_path / "every"
    begin(campaign(net_of(), INPUTS), folder, force=False)
    exhaust(folder)
    path = folder / "outcomes" / "000000.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArtifactError, match=r"000000\.npz"):
        document_of(folder, proved=0)


def test_models_without_a_list_are_refused() -> None:
    """Would break if a run over every fault left out random parts."""
    with pytest.raises(UsageError):
        campaign(net_of(), INPUTS, "mbu")


def test_a_fault_beyond_the_bound_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a certificate that proves too much went unnoticed."""
    folder = tmp_path / "every"
    made = campaign(net_of(), INPUTS)
    begin(made, folder, force=False)
    exhaust(folder)
    real = document_of(folder, proved=5)["bound"]
    assert real is not None
    assert real["violations"] == 0
    assert [r["simulated"] <= r["proved"] for r in real["rows"]] == [True] * 4

    def too_much(net: IntNet, inputs: Codes, *, ticks: int) -> Recovery:
        count = len(inputs["x"])
        return Recovery(np.ones((count, ticks), bool), np.zeros((count, ticks), np.int64), np.ones(count, bool))

    monkeypatch.setattr(bound, "recovery", too_much)
    wrong = document_of(folder, proved=5)["bound"]
    assert wrong is not None
    assert wrong["violations"] > 0
    assert all(v["simulated"] > 0 or v["silent"] > 0 for v in wrong["first"])


def test_a_stored_fault_is_replayed(tmp_path: Path) -> None:
    """Would break if an id of the store named another fault for golden."""
    folder = tmp_path / "every"
    begin(campaign(net_of(), INPUTS), folder, force=False)
    exhaust(folder)
    name = next(ids(folder, read_campaign(folder), Outcome.HEALED))
    document, _ = api.replay(folder, name, engine="golden")
    assert document["fault"] == name
    assert document["ticks"][-1]["differ"] == 0
    assert max(row["differ"] for row in document["ticks"]) > 0
