"""What holds for every architecture of the core, a stranger's included: the target `rtl` emits it, and its Verilog
gives golden's codes in a simulator."""

from __future__ import annotations

from dataclasses import fields
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from conformance_nets import DITHERED, EXAMPLES, agree, example, simulated, skip_without_tools
from emitting import emitted, refused
from plugged import under_test

from eqcompile.rtl.architecture import Architecture
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain.registry import find_class

ARCHITECTURES = under_test("architectures")
SIMULATOR = "cocotb-icarus"


def declared(name: str) -> list[str]:
    """Nets that an architecture says it must take."""
    patterns = find_class("architectures", name, Architecture).conformance
    return [example for example in EXAMPLES if any(fnmatchcase(example, pattern) for pattern in patterns)]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_says_what_it_is(name: str) -> None:
    """A name that differs from the entry point chooses nothing; an option without help says nothing."""
    kind = find_class("architectures", name, Architecture)
    assert kind.name == name
    assert kind.summary
    assert all(f.metadata.get("help") for f in fields(kind))
    assert not kind.option_names() & {f.name for f in fields(RtlTarget)}
    assert list(kind().option_faults()) == []


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.slow
def test_an_architecture_takes_the_nets_that_it_declares(name: str) -> None:
    """A refusal would make the equality below pass with no code compared; so would a declaration of nothing."""
    assert declared(name)
    target = RtlTarget.of(arch=name)
    assert [d for net in declared(name) for d in refused(target, example(net)[0])] == []


@pytest.mark.simulator
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_core_computes_what_golden_computes(name: str, tmp_path: Path) -> None:
    """A core that differs from the specification in one code of one state at one tick is wrong."""
    target = RtlTarget.of(arch=name)
    skip_without_tools(target)
    # One is enough of those that it must take, one whose state has no sign, and one that counts its ticks.
    first, *others = declared(name)
    for number, net_name in enumerate((first, *(n for n in others if n in ("unsigned", DITHERED)))):
        net, inputs = example(net_name)
        artifact = emitted(target, net, tmp_path / str(number))
        assert artifact.manifest.core is not None
        assert artifact.manifest.core.options["arch"] == name
        agree(net, inputs, simulated(SIMULATOR, artifact, inputs)).require()
