"""The core in Amaranth's simulator: every state after every tick is golden's, whatever the streams do."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable

import pytest
from rtl_engines import differences, simulate
from strategies import random_inputs, random_net

from eqcompile.rtl.processor.hardware import ProcessorEngine
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.ir import IntNet

SEEDS = {"vector with a gate": 2, "sites": 4, "tokens": 15, "repeat": 28}


def waits(seed: int) -> Callable[[], bool]:
    rng = random.Random(seed)
    return lambda: rng.random() < 0.4


@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize("name", SEEDS)
def test_random_nets(name: str, stalls: bool) -> None:
    rng = random.Random(SEEDS[name])
    net = random_net(rng, frames=False)
    codes = random_inputs(net, rng)
    stall = waits(1) if stalls else lambda: False
    seen = simulate(ProcessorEngine(net, trace=True), net, codes, stall=stall)
    assert differences(net, codes, seen) == []


def test_a_restart_drops_the_sample_at_hand() -> None:
    rng = random.Random(SEEDS["vector with a gate"])
    net = random_net(rng, frames=False)
    codes = random_inputs(net, rng)
    seen = simulate(ProcessorEngine(net, trace=True), net, codes, restart_at=70)
    assert differences(net, codes, seen) == []


def test_what_it_cannot_do_yet_is_refused_by_name() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for net in (dividing(), random_net(random.Random(1), frames=True)):
            with pytest.raises(UnsupportedError):
                ProcessorEngine(net)


def dividing() -> IntNet:
    return next(
        net
        for net in (random_net(random.Random(seed), frames=False) for seed in range(200))
        if any(op.mnemonic == "divide" for op in net.all_ops())
    )
