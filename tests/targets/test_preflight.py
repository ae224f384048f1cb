"""Refusals before quantization: each bound below what the integers need, each refusal one of the plan as well."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance_nets import FAMILIES
from emitting import refused
from hypothesis import example, given, settings
from hypothesis import strategies as st
from quantize_nets import loop
from waist_nets import FORMS, form
from zoo_nets import zoo_net

from eqcompile.app import compile as pipeline
from eqcompile.app.cli.main import main
from eqcompile.app.foresight import foreseen_faults
from eqcompile.quantization.lower import lower
from eqcompile.quantization.requirements import requirements_of
from eqcompile.rtl import interface
from eqcompile.rtl.parallel.options import Parallel
from eqcompile.rtl.serial.columns import make_layout
from eqcompile.rtl.serial.matrix import WEIGHTED, code_bits, dense
from eqcompile.rtl.serial.options import Serial
from eqcompile.targets.loihi import target as loihi_target
from eqcompile.targets.loihi.chips import CHIPS, ChipName
from eqcompile.targets.loihi.target import LoihiTarget
from eqcompile.targets.nir import lower as nir_lower
from eqcompile.targets.rtl.synth import fit
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain import registry
from eqcompile.toolchain.arrays import Array
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import EqNet, IntNet, ops
from eqcompile.toolchain.passes import Analysis, tap_count
from eqcompile.toolchain.requirements import MapNeeds, Requirements

LOOPED = Path(__file__).parents[2] / "examples" / "checkpoints" / "digits_looped.pt"
LANES = 4
NETS = (*FAMILIES, *FORMS)


@cache
def net_of(name: str) -> tuple[EqNet, Mapping[str, Array]]:
    return form(name) if name in FORMS else zoo_net(name)


@cache
def both(name: str) -> tuple[Requirements, IntNet]:
    """What is foreseen of a net, and its integers."""
    net, inputs = net_of(name)
    return requirements_of(net, QuantizeOptions(), calibrated=True), lower(
        net, QuantizeOptions(), calibration=inputs
    ).net


def excesses(needs: Requirements, net: IntNet) -> list[str]:
    """Bounds that are above what the integers have, by name; with the codes in the serial core's words."""
    analysis = Analysis.of(net)
    maps = [op for _, op in analysis.live_ops if isinstance(op, (ops.Linear, ops.Stencil, ops.Conv))]
    wide: list[str] = []
    for m, op in zip(needs.maps, maps, strict=True):
        assert (m.rows, m.columns) == (analysis.sizes[op.out], analysis.sizes[op.x])
        codes = analysis.codes[op.weight]
        bounds = {"taps": (m.taps, tap_count(net, op)), "high": (m.high, int(codes.max(initial=0)))}
        bounds["low"] = (-m.low, -int(codes.min(initial=0)))
        if isinstance(op, WEIGHTED) and m.column_taps.size:
            matrix = dense(op, net)
            layout = make_layout([matrix], lanes=LANES, code_bits=code_bits([matrix]) or 16, granule=1, capacity=None)
            bounds["words"] = (m.words(LANES), layout.capacity)
        wide += [f"{m.name}: {what} {least} of {held}" for what, (least, held) in bounds.items() if least > held]
    return wide


@example(600, 2, 1, "int8", True, True, "normal")
@example(2, 2, 2, "ternary", True, True, "normal")
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    units=st.integers(2, 40),
    inputs=st.integers(1, 30),
    kind=st.sampled_from(["ternary", "int2", "int4", "int8"]),
    per_row=st.booleans(),
    calibrated=st.booleans(),
    shape=st.sampled_from(["normal", "sparse", "alike", "ternary", "tails"]),
)
def test_no_bound_exceeds_what_the_integers_need(
    seed: int, units: int, inputs: int, kind: str, per_row: bool, calibrated: bool, shape: str
) -> None:
    """Would break if a net that fits were refused: columns that get alike, weights whose codes vanish, few codes."""
    rng = np.random.default_rng(seed)
    net = loop(rng, units=units, inputs=inputs, ternary_scale=0.05 if shape == "ternary" else None).net
    net = replace(net, params=tuple(replace(p, value=reshaped(p.value, shape, rng)) for p in net.params))
    # Inputs that move together: where codes are chosen for the sums, these move furthest from the nearest ones.
    common = rng.uniform(-1, 1, (64, 1)) + 0.05 * rng.uniform(-1, 1, (64, inputs))
    options = QuantizeOptions(weights=kind, per_row=per_row)
    needs = requirements_of(net, options, calibrated=calibrated)
    integers = lower(net, options, calibration={"x": common} if calibrated else None).net
    assert excesses(needs, integers) == []
    if calibrated:
        measured = requirements_of(net, options, calibrated=True, calibration={"x": common})
        assert excesses(measured, integers) == []


