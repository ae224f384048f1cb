"""What holds for every target and simulator that is installed, a stranger's included: nothing here names one, and
nothing knows a format of files.

A target joins by its entry point. It declares nets that it must take (`Target.conformance`) and may refuse others, with
reasons; what it takes, each of its simulators must run to golden's codes: every state, every tick, every sample.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from conformance_nets import EXAMPLES, FAMILIES, Codes, agree, example, simulated, skip_without_tools
from emitting import emitted, refused
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from plugged import under_test
from strategies import random_inputs, random_net

from eqcompile.toolchain import registry
from eqcompile.toolchain.artifact import seal
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.diagnostics import Diagnostic, MissingToolError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import Simulator, Target
from eqcompile.toolchain.ir import IntNet, ops, verify

FUZZED = {"all": 5, "small": 1, "few": 1}
"""Random nets that a simulator runs, by its `suite`: small ones but for `all`, where one takes well below a second."""

TARGETS = under_test("targets")
SIMULATORS = under_test("simulators")
PAIRS = [(target, simulator) for target in TARGETS for simulator in registry.simulators_of(target)]
SUITES = {
    "all": EXAMPLES,
    "small": [n for n in EXAMPLES if n not in (*FAMILIES, "pooled")],
    "few": ("plain", "unsigned", "roots", FAMILIES[0]),
}
CASES = [
    (*pair, name) for pair in PAIRS for name in SUITES[registry.find_class("simulators", pair[1], Simulator).suite]
]


def marked(cases: Sequence[tuple[str, ...]]) -> list[Any]:
    """Cases as pytest parameters, those of another package's simulator marked so."""
    return [pytest.param(*case, marks=[] if case[0] == "numpy" else [pytest.mark.simulator]) for case in cases]


def target_of(name: str) -> Target:
    return registry.target_class(name)()


def declared(target: str) -> list[str]:
    """Nets that a target says it must take."""
    patterns = registry.target_class(target).conformance
    return [name for name in EXAMPLES if any(fnmatchcase(name, pattern) for pattern in patterns)]


@pytest.mark.slow
@pytest.mark.parametrize(("target", "simulator", "name"), marked(CASES))
def test_an_artifact_computes_what_golden_computes(target: str, simulator: str, name: str, tmp_path: Path) -> None:
    """A backend that differs from the specification in one code of one state at one tick is wrong."""
    net, inputs = example(name)
    backend = target_of(target)
    refusals = refused(backend, net)
    if refusals:
        assert name not in declared(target)
        assert all(isinstance(d, Diagnostic) and d.code and d.what for d in refusals)
        pytest.skip(f"{target} refuses {name}: {refusals[0].code}")
    artifact = emitted(backend, net, tmp_path / "artifact")
    if backend.missing():
        with pytest.raises(MissingToolError):
            simulated(simulator, artifact, inputs)
    skip_without_tools(backend)
    agree(net, inputs, simulated(simulator, artifact, inputs)).require()


def fuzzed(source: random.Random, *, large: bool) -> tuple[IntNet, Codes]:
    """A net of any size, width of codes, sparsity, gate, damping, table and schedule, of plain loops every second one;
    and inputs. `large`: every second one is wide."""
    plainly = source.random() < 0.5
    wide = large and source.random() < 0.5
    spaces = ("vector", "vector", "sites") if wide else ("vector", "sites", "image", "tokens")
    extras = {"extras": (), "frames": False} if plainly else {}
    net = random_net(source, spaces=spaces, wide=wide, **extras)  # type: ignore[arg-type]
    return net, random_inputs(net, source, batch=source.randint(1, 4), frames=source.randint(1, 3))


@pytest.mark.parametrize(("target", "simulator"), marked(PAIRS))
@pytest.mark.slow
def test_random_nets_compute_what_golden_computes(target: str, simulator: str, tmp_path: Path) -> None:
    """A combination of sizes and operations that nobody thought of. The nets are the same in every run."""
    backend = target_of(target)
    skip_without_tools(backend)
    folders = (tmp_path / str(number) for number in itertools.count())
    suite = registry.find_class("simulators", simulator, Simulator).suite

    @settings(
        max_examples=FUZZED[suite],
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 1 << 32))
    def equal(seed: int) -> None:
        net, inputs = fuzzed(random.Random(seed), large=suite == "all")
        # What a target refuses does not count; if it refuses all, hypothesis says so.
        assume(not refused(backend, net))
        agree(net, inputs, simulated(simulator, emitted(backend, net, next(folders)), inputs)).require()

    equal()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.slow
