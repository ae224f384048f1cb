"""Offsets on recurrent sums in the first ticks (`--dither`): what is added, and that disturbed runs meet again."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from eqcompile.quantization.lower import lower
from eqcompile.sim.faults.engine import Engine
from eqcompile.sim.faults.model import FaultModel
from eqcompile.toolchain import golden, registry
from eqcompile.toolchain.certificate import certify, clocks, recovery
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import IntNet, Param

EXAMPLES = Path(__file__).parents[2] / "examples"
TICKS, SAMPLES, FAULTS = 16, 40, 3000
UPSETS_UNTIL = 10


@cache
def digits(dither: int) -> tuple[IntNet, dict[str, NDArray[np.int64]]]:
    """digits_certified and codes of its test images."""
    with np.load(EXAMPLES / "data" / "digits_test.npz") as file:
        x = file["x"].astype(np.float64)[:SAMPLES]
    source = import_model(EXAMPLES / "checkpoints" / "digits_certified.npz").net
    net = lower(source, QuantizeOptions(dither=dither), calibration={"x": x}).net
    return net, dict(encode(net, {"x": x})[0])


def test_each_tick_has_the_offset_of_its_count() -> None:
    """A count that is one tick off, or that begins again, adds another tick's offset; the trace shows the sums that
    golden has, recomputed here from the parameters alone."""
    net, codes = digits(TICKS)
    run = golden.run(net, codes)
    offsets = np.append(net.param("dither")[:TICKS], np.zeros(net.schedule.steps - TICKS, np.int64))
    weight, multiplier = net.param("W_rec_weight"), net.param("recurrent_dithered_multiplier")
    shift = next(op.shift for op in net.step if op.out == "recurrent")  # type: ignore[attr-defined]
    h = np.zeros((SAMPLES, len(weight)), np.int64)
    table = net.param("new_entries")
    x = codes["x"] @ net.param("W_in_weight").T * net.param("drive_linear_multiplier")
    drive_shift = next(op.shift for op in net.drive if op.out == "drive_linear_rescaled")  # type: ignore[attr-defined]
    clamped = ((x + (1 << (drive_shift - 1))) >> drive_shift) + net.param("drive_bias")
    for tick, offset in enumerate(offsets):
        sums = (h @ weight.T + offset) * multiplier
        pre = clamped + ((sums + (1 << (shift - 1))) >> shift)
        h = table[np.clip(pre + len(table) // 2, 0, len(table) - 1)]
        assert (h == run.states["h"][tick]).all(), tick
    assert len(set(offsets[:TICKS].tolist())) > TICKS // 2
    assert (run.states["tick"][:, 0, 0] == np.minimum(np.arange(net.schedule.steps) + 1, TICKS)).all()


def healed(dither: int) -> float:
    """Share of exactly healed runs among those that an upset of a unit in the first ten ticks disturbed."""
    net, codes = digits(dither)
    engine = registry.find_class("engines", "golden", Engine)()
    # Upsets of all ticks; counted are those that leave twenty.
    table = registry.find_class("faults", "seu", FaultModel)(sites="state").draw(
        net, FAULTS, np.random.default_rng(0), codes
    )
    early = table.faults["tick"] < UPSETS_UNTIL
    rows = engine.open(net, codes, near=1).run(table)[early]
    return float((rows["rejoin"] > 0).sum() / (rows["rejoin"] != 0).sum())


def test_disturbed_runs_meet_again() -> None:
    """The point of it. Without offsets a fifth of the runs keeps apart for ever, which the same measure must show."""
    assert healed(0) < 0.95
    assert healed(TICKS) >= 0.99


def test_the_count_is_no_block_of_the_certificate() -> None:
    """A count contracts by next to nothing in any norm; as a block it would make the worst bound of the net."""
    (plain, _), (dithered, _) = digits(0), digits(TICKS)
    assert clocks(plain) == {}
    assert clocks(dithered) == {"tick": TICKS}
    # Sums have another multiplier with offsets, so the two proofs of one norm round otherwise.
    assert certify(dithered).bound == pytest.approx(certify(plain).bound, rel=2.0**-40)
    assert [b.states for b in certify(dithered).blocks] == [("h",)]


def test_what_is_proved_of_a_dithered_net_is_said() -> None:
    """Its certificate names the count, what is not proved of it, and what is: labels after upsets of all other states,
    which no run from another state refutes while offsets go on."""
    net, codes = digits(TICKS)
    certificate = certify(net)
    assert certificate.to_json()["counts"] == {"tick": TICKS}
    assert any("that runs meet to the bit by then is not proved" in line for line in certificate.lines())
    few, most = {name: value[:3] for name, value in codes.items()}, 18
    proved, whole, rng = recovery(net, few, ticks=most), golden.run(net, few), np.random.default_rng(0)
    assert proved.safe[:, -1].mean() > 0.8
    # Offsets go on for the first four, and one, of these ticks.
    for ticks in (most, TICKS - 1):
        for _ in range(4):
            starts = {
                "h": rng.integers(-128, 128, net.states[0].shape),
                "tick": np.array([net.schedule.steps - ticks]),
            }
            params = (*net.params, *(Param(f"{name}_start", value, "test") for name, value in starts.items()))
            states = tuple(replace(s, init=f"{s.name}_start") for s in net.states)
            run = golden.run(
                replace(net, params=params, states=states, schedule=replace(net.schedule, steps=ticks)), few
            )
            far = np.abs(run.states["h"][-1] - whole.states["h"][-1]).max(axis=1)
            assert (far <= proved.apart[:, ticks - 1]).all()
            same = golden.labels(run.outputs["logits"]) == golden.labels(whole.outputs["logits"])
            assert same.reshape(-1)[proved.safe[:, ticks - 1]].all()
