"""What holds for every target and simulator that is installed, a stranger's included: nothing here names one.

A target joins by its entry point. It may refuse a net, with reasons; what it takes, each of its simulators must run to
golden's codes: every state, every tick, every sample.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from emitting import emitted, refused
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import random_inputs, random_net, small_net
from zoo_nets import zoo_net

from eqcompile.quantize.lower import lower
from eqcompile.toolchain import registry
from eqcompile.toolchain.artifact import Artifact, seal
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.diagnostics import ArtifactError, Diagnostic, MissingToolError, SimulatorError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import QuantizeOptions, Run, Simulator, Target
from eqcompile.toolchain.ir import IntNet, ops

TIMEOUT_S = 300.0
FOUR_FAMILIES = (
    "LoopedMLP_release_sn",
    "LoopedMLP_release_nosn",
    "LoopedMLP_archive_symmetric_sn",
    "TernaryEqProp_release_t0.13_best",
    "TernaryEqProp_archive_t1.5_1layer_best",
    "LazyEqProp_release_sn",
    "LazyEqProp_archive_sn",
    "NeuralCube_release",
    "NeuralCube_archive_sn",
)
FAMILIES = (*FOUR_FAMILIES, "TemporalResonanceEqProp_release_sn", "ToroidalMLP_archive_sn")
"""The four families that every built-in target takes, in all variants; then frames, and a ring of past states."""
RANDOM_SEEDS = (1, 2, 3, 4)
FUZZED = {"all": 5, "small": 1, "few": 1}
"""Random nets that a simulator runs, by its `suite`: small ones but for `all`, where one takes well below a second."""

Codes = Mapping[str, NDArray[np.int64]]


def plain() -> tuple[IntNet, Codes]:
    """The plainest loop: whoever takes any net takes this one."""
    net = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
    return net, {"x": np.array([[1, 0, -1], [5, -3, 0], [0, 0, 0]])}


@cache
def family(name: str) -> tuple[IntNet, Codes]:
    net, inputs = zoo_net(name)
    lowered = lower(net, QuantizeOptions(), calibration=inputs)
    codes, _ = encode(lowered.net, inputs)
    return lowered.net, codes


def example(name: str) -> tuple[IntNet, Codes]:
    if name == "plain":
        return plain()
    if name.startswith("random"):
        source = random.Random(int(name.removeprefix("random")))
        net = random_net(source, extras=()) if source.random() < 0.5 else random_net(source)
        return net, random_inputs(net, source)
    return family(name)


EXAMPLES = ("plain", *(f"random{seed}" for seed in RANDOM_SEEDS), *FAMILIES)
TARGETS = registry.names("targets")
PAIRS = [(target, simulator) for target in TARGETS for simulator in registry.simulators_of(target)]
SUITES = {"all": EXAMPLES, "small": [n for n in EXAMPLES if n not in FAMILIES], "few": ("plain", FAMILIES[0])}
CASES = [
    (*pair, name) for pair in PAIRS for name in SUITES[registry.find_class("simulators", pair[1], Simulator).suite]
]


def marked(cases: Sequence[tuple[str, ...]]) -> list[Any]:
    """Cases as pytest parameters, those of another package's simulator marked so."""
    return [pytest.param(*case, marks=[] if case[0] == "numpy" else [pytest.mark.simulator]) for case in cases]


def made(name: str) -> Target:
    return registry.target_class(name)()


def simulated(simulator: str, artifact: Artifact, inputs: Codes) -> Run:
    run: Run = registry.find_class("simulators", simulator, Simulator)().run(
        artifact, inputs, trace=True, timeout_s=TIMEOUT_S
    )
    return run


def agree(net: IntNet, inputs: Codes, got: Run) -> Any:
    return compare(run_golden(net, inputs), got)


@pytest.mark.parametrize(("target", "simulator", "name"), marked(CASES))
def test_an_artifact_computes_what_golden_computes(target: str, simulator: str, name: str, tmp_path: Path) -> None:
    """A backend that differs from the specification in one code of one state at one tick is wrong."""
    net, inputs = example(name)
    backend = made(target)
    refusals = refused(backend, net)
    if refusals:
        assert name != "plain"
        assert all(isinstance(d, Diagnostic) and d.code and d.what for d in refusals)
        return
    artifact = emitted(backend, net, tmp_path / "artifact")
    if backend.missing():
        with pytest.raises(MissingToolError):
            simulated(simulator, artifact, inputs)
        return
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
def test_random_nets_compute_what_golden_computes(target: str, simulator: str, tmp_path: Path) -> None:
    """A combination of sizes and operations that nobody thought of. The nets are the same in every run."""
    backend = made(target)
    if backend.missing():
        return
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


