"""The `numpy` target: its folder computes golden's codes, stands alone, and says plainly what is wrong."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from emitting import emitted, refused, unchecked
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray
from strategies import int_runs, op_counts, random_inputs, random_net, small_net, with_formats

from eqcompile.sim.simulators import NumpySimulator
from eqcompile.targets.numpy import kernel
from eqcompile.targets.numpy.target import NumpyTarget
from eqcompile.toolchain import golden
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.diagnostics import SimulatorError
from eqcompile.toolchain.interfaces import Run
from eqcompile.toolchain.ir import LEGAL, Encoding, Format, Input, IntNet, Output, Param, Schedule, State, ops, verify

Codes = NDArray[np.int64]


def compiled(net: IntNet, folder: Path) -> Path:
    assert refused(NumpyTarget(), net) == []
    return emitted(NumpyTarget(), net, folder).folder


def kernel_of(folder: Path) -> ModuleType:
    """The emitted module, in this process; from its source, for Python takes the bytecode of another one of the same
    second and size for its own."""
    path = folder / "kernel.py"
    module = ModuleType("emitted_kernel")
    module.__file__ = str(path)
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), module.__dict__)
    return module


def run_kernel(folder: Path, net: IntNet, inputs: dict[str, Codes]) -> Run:
    found = kernel_of(folder).run(*[inputs[i.name] for i in net.inputs], trace=True)
    states = {s.name: found[f"state.{s.name}"] for s in net.states}
    return Run(states=states, outputs={o.name: found[o.name] for o in net.outputs}, steps=found["steps"])


def two_states(tolerance: int = 0) -> IntNet:
    """A damped loop that copies its state into a second one; rescale, damping and lookup all matter."""
    weight = np.array([[3, -2, 1], [1, 2, -3], [-2, 1, 2]])
    table = np.rint(100 * np.tanh(np.arange(-40, 41) / 20)).astype(np.int64)
    net = IntNet(
        name="two",
        family="test",
        inputs=(Input("x", (3,), encoding=Encoding(Format(6, True), 0.125)),),
        params=(Param("W", weight, "t"), Param("T", table, "t"), Param("m", np.array(5), "t")),
        states=(State("h", (3,), "d", frac=7), State("g", (3,), "h", frac=7)),
        drive=(),
        step=(
            ops.Linear(out="a", x="h", weight="W"),
            ops.Rescale(out="r", x="a", multiplier="m", shift=5),
            ops.Add(out="s", a="r", b="x"),
            ops.Lookup(out="y", x="s", table="T", first=-40),
            ops.DampFixed(out="d", old="g", new="y", multiplier=5, shift=3),
        ),
        readout=(),
        outputs=(Output("o", "g", "classes", 1.0),),
        schedule=Schedule(9, tolerance=tolerance),
        formats={"h": Format(8, True), "g": Format(8, True)},
    )
    return with_formats(net)


@pytest.mark.slow
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(int_runs())
def test_the_kernel_is_golden(tmp_path: Path, run: tuple[IntNet, dict[str, Codes]]) -> None:
    """A wrong rounding, stale state, batch that leaves too early, or float product beyond its exact range."""
    net, inputs = run
    folder = compiled(net, tmp_path / "out")
    compare(golden.run(net, inputs), run_kernel(folder, net, inputs)).require()


def test_the_random_nets_use_every_operation() -> None:
    """An operation that no example uses would be taken on trust."""
    used: set[str] = set()
    for seed in range(120):
        used |= set(op_counts(random_net(random.Random(seed))))
    assert used == {op.mnemonic for op, levels in LEGAL.items() if "intnet" in levels}


@pytest.mark.parametrize("bits", [2, 20, 40])
def test_products_stay_exact_in_wide_formats(tmp_path: Path, bits: int) -> None:
    """Single precision, double precision and int64 products: each at the edge of its range."""
    top = (1 << bits) - 1
    generator = np.random.default_rng(bits)
    weight = generator.integers(-top, top, (5, 7), endpoint=True)
    weight[0] = top
    net = IntNet(
        name="wide",
        family="test",
        inputs=(Input("x", (7,), encoding=Encoding(Format(20, True), 1.0)),),
        params=(Param("W", weight, "t"),),
        states=(),
        drive=(),
        step=(),
        readout=(ops.Linear(out="y", x="x", weight="W"),),
        outputs=(Output("y", "y", "values", 1.0),),
        schedule=Schedule(1),
    )
    net = with_formats(net)
    folder = compiled(net, tmp_path / "out")
    assert {2: "float32", 20: "float64", 40: "int64"}[bits] in (folder / "kernel.py").read_text(encoding="utf-8")
    x = generator.integers(-(1 << 19), (1 << 19) - 1, (64, 7), endpoint=True)
    x[0] = (1 << 19) - 1
    want = np.array([[sum(int(a) * int(b) for a, b in zip(r, s, strict=True)) for r in weight] for s in x])
    np.testing.assert_array_equal(kernel_of(folder).run(x)["y"], want)


def test_names_of_python_and_of_the_kernel(tmp_path: Path) -> None:
    """IR names may be keywords, built-ins or names that the kernel itself uses."""
    net = small_net([[1, 2], [-1, 1]], table=[-3, -1, 0, 2, 3], first=-2, steps=4)
    other = {"x": "lambda", "h": "len", "W": "np", "T": "w_matrix", "w": "w", "a": "live", "y": "run"}
    net = replace(
        net,
        inputs=(replace(net.inputs[0], name=other["x"]),),
        params=tuple(replace(p, name=other[p.name]) for p in net.params),
        states=(replace(net.states[0], name=other["h"], update=other["y"]),),
        step=(
            ops.Linear(out="w", x="len", weight="np"),
            ops.Add(out="live", a="w", b="lambda"),
            ops.Lookup(out="run", x="live", table="w_matrix", first=-2),
        ),
        outputs=(replace(net.outputs[0], value="len"),),
        formats={other[n]: f for n, f in net.formats.items()},
    )
    verify(net)
    x = np.array([[1, -5], [0, 3]])
    folder = compiled(net, tmp_path / "out")
    compare(golden.run(net, {"lambda": x}), run_kernel(folder, net, {"lambda": x})).require()


def test_settled_samples_leave(tmp_path: Path) -> None:
    """With tolerance 0 the steps differ by sample and no code changes after a sample's end."""
    net = two_states()
    x = np.array([[0, 0, 0], [5, -9, 31], [1, 0, 0], [-32, 31, 4]])
    want = golden.run(net, {"x": x})
    assert len(set(want.steps.tolist())) > 1
    compare(want, run_kernel(compiled(net, tmp_path / "out"), net, {"x": x})).require()


