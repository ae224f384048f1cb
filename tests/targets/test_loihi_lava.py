"""The emitted network under Lava: equal to golden, mutants caught, and an end to everything that goes wrong."""

import importlib.util
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from emitting import emitted, refused, unchecked
from placed_nets import normalised
from strategies import random_inputs, random_net, small_net, with_formats

from eqcompile.sim import exchange
from eqcompile.sim.simulators import Loihi1Simulator, Loihi2Simulator
from eqcompile.targets.loihi.target import LoihiTarget
from eqcompile.toolchain.artifact import Artifact, manifest_of
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.diagnostics import MissingToolError, SimulatorError
from eqcompile.toolchain.golden import run
from eqcompile.toolchain.ir import Encoding, Format, Input, IntNet, Output, Param, Schedule, State, ops

pytestmark = pytest.mark.simulator

TIMEOUT_S = 60.0
MODEL = "processes/pop_h/process.py"
STEP = "def step(self):"


def compiled(net: IntNet, folder: Path, **options: str) -> Path:
    target = LoihiTarget(**options)  # type: ignore[arg-type]
    assert refused(target, net) == []
    return emitted(target, net, folder).folder


def loop() -> IntNet:
    """Two coupled units that take several ticks to settle, with a drive, rounding, damping and a readout."""
    return with_formats(
        IntNet(
            name="loop",
            family="test",
            inputs=(Input("x", (3,), encoding=Encoding(Format(5, True), 0.5)),),
            params=(
                Param("V", np.array([[1, -1, 0], [0, 1, 1]]), "test"),
                Param("b", np.array([3, -2]), "test"),
                Param("W", np.array([[2, -1], [1, 1]]), "test"),
                Param("m", np.array(3), "test"),
                Param("T", np.arange(-100, 101), "test"),
                Param("R", np.array([[1, -1], [-1, 2], [0, 1]]), "test"),
            ),
            states=(State("h", (2,), "new", frac=7),),
            drive=(ops.Linear(out="d", x="x", weight="V", bias="b"),),
            step=(
                ops.Linear(out="r", x="h", weight="W"),
                ops.Add(out="p", a="d", b="r"),
                ops.Rescale(out="q", x="p", multiplier="m", shift=3),
                ops.Lookup(out="a", x="q", table="T", first=-100),
                ops.DampFixed(out="new", old="h", new="a", multiplier=3, shift=2),
            ),
            readout=(ops.Linear(out="y", x="h", weight="R"),),
            outputs=(Output("logits", "y", "classes", 0.25),),
            schedule=Schedule(8),
            formats={"h": Format(8, True)},
        )
    )


def inputs_of(net: IntNet, batch: int) -> dict[str, np.ndarray]:
    return random_inputs(net, random.Random(1), batch=batch)