@pytest.mark.parametrize("name", FOUR_FAMILIES)
@pytest.mark.parametrize("target", ["numpy", "loihi", "c", "hls4ml"])
def test_the_four_families_are_not_refused(target: str, name: str) -> None:
    """A refusal would make the equality above pass without a single code compared."""
    net, _ = family(name)
    assert list(refused(made(target), net)) == []


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_a_simulator(target: str) -> None:
    """An artifact that nothing runs is not verified."""
    assert [pair for pair in PAIRS if pair[0] == target]
    backend = made(target)
    assert backend.name == target
    assert backend.summary
    assert backend.install or not backend.missing()


@pytest.mark.parametrize("target", TARGETS)
def test_emit_stays_in_its_folder(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An artifact is a folder: nothing beside it, no link out of it, no path of the machine that made it in it."""
    net, _ = plain()
    monkeypatch.chdir(tmp_path)
    folder = emitted(made(target), net, tmp_path / "artifact").folder
    assert [p.name for p in tmp_path.iterdir()] == ["artifact"]
    files = [p for p in folder.rglob("*") if not p.is_dir()]
    assert files
    assert not [p for p in folder.rglob("*") if p.is_symlink()]
    home = str(Path(__file__).resolve().parents[2]).encode()
    assert not [p.name for p in files if home in p.read_bytes() or str(tmp_path).encode() in p.read_bytes()]


@pytest.mark.parametrize("target", TARGETS)
def test_an_artifact_stands_alone(target: str, tmp_path: Path) -> None:
    """Emitted code runs where eqcompile is not installed."""
    net, _ = plain()
    folder = emitted(made(target), net, tmp_path / "artifact").folder
    pattern = re.compile(r"^\s*(from|import)\s+eqcompile\b", re.M)
    code = [p for p in folder.rglob("*.py") if pattern.search(p.read_text(encoding="utf-8"))]
    assert code == []


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_net_gives_the_same_folder(target: str, tmp_path: Path) -> None:
    """An artifact is reproducible: no time, no random name, no order of a set in it."""
    net, _ = plain()
    first, second = (emitted(made(target), net, tmp_path / n).folder for n in "ab")
    names = [sorted(str(p.relative_to(f)) for p in f.rglob("*") if p.is_file()) for f in (first, second)]
    assert names[0] == names[1]
    for name in names[0]:
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.mark.parametrize("target", TARGETS)
def test_an_illegal_net_is_refused_with_reasons(target: str, tmp_path: Path) -> None:
    """`check` answers for a net that the target cannot take; it neither passes it nor breaks."""
    net, _ = plain()
    illegal = dataclasses.replace(net, step=(*net.step[:2], ops.Activation(out="y", x="a", kind="tanh")))
    refusals = refused(made(target), illegal)
    assert refusals
    assert all(isinstance(d, Diagnostic) and d.code and d.what for d in refusals)


def _changed_number(found: re.Match[str]) -> str:
    code = int(found[2])
    return f"{found[1]}{code - 1 if code > 0 else code + 1},"


def changed_codes(folder: Path) -> int:
    """Change one code in each array of each data file of the artifact; how many arrays there were."""
    count = 0
    for path in folder.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        for array in arrays.values():
            if array.dtype.kind in "iu" and array.size:
                flat = array.reshape(-1)
                flat[0] = flat[0] - 1 if flat[0] > 0 else flat[0] + 1
                count += 1
        with path.open("wb") as stream:
            np.savez(stream, **arrays)
    for path in folder.rglob("*.onnx"):
        model = onnx.load(path)
        for tensor in model.graph.initializer:
            codes = onnx.numpy_helper.to_array(tensor).copy()
            flat = codes.reshape(-1)
            flat[0] = flat[0] - 1 if flat[0] > 0 else flat[0] + 1
            tensor.CopyFrom(onnx.numpy_helper.from_array(codes, tensor.name))
            count += 1
        onnx.save(model, path)
    for path in folder.rglob("*.c"):
        text, found = re.subn(r"(?<== \{\n)( +)(-?\d+),", _changed_number, path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")
        count += found
    for path in folder.rglob("weights/*.txt"):  # of hls4ml, and in a header of the same name what synthesis reads
        text = path.read_text(encoding="utf-8")
        changed, found = re.subn(r"^()(-?\d+),", _changed_number, text)
        header = path.with_suffix(".h")
        whole = header.read_text(encoding="utf-8").replace(f"{{{text}}}", f"{{{changed}}}")
        header.write_text(whole, encoding="utf-8")
        path.write_text(changed, encoding="utf-8")
        count += found
    for path in folder.rglob("*.nir"):
        with pytest.importorskip("h5py").File(path, "r+") as file:
            for node in file["node/nodes"].values():
                for key in {"weight", "scale", "threshold"} & set(node):
                    whole = node[key][()]
                    whole.reshape(-1)[0] += 1.0
                    node[key][...] = whole
                    count += 1
    return count


@pytest.mark.parametrize(("target", "simulator"), marked(PAIRS))
def test_a_changed_weight_is_caught(target: str, simulator: str, tmp_path: Path) -> None:
    """A simulator that passes an artifact with wrong weights does not run the artifact."""
    net, inputs = plain()
    whole = emitted(made(target), net, tmp_path / "artifact").folder
    broken = tmp_path / "broken"
    shutil.copytree(whole, broken)
    assert changed_codes(broken) > 0
    with pytest.raises(ArtifactError, match="artifact-changed"):
        Artifact.open(broken)
    changed = seal(broken, net, Artifact.open(whole).manifest)
    if made(target).missing():
        return
    try:
        got = simulated(simulator, changed, inputs)
    except SimulatorError:
        # A program that finds out by itself, by a checksum or a bound, is as good.
        return
    assert not agree(net, inputs, got).ok


def test_every_registered_simulator_has_its_target() -> None:
    """A simulator whose target is misspelt would never run."""
    found = {name: registry.find_class("simulators", name, Simulator).target for name in registry.names("simulators")}
    assert set(found.values()) <= set(TARGETS)


STRANGER = """
import dataclasses
from typing import ClassVar
from eqcompile.toolchain.golden import run
from eqcompile.toolchain.interfaces import Emission, Plan, Simulator, Target

@dataclasses.dataclass(frozen=True, kw_only=True)
class StrangerTarget(Target):
    name: ClassVar[str] = "stranger"
    summary: ClassVar[str] = "from another package"
    def missing(self): return ()
    def plan(self, net, source=None):
        return StrangerPlan(net)

@dataclasses.dataclass(frozen=True)
class StrangerPlan(Plan):
    def emit(self, folder, vectors):
        (folder / "code.txt").write_text("code")
        return Emission()

class StrangerSimulator(Simulator):
    name: ClassVar[str] = "stranger-sim"
    target: ClassVar[str] = "stranger"
    def run(self, artifact, inputs, *, trace, timeout_s, progress=None):
        found = run(artifact.net, inputs)
        ERROR
        return found
"""
ENTRY_POINTS = """
[eqcompile.targets]
stranger = stranger:StrangerTarget
[eqcompile.simulators]
stranger-sim = stranger:StrangerSimulator
"""


@pytest.mark.parametrize(("error", "status"), [("pass", 0), ("found.states['h'][2, 1, 0] += 1", 1)])
def test_a_stranger_joins_by_its_entry_point(tmp_path: Path, error: str, status: int) -> None:
    """A plug-in of another package is tested by this file as it stands, and fails it if one code is wrong."""
    (tmp_path / "stranger.py").write_text(STRANGER.replace("ERROR", error), encoding="utf-8")
    info = tmp_path / "stranger-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(ENTRY_POINTS, encoding="utf-8")
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    argv = [sys.executable, "-m", "pytest", str(Path(__file__)), "-p", "no:cacheprovider", "-k", "stranger-sim-plain"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    root = Path(__file__).parents[2]
    done = subprocess.run(argv, env=env, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert ("1 failed" if status else "1 passed") in done.stdout