def test_a_target_takes_the_nets_that_it_declares(target: str) -> None:
    """A refusal would make the equality above pass with no code compared; so would a declaration of nothing."""
    patterns = registry.target_class(target).conformance
    assert all(any(fnmatchcase(name, pattern) for name in EXAMPLES) for pattern in patterns)
    names = declared(target)
    assert "plain" in names
    assert len(names) > 1
    assert [d for name in names for d in refused(target_of(target), example(name)[0])] == []


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_a_simulator(target: str) -> None:
    """An artifact that nothing runs is not verified."""
    assert [pair for pair in PAIRS if pair[0] == target]
    backend = target_of(target)
    assert backend.name == target
    assert backend.summary
    assert backend.install or not backend.missing()


@pytest.mark.parametrize("target", TARGETS)
def test_emit_stays_in_its_folder(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An artifact is a folder: nothing beside it, no link out of it, no path of the machine that made it in it."""
    net, _ = example("plain")
    monkeypatch.chdir(tmp_path)
    folder = emitted(target_of(target), net, tmp_path / "artifact").folder
    assert [p.name for p in tmp_path.iterdir()] == ["artifact"]
    files = [p for p in folder.rglob("*") if not p.is_dir()]
    assert files
    assert not [p for p in folder.rglob("*") if p.is_symlink()]
    home = str(Path(__file__).resolve().parents[2]).encode()
    assert not [p.name for p in files if home in p.read_bytes() or str(tmp_path).encode() in p.read_bytes()]


@pytest.mark.parametrize("target", TARGETS)
def test_an_artifact_stands_alone(target: str, tmp_path: Path) -> None:
    """Emitted code runs where eqcompile is not installed."""
    net, _ = example("plain")
    folder = emitted(target_of(target), net, tmp_path / "artifact").folder
    pattern = re.compile(r"^\s*(from|import)\s+eqcompile\b", re.M)
    code = [p for p in folder.rglob("*.py") if pattern.search(p.read_text(encoding="utf-8"))]
    assert code == []


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_the_same_net_gives_the_same_folder(target: str, tmp_path: Path) -> None:
    """An artifact is reproducible: no time, no random name, no order of a set in it."""
    net, _ = example("plain")
    first, second = (emitted(target_of(target), net, tmp_path / n).folder for n in "ab")
    names = [sorted(str(p.relative_to(f)) for p in f.rglob("*") if p.is_file()) for f in (first, second)]
    assert names[0] == names[1]
    for name in names[0]:
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.mark.parametrize("target", TARGETS)
def test_an_illegal_net_is_refused_with_reasons(target: str, tmp_path: Path) -> None:
    """`check` answers for a net that the target cannot take; it neither passes it nor breaks."""
    net, _ = example("plain")
    illegal = dataclasses.replace(net, step=(*net.step[:2], ops.Activation(out="y", x="a", kind="tanh")))
    refusals = refused(target_of(target), illegal)
    assert refusals
    assert all(isinstance(d, Diagnostic) and d.code and d.what for d in refusals)


def other_weight() -> IntNet:
    """`plain` with one weight changed; formats, shapes and names are the same."""
    net, _ = example("plain")
    (at,) = (k for k, param in enumerate(net.params) if param.name == "W")
    weight = net.params[at].value.copy()
    weight[0, 1] = -weight[0, 1]
    params = (*net.params[:at], dataclasses.replace(net.params[at], value=weight), *net.params[at + 1 :])
    other = dataclasses.replace(net, params=params)
    verify(other)
    return other


@pytest.mark.parametrize(("target", "simulator"), marked(PAIRS))
def test_a_simulator_runs_the_files_of_the_artifact(target: str, simulator: str, tmp_path: Path) -> None:
    """The files of one net under the name and the manifest of another: what is run is the files. A simulator that runs
    the net that the manifest names, or golden, would pass any artifact."""
    (net, inputs), other = example("plain"), other_weight()
    expected = run_golden(other, inputs)
    assert not compare(run_golden(net, inputs), expected).ok
    backend = target_of(target)
    skip_without_tools(backend)
    named, files = emitted(backend, net, tmp_path / "named"), emitted(backend, other, tmp_path / "files")
    swapped = seal(files.folder, net, named.manifest)
    compare(expected, simulated(simulator, swapped, inputs)).require()


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_every_registered_simulator_has_its_target(simulator: str) -> None:
    """A simulator whose target is misspelt would never run."""
    loaded = registry.find_class("simulators", simulator, Simulator)
    assert loaded.name == simulator
    assert loaded.target in registry.names("targets")