def edit(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def inside(folder: Path) -> list[int]:
    """Processes whose working directory is the artifact."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").readlink() == folder:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize(("seed", "simulator"), [(3, Loihi1Simulator), (8, Loihi2Simulator), (14, Loihi2Simulator)])
def test_random_nets_equal_golden(seed: int, simulator: type[Loihi2Simulator], tmp_path: Path) -> None:
    """Any net that the target takes must give golden's bits: nested loops, sweeps, gates, frames, lattices, images."""
    net = random_net(random.Random(seed), tolerance=0)
    folder = compiled(net, tmp_path / "net")
    x = inputs_of(net, 3)
    comparison = compare(run(net, x), simulator().run(unchecked(folder), x, trace=True, timeout_s=TIMEOUT_S))
    comparison.require()
    assert comparison.values > 0


def test_values_of_two_words_equal_golden(tmp_path: Path) -> None:
    """A square of more than 32 bits that is cut would change a norm; cut where it should not, it must end the run."""
    net = normalised()
    folder = compiled(net, tmp_path / "net")
    x = inputs_of(net, 5)
    compare(run(net, x), Loihi2Simulator().run(unchecked(folder), x, trace=True, timeout_s=TIMEOUT_S)).require()
    # With a fault, though it flips nothing, every value goes through wires of its width.
    fault = {"state": "h", "sample": 0, "element": 0, "first": 0, "last": 5, "bits": 8, "signed": True}
    faults, out = tmp_path / "faults.json", tmp_path / "y.npz"
    faults.write_text(json.dumps([{**fault, **dict.fromkeys(("flip", "one", "zero", "add"), 0)}]))
    np.savez(tmp_path / "x.npz", **{f"codes.{name}": codes for name, codes in x.items()})
    argv = [sys.executable, "run.py", "-i", str(tmp_path / "x.npz"), "-o", str(out), "--faults", str(faults)]
    subprocess.run(argv, cwd=folder, check=True, capture_output=True, timeout=TIMEOUT_S)
    assert np.load(out)["y"].tolist() == run(net, x).outputs["y"].tolist()
    edit(folder, MODEL, ", bits=64", "")
    with pytest.raises(SimulatorError):
        Loihi2Simulator().run(unchecked(folder), x, trace=True, timeout_s=TIMEOUT_S)


def test_more_samples_than_lanes(tmp_path: Path) -> None:
    """A pass that starts from what the last one left would change every sample after the 64th."""
    net = loop()
    folder = compiled(net, tmp_path / "net", connectivity="sparse")
    x = inputs_of(net, 150)
    got = Loihi2Simulator().run(unchecked(folder), x, trace=True, timeout_s=TIMEOUT_S)
    compare(run(net, x), got).require()
    assert len(set(got.steps.tolist())) > 1, "samples that settle at different ticks"
    events = got.details["events"]
    assert events["samples"] == 150
    assert events["kind"] == "simulated"
    assert events["per_tick"]["h_step"][0] == 0.0, "all states are zero before the first tick"
    # What golden counts when it adds changes only is what the network counts as it runs on after settling.
    added = run(net, x, evaluation="event").details["additions_event"]
    assert events["synops"]["r"] * 150 == pytest.approx(added)
    assert inside(folder) == []


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("processes/synapse/process.py", "delta[:, active].T", "(delta[:, active] * (delta[:, active] != 1)).T"),
        ("runtime/arithmetic.py", "return (1 << shift) >> 1", "return 0"),
        ("processes/synapse/process.py", "self.acc = np.tile", "self.acc = self.acc if self.passing else np.tile"),
    ],
    ids=["dropped-delta", "floor-for-half-up", "stale-sums"],
)
def test_mutants_are_caught(name: str, old: str, new: str, tmp_path: Path) -> None:
    """A comparison that a wrong process passes proves nothing."""
    net = loop()
    folder = compiled(net, tmp_path / "net", connectivity="dense")
    edit(folder, name, old, new)
    x = inputs_of(net, 70)
    got = Loihi2Simulator().run(unchecked(folder), x, trace=True, timeout_s=TIMEOUT_S)
    comparison = compare(run(net, x), got)
    assert not comparison.ok
    assert comparison.first is not None
    with pytest.raises(SimulatorError, match="expected"):
        comparison.require()


@pytest.mark.parametrize(
    ("name", "where", "fault", "timeout_s", "says"),
    [
        (MODEL, STEP, "import time; time.sleep(1000)", 3.0, "no end after 3 s"),
        (MODEL, STEP, "raise RuntimeError('the model is broken')", TIMEOUT_S, "RuntimeError: the model is broken"),
        (MODEL, STEP, "import os; os.kill(os.getpid(), 9)", TIMEOUT_S, "ended with exit code -9"),
        (MODEL, "def __init__(self, proc_params):", "raise ValueError('no build')", TIMEOUT_S, "ValueError: no build"),
        ("run.py", "def main() -> int:", "os.kill(os.getpid(), 9)", TIMEOUT_S, "signal SIGKILL"),
    ],
    ids=["hangs", "raises", "killed", "does-not-build", "run-killed"],
)
def test_what_breaks_ends_soon_and_leaves_nothing(
    name: str, where: str, fault: str, timeout_s: float, says: str, tmp_path: Path
) -> None:
    """Lava itself waits for ever when a model fails and leaves its processes behind."""
    net = loop()
    folder = compiled(net, tmp_path / "net")
    indent = " " * (8 if name == MODEL else 4)
    edit(folder, name, where + "\n", f"{where}\n{indent}{fault}\n")
    with pytest.raises(SimulatorError, match=says):
        Loihi2Simulator().run(unchecked(folder), inputs_of(net, 2), trace=False, timeout_s=timeout_s)
    limit = time.monotonic() + 60.0
    while inside(folder) and time.monotonic() < limit:
        time.sleep(0.05)
    assert inside(folder) == []


