"""Faults that last, on the card: wrong weights and stuck bits have golden's results; its kernel runs as C."""

from __future__ import annotations

import importlib.util
import random
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_faults import INPUTS, drawn_net, large, loop, noticed, opened
from strategies import random_inputs, small_net, with_formats

from eqcompile.sim.campaign import api
from eqcompile.sim.campaign.definition import read_campaign
from eqcompile.sim.campaign.exhaust import begin, blocks, document_of, exhaust, ids
from eqcompile.sim.faults.engine import Outcome, Sweep
from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.gpu import program
from eqcompile.sim.faults.gpu.engine import GpuSession
from eqcompile.sim.faults.gpu.plan import refusals
from eqcompile.sim.faults.model import FaultModel
from eqcompile.sim.faults.models.mbu import MbuModel
from eqcompile.sim.faults.models.pair import PairModel
from eqcompile.sim.faults.models.seu import SeuModel
from eqcompile.sim.faults.models.stuck import StuckModel
from eqcompile.sim.faults.table import FaultTable, parse_fault
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.ir import IntNet, Output, Param, ops

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "triton")), reason="Triton is not installed"
)
MODELS = (
    SeuModel(sites="weight"),
    StuckModel(sites="state,weight,accumulator,drive", at=0),
    StuckModel(sites="state", at=1),
    StuckModel(sites="state,accumulator,drive", at=1, duration=2),
    SeuModel(sites="accumulator,drive"),
    PairModel(across="neighbours"),
)
MUTANTS = (
    ("wound->delta * (", "-wound->delta * ("),
    ("delta * net->", "2 * delta * net->"),
    ("i == hot ? extra0", "i == hot + 1 ? extra0"),
    ("(hot >> 3 & 31) == lane", "(hot >> 3 & 31) == lane + 1"),
    ("moved[k] = over ||", "moved[k] = 1 ||"),
    ("&& same(&old, &new_);", ";"),
    ("t > settled && (over", "t > 1 && (over"),
    ("WORD(sums + element[k]) += moved[k]", "WORD(sums + element[k]) -= moved[k]"),
    ("latest + 1 - begin", "latest + 1"),
    ("if (i == wound->row) sum_", "if (i == wound->row + 1) sum_"),
    ("(L(delta) && (any || !OF_DRIVE(L(weight))))", "(L(delta) && any)"),
    ("(i32)((u32)(code) << (32 - (bits))) >> (32 - (bits))", "(i32)(code)"),
    ("&& t <= wound->last", "&& t < wound->last"),
    ("if (struck_v0) v0 =", "if (struck_v0) v0 = 1 +"),
    ("wound.held[h] = FROM", "wound.held[h] = 0 * FROM"),
)