# Mutants of the emitted folder

MUTANTS = {
    "rounding constant dropped": (" + 16) >> 5", ") >> 5"),
    "damping rounds down": (" + 4) >> 3", ") >> 3"),
    "table shifted by one": ("s + 40", "s + 41"),
    "stale state": ("return [d, h]", "return [d, g]"),
    "domain wraps": ('mode="clip"', 'mode="wrap"'),
    "damped towards the wrong state": ("d = g + ", "d = h + "),
    "input forgotten": ("s = r + x", "s = r + 0 * x"),
    "one tick less": ("STEPS = 9", "STEPS = 8"),
    "leaves the batch too early": ("TOLERANCE = 0", "TOLERANCE = 3"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_changed_kernel_is_caught(tmp_path: Path, mutant: str) -> None:
    """The comparison must be able to fail, for each line of the kernel that matters."""
    net = two_states()
    folder = compiled(net, tmp_path / "out")
    text = (folder / "kernel.py").read_text(encoding="utf-8")
    before, after = MUTANTS[mutant]
    assert text.count(before) == 1
    (folder / "kernel.py").write_text(text.replace(before, after), encoding="utf-8")
    inputs = {"x": np.random.default_rng(1).integers(-32, 31, (30, 3), endpoint=True)}
    assert not compare(golden.run(net, inputs), run_kernel(folder, net, inputs)).ok


# The folder as a user has it

BLOCKED = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {"numpy", "kernel", "inputs"} | set(sys.stdlib_module_names):
            raise ImportError(f"{name} is not allowed")
sys.meta_path.insert(0, Refuse())
sys.argv = ["run.py", *sys.argv[1:]]
runpy.run_path("run.py", run_name="__main__")
"""


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", "-B", "-c", BLOCKED, *arguments]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)


def test_the_folder_needs_numpy_alone(tmp_path: Path) -> None:
    """The command works where eqcompile is not installed: any import but NumPy and the standard library fails."""
    net = two_states()
    folder = compiled(net, tmp_path / "out")
    names = ["README.md", "inputs.py", "kernel.py", "manifest.json", "net.onnx", "run.py", "weights.npz"]
    assert sorted(p.name for p in folder.iterdir()) == names
    real = np.array([[0.3, -1.2, 9.0], [0.0625, 0.1875, -9.0]])
    codes = np.array([[2, -10, 31], [0, 2, -32]])  # half to even, saturated
    for name, values in (("x", real), ("codes", codes), ("codes.x", codes)):
        np.savez(tmp_path / "in.npz", **{name: values})
        done = command(folder, "-i", str(tmp_path / "in.npz"), "-o", str(tmp_path / "y.npz"), "--trace")
        assert (done.returncode, done.stderr) == (0, "")
        want = golden.run(net, {"x": codes})
        with np.load(tmp_path / "y.npz", allow_pickle=False) as y:
            assert set(y.files) == {"o", "labels", "steps", "state.h", "state.g"}
            np.testing.assert_array_equal(y["o"], want.outputs["o"])
            np.testing.assert_array_equal(y["labels"], golden.labels(want.outputs["o"]))
            np.testing.assert_array_equal(y["steps"], want.steps)
            np.testing.assert_array_equal(y["state.g"], want.states["g"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"z": np.zeros((1, 3))}, "needs 'x'"),
        ({"x": np.array([[0.0, np.nan, 1.0]])}, "1 of 3 values are NaN"),
        ({"codes": np.zeros((1, 4), np.int64)}, r"shape \(1, 4\)"),
        ({"codes": np.array([[0, 0, 32]])}, "codes 0 to 32, must be -32 to 31"),
        ({"codes": np.zeros((1, 3))}, "float64, must be integer codes"),
        ({"codes": np.zeros((0, 3), np.int64)}, r"shape \(0, 3\)"),
    ],
)
@pytest.mark.slow
def test_wrong_input_is_explained(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    """A user who gives the wrong file gets one line and exit status 2, not a traceback."""
    folder = compiled(two_states(), tmp_path / "out")
    np.savez(tmp_path / "in.npz", **given)
    done = command(folder, "-i", str(tmp_path / "in.npz"), "-o", str(tmp_path / "y.npz"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    with pytest.raises(ValueError, match=said):
        raise ValueError(done.stderr)


def test_what_the_target_refuses() -> None:
    """Every reason at once, before anything is written."""
    net = small_net([[1, 2], [-1, 1]], table=[-3, -1, 0, 2, 3], first=-2, steps=4)
    wide = replace(net, step=(*net.step[:2], replace(net.step[2], first=1 - (1 << 62))))
    assert [d.code for d in refused(NumpyTarget(), wide)] == ["numpy-width"]
    illegal = replace(net, step=(*net.step[:2], ops.Activation(out="y", x="a", kind="tanh")))
    assert [d.code for d in refused(NumpyTarget(), illegal)] == ["ir-illegal"]


def test_an_operation_of_floats_is_no_line_of_a_kernel() -> None:
    """It would be written as the name of nothing: `y = None` is a kernel that starts."""
    source = kernel._Source(two_states())
    with pytest.raises(TypeError, match="^activation is not an integer operation$"):
        source.expression(ops.Activation(out="y", x="h", kind="tanh"))


# The runner


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.slow
def test_the_runner_returns_every_state(tmp_path: Path, seed: int) -> None:
    """Through the file interface: keys, shapes and dtypes survive the way to the process and back."""
    source = random.Random(seed)
    net = random_net(source)
    inputs = random_inputs(net, source)
    folder = compiled(net, tmp_path / "out")
    found = NumpySimulator().run(unchecked(folder), inputs, trace=True, timeout_s=60.0)
    compare(golden.run(net, inputs), found).require()
    assert all(v.dtype == np.int64 for v in [*found.states.values(), *found.outputs.values()])
    assert NumpySimulator().run(unchecked(folder), inputs, trace=False, timeout_s=60.0).states == {}


def test_a_dead_kernel_is_reported(tmp_path: Path) -> None:
    """A crash names its last words; a hang ends at the limit; results that are no results are refused."""
    net = two_states()
    inputs = {"x": np.zeros((1, 3), np.int64)}
    folder = compiled(net, tmp_path / "out")
    kernel = folder / "kernel.py"
    text = kernel.read_text(encoding="utf-8")
    kernel.write_text(text + "\nraise RuntimeError('wires crossed')\n", encoding="utf-8")
    with pytest.raises(SimulatorError, match="wires crossed"):
        NumpySimulator().run(unchecked(folder), inputs, trace=True, timeout_s=60.0)
    kernel.write_text(text + "\nimport time\ntime.sleep(60)\n", encoding="utf-8")
    with pytest.raises(SimulatorError, match="no end after 1 s"):
        NumpySimulator().run(unchecked(folder), inputs, trace=True, timeout_s=1.0)
    kernel.write_text(text.replace('results["steps"] = steps', "pass"), encoding="utf-8")
    with pytest.raises(SimulatorError, match="no readable results"):
        NumpySimulator().run(unchecked(folder), inputs, trace=True, timeout_s=60.0)