def test_folder_runs_alone_on_real_numbers_in_parts_that_never_meet(tmp_path: Path) -> None:
    """The folder must need no eqcompile, encode as the net says, and run parts that exchange no message."""
    net = loop()
    alone = IntNet(
        name="parts",
        family="test",
        inputs=net.inputs,
        params=(*net.params, Param("n", np.array(1), "test"), Param("C", np.arange(9), "test")),
        states=(*net.states, State("count", (), "next")),
        drive=net.drive,
        step=(*net.step, ops.Add(out="more", a="count", b="n"), ops.Lookup(out="next", x="more", table="C", first=0)),
        readout=net.readout,
        outputs=net.outputs,
        schedule=net.schedule,
        formats={"h": Format(8, True), "count": Format(4, False)},
    )
    alone = with_formats(alone)
    folder = compiled(alone, tmp_path / "net", chip="loihi1")
    x = np.random.default_rng(0).normal(0.0, 5.0, (5, 3))
    np.savez(tmp_path / "x.npz", x=x)
    block = "import sys, runpy; sys.modules['eqcompile'] = None; sys.argv = ['run.py', *sys.argv[1:]]; "
    ran = subprocess.run(
        [sys.executable, "-I", "-B", "-c", block + "runpy.run_path('run.py', run_name='__main__')"]
        + ["-i", str(tmp_path / "x.npz"), "-o", str(tmp_path / "y.npz"), "--trace", "--timeout", "60"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "nJ" in ran.stdout
    codes = np.clip(np.rint(x / 0.5), -16, 15).astype(np.int64)
    golden = run(alone, {"x": codes})
    with np.load(tmp_path / "y.npz") as got:
        np.testing.assert_array_equal(got["state.h"], golden.states["h"])
        np.testing.assert_array_equal(got["state.count"], golden.states["count"])
        np.testing.assert_array_equal(got["logits"], golden.outputs["logits"])
        np.testing.assert_array_equal(got["labels"], golden.outputs["logits"].argmax(axis=-1))
        np.testing.assert_array_equal(got["steps"], golden.steps)
    assert not list(folder.rglob("__pycache__")), "running an artifact must not write into it"


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"z": np.zeros((1, 2))}, "has ['z'], needs 'x' (real values)"),
        ({"x": np.zeros((1, 3))}, "x has shape (1, 3), the network takes [batch, 2]"),
        ({"x": np.full((1, 2), np.nan)}, "2 of 2 values are NaN or infinite"),
        ({"codes.x": np.full((1, 2), 200)}, "codes.x has codes 200 to 200, must be -128 to 127"),
        ({"codes.x": np.zeros((1, 2))}, "codes.x is float64, must be integer codes"),
    ],
)
def test_wrong_input_is_refused_before_lava_starts(arrays: dict[str, np.ndarray], says: str, tmp_path: Path) -> None:
    """A wrong file must give one line that says what is wrong, at once."""
    folder = compiled(small_net([[1, 0], [0, 1]], table=[-1, 0, 1], first=-1, steps=3), tmp_path / "net")
    np.savez(tmp_path / "x.npz", **arrays)
    argv = [sys.executable, "-I", "-B", "run.py", "-i", str(tmp_path / "x.npz"), "-o", str(tmp_path / "y.npz")]
    ran = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 2
    assert says in ran.stderr
    assert "Traceback" not in ran.stderr


def test_without_lava_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An absent tool must be explained, not end in an ImportError from a subprocess."""
    monkeypatch.setattr(exchange, "find_spec", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    artifact = Artifact(tmp_path, loop(), manifest_of(loop(), target="loihi", options={}, details={}))
    with pytest.raises(MissingToolError, match=r"eqcompile\[loihi\]"):
        Loihi2Simulator().run(artifact, {}, trace=False, timeout_s=1.0)
    assert LoihiTarget().missing() == ("lava-nc",)