def driven(divisor: int = 1) -> IntNet:
    """A loop of three units with weights beyond 1, whose input goes through weights and a sum of its own; it settles
    with 3."""
    table = [i // divisor for i in range(-120, 120)]
    base = small_net([[3, -1, 0], [0, 1, 1], [-1, 0, 1]], table=table, first=-120, steps=8)
    params = (
        Param("V", np.array([[1, 0], [-1, 1], [2, 1]]), "test"),
        Param("b", np.array([3, -2, 1]), "test"),
        Param("R", np.array([[1, 0, -1], [-1, 1, 0]]), "test"),
    )
    net = replace(
        base,
        inputs=(replace(base.inputs[0], shape=(2,)),),
        params=(*base.params, *params),
        drive=(ops.Linear(out="d", x="x", weight="V"), ops.Add(out="s", a="d", b="b")),
        step=(base.step[0], ops.Add(out="a", a="w", b="s"), *base.step[2:]),
        readout=(ops.Linear(out="r", x="h", weight="R"),),
        outputs=(Output("o", "r", "classes", 1.0),),
        formats={"h": base.formats["h"]},
        schedule=replace(base.schedule, tolerance=1),
    )
    return with_formats(net)


CODES = {"x": np.array([[20, 0], [50, -33], [0, 7]])}


@cache
def right_of(model: FaultModel, divisor: int) -> tuple[FaultTable, Any]:
    """Every fault of a driven loop, and what golden says of it."""
    net = driven(divisor)
    table = model.exhaustive(net, CODES)
    return table, GoldenEngine().open(net, CODES, near=1).run(table)


def wrong(model: FaultModel) -> int:
    """Rows of all faults of driven loops, of which one settles, that are not golden's."""
    count = 0
    for divisor in (1, 3):
        table, right = right_of(model, divisor)
        session = opened(driven(divisor), CODES)
        assert session.holder is not None
        assert session.takes(table).all()
        count += int((session.holder.rows(session.wounds(table)) != right).sum())
    return count


@pytest.mark.parametrize("model", MODELS)
def test_every_row_is_golden_s(model: FaultModel) -> None:
    """Would break if a fault ended early, acted on another unit, or was counted from another tick."""
    assert wrong(model) == 0
    assert len(set(right_of(model, 3)[1]["outcome"])) >= 3


@pytest.mark.slow
@pytest.mark.parametrize(("right", "bad"), MUTANTS)
def test_a_wrong_kernel_is_noticed(right: str, bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparisons with golden could otherwise not fail."""
    loaded, changed = program._loaded, []

    def mutant(text: str) -> Any:
        changed.append(right in text)
        return loaded(text.replace(right, bad))

    monkeypatch.setattr(program, "_loaded", mutant)
    assert noticed(lambda: any(wrong(model) > 0 for model in MODELS[:5]) and all(changed))


def test_faults_of_a_large_net_are_golden_s() -> None:
    """Would break for units behind the first 256, or where many deviate."""
    net, codes = large()
    session, right = opened(net, codes), GoldenEngine().open(net, codes, near=1)
    for model in (SeuModel(sites="weight"), StuckModel(sites="state", at=1)):
        table = model.draw(net, 300, np.random.default_rng(2), codes)
        assert (session.run(table) == right.run(table)).all()


@pytest.mark.slow
def test_faults_of_random_nets_are_golden_s() -> None:
    """Would break for a drive, a gate or a state that the loops above have not."""
    compared, drives = 0, 0
    for seed in range(64):
        source = random.Random(seed)
        net = drawn_net(source)
        codes = {n: v[:2] for n, v in random_inputs(net, source).items()}
        session = None if refusals(net) else opened(net, codes)
        if session is None or session.holder is None:
            continue
        right = GoldenEngine().open(net, codes, near=1)
        for model in MODELS[:5]:
            table = model.draw(net, 60, np.random.default_rng(0), codes)
            table = table.take(np.flatnonzero(session.takes(table)))
            assert (session.run(table) == right.run(table)).all()
            compared += len(table)
        drives += len(session.holder.reached.dives)
    assert compared > 2000
    assert drives >= 5


def test_faults_that_last_and_others_keep_their_order() -> None:
    """Would break if the rows of two kernels were put in each other's places."""
    net = loop()
    tables = [m.draw(net, 40, np.random.default_rng(1), INPUTS) for m in (MODELS[1], SeuModel(sites="state"))]
    mixed = [fault for pair in zip(*tables, strict=True) for fault in pair]
    table = FaultTable.of(mixed)
    right = GoldenEngine().open(net, INPUTS, near=1).run(table)
    assert (opened(net, INPUTS).run(table) == right).all()


def test_several_words_at_once_are_golden_s() -> None:
    """Would break if a second upset of a word were taken for the only one."""
    net, session = driven(), opened(driven(), CODES)
    table = MbuModel(sites="state").draw(net, 60, np.random.default_rng(4), CODES)
    taken = table.take(np.flatnonzero(session.takes(table)))
    assert len(taken) > 30
    assert session.holder is not None
    right = GoldenEngine().open(net, CODES, near=1).run(taken)
    assert (session.holder.rows(session.wounds(taken)) == right).all()


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("seu", {"sites": "weight,accumulator,drive"}),
        ("pair", {"across": "neighbours"}),
        ("stuck", {"sites": "state,weight,accumulator,drive", "at": 1}),
        ("stuck", {"sites": "state", "at": 0, "duration": 2}),
    ],
)
def test_a_run_over_all_is_golden_s(
    tmp_path: Path, model: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if samples, bits or ticks of a block were stored in another order, or by table again."""
    monkeypatch.setattr(blocks, "SAMPLES", 2)
    monkeypatch.setattr(blocks, "FAULTS", 100)
    monkeypatch.setattr(GpuSession, "run", lambda *_: pytest.fail("not every fault was injected in every sample"))
    net, found = driven(), {}
    for engine in ("gpu", "golden"):
        made = api.define(
            net, CODES, model=model, options=options, engine=engine, near=1, count="exhaustive", seed=0, margin=0.01,
            confidence=0.95, stop_at_margin=None, notes={},
        )  # fmt: skip
        folder = tmp_path / engine
        begin(made, folder, force=False)
        exhaust(folder)
        campaign = read_campaign(folder)
        outcomes = {fault: o for o in Outcome for fault in ids(folder, campaign, o)}
        document = document_of(folder, proved=2)
        found[engine] = outcomes, [(s["outcomes"], s["silent_map"]) for s in document["sites"]], document["bound"]
    assert found["gpu"] == found["golden"]


def test_parts_of_a_launch_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if many faults were launched in parts whose outcomes lie elsewhere."""
    table = StuckModel(sites="state", at=1).exhaustive(driven(), {"x": CODES["x"][:1]})
    whole = opened(driven(), CODES).everywhere(table)
    monkeypatch.setattr("eqcompile.sim.faults.gpu.hold._MOST", 21)
    parts = opened(driven(), CODES).everywhere(table)
    assert isinstance(whole, Sweep)
    assert isinstance(parts, Sweep)
    np.testing.assert_array_equal(whole.outcome, parts.outcome)
    np.testing.assert_array_equal(whole.distance, parts.distance)


@pytest.mark.parametrize("fault", ["0/value:a.0.0/value:a[0]^1@0", "0/table:T.0.0/param:T[3]^1@0-8"])
def test_other_faults_are_refused(fault: str) -> None:
    """Would break if what the card has no code for were taken for something else, beside faults that it takes."""
    table = FaultTable.of([parse_fault("0/weight:W.0.0/param:W[0]^1@0-8"), parse_fault(fault)])
    with pytest.raises(UsageError, match="nor one of a matrix's weight"):
        opened(driven(), CODES).run(table)


def test_a_weight_that_reaches_other_places_is_not_taken() -> None:
    """Would break for a weight of the drive that a state begins with, or that goes through another map."""
    net = driven()
    for changed in (
        replace(
            net,
            drive=(*net.drive, ops.Lookup(out="h0", x="s", table="T", first=-120)),
            states=(replace(net.states[0], init="h0"),),
        ),
        replace(net, outputs=(*net.outputs, Output("p", "s", "values", 1.0))),
    ):
        session = opened(with_formats(changed), CODES)
        assert session.holder is not None
        assert set(session.holder.reached.weights) == {"W", "R"}
    whole = opened(net, CODES).holder
    assert whole is not None
    assert set(whole.reached.weights) == {"V", "W", "R"}
    assert (set(whole.reached.sums), set(whole.reached.drive)) == ({"w", "r"}, {"s"})


@pytest.mark.parametrize(("factor", "fits"), [(2**23, True), (2**24, False)])
def test_where_disturbed_codes_do_not_fit_nothing_lasts(factor: int, fits: bool) -> None:
    """Would break if a product that leaves 32 bits only when disturbed were computed in them: a code within 120 is in a
    word that reaches 128."""
    net = driven()
    wide = with_formats(
        replace(
            net,
            params=(*net.params, Param("m", np.array([factor]), "test"), Param("one", np.array([1]), "test")),
            step=(
                *net.step,
                ops.Mul(out="big", a="y", b="m"),
                ops.Rescale(out="z", x="big", multiplier="one", shift=24),
            ),
            states=(replace(net.states[0], update="z"),),
        )
    )
    session = opened(wide, CODES)
    assert (session.holder is not None) == fits
    table = SeuModel(sites="weight").draw(wide, 4, np.random.default_rng(0), CODES)
    if fits:
        assert (session.run(table) == GoldenEngine().open(wide, CODES, near=1).run(table)).all()
    else:
        with pytest.raises(UsageError, match="nor one of a matrix's weight"):
            session.run(table)
