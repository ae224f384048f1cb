"""No target plans a net that the verifier of the IR refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from broken_nets import integer

from eqcompile.toolchain import registry
from eqcompile.toolchain.interfaces import Refusals
from eqcompile.toolchain.ir import check


@pytest.mark.parametrize("target", registry.names("targets"))
def test_a_net_that_is_not_sound_is_refused_as_the_verifier_says(target: str) -> None:
    """A backend would build something from operands that do not fit."""
    net = integer()
    broken = replace(
        net, params=tuple(replace(p, value=p.value[:, :1]) if p.value.ndim == 2 else p for p in net.params)
    )
    faults = [(d.code, d.where) for d in check(broken)]
    assert faults
    plan = registry.target_class(target).of().plan(broken)
    assert isinstance(plan, Refusals)
    assert [(d.code, d.where) for d in plan.diagnostics] == faults
