"""`--arch auto`: what it chooses for a net and parts, and what it says of that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from emitting import emitted
from rtl_engines import cube_net
from strategies import small_net

from eqcompile.targets.rtl import engines
from eqcompile.targets.rtl.engines import architecture, choose
from eqcompile.targets.rtl.finish import Requests, block_ram_estimates
from eqcompile.targets.rtl.synth.parts import PARTS
from eqcompile.targets.rtl.target import RtlPlan, RtlTarget
from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import IntNet


def linear() -> IntNet:
    return small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)


def test_it_says_why_each_is_taken_or_not() -> None:
    """Would break if a choice had no reason, or a named architecture were told as one of several."""
    cube = choose(cube_net(3), (), ())
    assert cube.architecture.name == "lattice"
    assert cube.reasons[-1].startswith("lattice is taken")
    assert choose(cube_net(3), (architecture("serial"),), ()).reasons == ()
    flat = choose(linear(), (), ())
    assert flat.architecture.name == "serial"
    assert "bits of memory for weights [estimated]" in flat.reasons[-1]


def test_an_engine_that_cannot_fit_is_passed_over() -> None:
    """Would break if `auto` chose by the net alone and then refused what another architecture could hold."""
    net = cube_net(3)
    assert choose(net, (), ()).architecture.name == "lattice"
    found = choose(net, (), {"ecp5-25k"})
    assert found.architecture.name == "serial"
    assert found.reasons[0].startswith("lattice does not fit: ")
    assert "available on ecp5-25k" in found.reasons[0]
    assert found.reasons[1].startswith("serial is taken")


def test_where_none_fits_the_first_that_takes_the_net_says_what_is_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a refusal named an architecture that cannot compute the net at all."""
    none = {key: 0 for key in PARTS["ecp5-25k"].has}
    bare = {**PARTS, "ecp5-25k": replace(PARTS["ecp5-25k"], has=none)}
    monkeypatch.setattr(engines, "PARTS", bare)
    monkeypatch.setattr("eqcompile.targets.rtl.synth.fit.PARTS", bare)
    circuits = [architecture(name) for name in ("lattice", "parallel", "serial")]
    found = choose(cube_net(3), circuits, {"ecp5-25k"})
    assert found.architecture.name == "lattice"
    assert found.refusals == ()


def test_where_none_fits_an_engine_that_holds_the_weights_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a user were sent on to `--arch serial`, which has too little memory: 784-1024-10 was."""
    monkeypatch.setattr("eqcompile.rtl.interface.MAX_TAPS", 1)
    monkeypatch.setattr(type(architecture("parallel")), "rank", lambda self, net: -1)
    larger = choose(linear(), (), ())
    assert larger.architecture.name == "serial"
    assert larger.reasons[0].startswith("parallel does not fit: the weights are")
    monkeypatch.setattr(engines, "_short", lambda net, choice, parts: [Diagnostic("does-not-fit", "less", "", "")])
    found = choose(linear(), (), ())
    assert (found.architecture.name, found.refusals) == ("serial", ())
    only = choose(linear(), (architecture("parallel"),), ())
    assert [d.code for d in only.refusals] == ["rtl-capacity"]


def test_reasons_and_block_ram_are_told_with_the_core(tmp_path: Path) -> None:
    """Would break if the estimate were of another part, or left out where no part was asked for."""
    target = RtlTarget.of()
    plan = target.plan(linear())
    assert isinstance(plan, RtlPlan)
    assert plan.reasons[-1].startswith("serial is taken")
    artifact = emitted(target, linear(), tmp_path / "core")
    engine = artifact.manifest.details["engine"]
    assert isinstance(engine, dict)
    request = Requests((), (1,), None, 1.0)
    assert block_ram_estimates(engine, request) == ()
    memory = {"name": "m", "width": 16, "depth": 512}
    (wide,) = block_ram_estimates({"memories": [memory, memory]}, replace(request, parts=("ecp5-25k",)))
    assert wide == "block RAM before synthesis: at least 2 of 56 on ecp5-25k [estimated]"
    (line,) = block_ram_estimates({"memories": [memory]}, request)
    named = [name for name, part in PARTS.items() if part.has.get("bram")]
    assert len(named) >= 3
    assert all(f"of {PARTS[name].has['bram']} on {name}" in line for name in named)
    assert block_ram_estimates({"memories": []}, request) == ()