def reshaped(value: Array, shape: str, rng: np.random.Generator) -> Array:
    """Weights that are hard to foresee: few of them, columns nearly alike, a few that are far larger than the rest."""
    if value.ndim != 2 or shape in ("normal", "ternary"):
        return value
    if shape == "sparse":
        return np.where(rng.random(value.shape) < 0.2, value, 0.0)
    if shape == "alike":
        return value[:, :1] * (1.0 + 1e-3 * rng.random(value.shape))
    return value * np.where(rng.random(value.shape) < 0.05, 1.0, 1e-3)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.slow
def test_the_bounds_hold_for_every_family(name: str) -> None:
    """Would break if a form of network were foreseen otherwise than it lowers: sequences, convolutions, pools."""
    needs, net = both(name)
    assert excesses(needs, net) == []
    held = [type(op) for op in net.all_ops()]
    assert {kind for _, _, kind in needs.operations()} <= {*held}


MUTANTS: dict[str, Callable[[MapNeeds], MapNeeds]] = {
    "all weights counted": lambda m: replace(m, taps=m.entries),
    "columns nearly alike counted": lambda m: replace(m, column_taps=np.full(m.columns, m.rows), lost=0),
    "a bit too many": lambda m: replace(m, high=2 * m.high),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_bound_that_is_too_strict_is_noticed(name: str) -> None:
    """Would break if the comparison above let a preflight through that refuses nets which fit."""
    net = loop(np.random.default_rng(3), units=24, inputs=16).net
    sparse = replace(
        net, params=tuple(replace(p, value=reshaped(p.value, "sparse", np.random.default_rng(4))) for p in net.params)
    )
    needs = requirements_of(sparse, QuantizeOptions(), calibrated=False)
    integers = lower(sparse, QuantizeOptions(), calibration=None).net
    assert excesses(needs, integers) == []
    assert excesses(replace(needs, maps=tuple(MUTANTS[name](m) for m in needs.maps)), integers)


@pytest.mark.slow
@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_what_is_refused_early_is_refused_late(name: str, small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a preflight refused a net that its target takes, by an operation or by size (`small`: hardware so
    small that sizes decide)."""
    if small:
        shrink(monkeypatch)
    needs, net = both(name)
    for target in registry.names("targets"):
        made = registry.target_class(target).of()
        if made.preflight(needs):
            assert refused(made, net), target
    for arch in ("serial", "parallel", "lattice"):
        made = RtlTarget.of(arch=arch)
        if made.preflight(needs):
            assert refused(made, net), arch


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardware that holds next to nothing."""
    tiny = {name: replace(chip, memory_bits=1 << 12, cores=2) for name, chip in CHIPS.items()}
    monkeypatch.setattr(loihi_target, "CHIPS", tiny)
    monkeypatch.setattr(nir_lower, "MAX_MATRIX", 1 << 8)
    monkeypatch.setattr(interface, "MAX_TAPS", 1 << 6)
    parts = {name: replace(part, has={**part.has, "bram": 0, "spram": 0}) for name, part in fit.PARTS.items()}
    monkeypatch.setattr(fit, "PARTS", parts)


@pytest.mark.parametrize(
    ("name", "target", "options", "code"),
    [
        ("EqPropAttentionOnlyLM_release", "loihi", {}, "loihi-unsupported"),
        ("EqPropAttentionOnlyLM_release", "nir", {}, "nir-operation"),
        ("EqPropAttentionOnlyLM_release", "rtl", {"arch": "serial"}, "rtl-index"),
        ("ModernEqProp_archive_sn", "nir", {}, "nir-operation"),
        ("TemporalResonanceEqProp_release_sn", "rtl", {"arch": "serial"}, "rtl-frames"),
        ("TemporalResonanceEqProp_release_sn", "hls4ml", {}, "hls-frames"),
    ],
)
def test_operations_are_refused_before_quantization(name: str, target: str, options: Any, code: str) -> None:
    """Would break if an operation that a target has not were told of after the quantization alone."""
    needs, _ = both(name)
    assert code in {d.code for d in registry.target_class(target).of(**options).preflight(needs)}


@pytest.mark.parametrize("name", ["EqPropAttentionOnlyLM_release", "TemporalResonanceEqProp_release_sn"])
def test_a_net_that_one_architecture_takes_is_not_refused_for_what_others_lack(name: str) -> None:
    """The processor takes tokens and frames; `auto` tries it last."""
    needs, _ = both(name)
    assert not RtlTarget.of().preflight(needs)


def test_sizes_are_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a capacity were checked after the quantization alone, or without what is needed and there."""
    shrink(monkeypatch)
    needs = requirements_of(
        loop(np.random.default_rng(0), units=40, inputs=40).net, QuantizeOptions(), calibrated=False
    )
    expected = {
        LoihiTarget(): ("neurocores", "have 2", "--chips"),
        RtlTarget.of(arch="serial"): ("bits of memory", " has 0, the largest part", "--device generic"),
        RtlTarget.of(arch="parallel"): ("coefficients", "64", "--arch serial"),
        RtlTarget.of(arch="serial", synth="up5k"): ("bits of memory", "up5k has 0", "or part ecp5-25k"),
    }
    for target, words in expected.items():
        said = "\n".join(map(str, target.preflight(needs)))
        assert all(word in said for word in words), said
    assert Serial(device="generic").any_device
    assert not RtlTarget.of(arch="serial", device="generic").preflight(needs)
    assert not Parallel().least_memory_bits(needs)


@pytest.mark.parametrize("calibrated", [False, True])
def test_vectors_that_each_core_holds_are_foreseen(monkeypatch: pytest.MonkeyPatch, calibrated: bool) -> None:
    """Would break if copies of multipliers and biases were told of after the quantization alone, or counted for more
    than a population has. Without them the synapses would fit."""
    chips = {name: replace(chip, memory_bits=1 << 13, cores=5) for name, chip in CHIPS.items()}
    monkeypatch.setattr(loihi_target, "CHIPS", chips)
    net = loop(np.random.default_rng(0), units=40, inputs=40).net
    data = {"x": np.random.default_rng(1).uniform(-1, 1, (64, 40))} if calibrated else None
    (fault,) = foreseen_faults(LoihiTarget(), net, QuantizeOptions(), data)
    assert "at least 6 neurocores" in fault.what
    assert "bits of scales and biases in each core" in fault.what
    assert refused(LoihiTarget(), lower(net, QuantizeOptions(), calibration=data).net)
    needs = requirements_of(net, QuantizeOptions(), calibrated=False)
    assert {m.name: m.vectors for m in needs.maps} == {"drive": 80, "recurrent": 40, "logits": 3}
    bare = replace(needs, maps=tuple(replace(m, vectors=0) for m in needs.maps))
    assert not LoihiTarget().preflight(bare)


@pytest.mark.parametrize("name", ["SimpleConvEqProp_release_sn", "ModernConvEqProp_release_sn_eq15"])
@pytest.mark.parametrize("chip", CHIPS)
def test_the_chips_that_suffice_are_estimated(name: str, chip: ChipName, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a user were told before the quantization of chips that do not hold the net after it."""
    chips = {n: replace(c, memory_bits=1 << 19, cores=1) for n, c in CHIPS.items()}
    monkeypatch.setattr(loihi_target, "CHIPS", chips)
    needs, net = both(name)
    (fault,) = LoihiTarget(chip=chip).preflight(needs)
    suffices = int(re.search(r"--chips (\d+) suffices \(estimated\)", fault.hint).group(1))  # type: ignore[union-attr]
    assert not refused(LoihiTarget(chip=chip, chips=suffices), net)


def test_maps_that_nothing_adds_up_are_no_group() -> None:
    """Would break if vectors of populations that lie on other cores were counted together: an activation lies between
    the sums of the recurrence and those of the readout."""
    needs = requirements_of(loop(np.random.default_rng(0), units=8, inputs=8).net, QuantizeOptions(), calibrated=False)
    groups = {m.name: m.group for m in needs.maps}
    assert groups["drive"] == groups["recurrent"] != groups["logits"]


def test_weights_of_a_lattice_are_foreseen() -> None:
    """Would break if stencils had no bound, or one above what is left where taps meet."""
    needs, net = both("NeuralCube_release")
    (near,) = (m for m, op in zip(needs.maps, lattices(needs), strict=True) if op)
    assert 0 < near.taps
    assert excesses(needs, net) == []


def lattices(needs: Requirements) -> list[bool]:
    """Which of the maps are stencils."""
    maps = [op for _, op in Analysis.of(needs.net).live_ops if isinstance(op, (ops.Linear, ops.Stencil, ops.Conv))]
    return [isinstance(op, ops.Stencil) for op in maps]


def test_a_compilation_ends_before_it_quantizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if the command quantized a net that its target cannot hold, or left a folder behind."""

    def never(*args: Any, **rest: Any) -> Any:
        raise AssertionError("quantized")

    shrink(monkeypatch)
    monkeypatch.setattr(pipeline, "lower", never)
    for options in (["--target", "loihi"], ["--target", "rtl", "--arch", "serial"]):
        assert main([str(LOOPED), *options, "-o", str(tmp_path / "out")]) == UnsupportedError.exit_code
        assert "help: " in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
