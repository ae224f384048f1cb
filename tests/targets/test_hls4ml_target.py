"""The target `hls4ml`: what g++, hls4ml's compile() and a Tcl interpreter make of the emitted project."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from emitting import emitted, refused, unchecked
from hls_bench import FLAGS, bench, compiled, headers
from numpy.typing import NDArray
from strategies import random_inputs, random_net, small_net, with_formats

from eqcompile.quantization.lower import lower
from eqcompile.sim.simulators import Hls4mlSimulator
from eqcompile.targets.hls4ml import maps, target
from eqcompile.targets.hls4ml.stock import Unrolled
from eqcompile.targets.hls4ml.target import Hls4mlTarget
from eqcompile.toolchain import golden
from eqcompile.toolchain.artifact import Artifact, manifest_of
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.diagnostics import MissingToolError, SimulatorError, UsageError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import Format, IntNet, Param, Schedule, ops

# One worker builds what all tests here share.
pytestmark = pytest.mark.xdist_group("hls4ml_target")

pytest.importorskip("hls4ml")

CHECKPOINTS = Path(__file__).parents[2] / "examples" / "checkpoints"
VENDOR = Path(__file__).parents[1] / "data" / "hls" / "vendor.tcl"
Codes = Mapping[str, NDArray[np.int64]]


def digits(name: str) -> IntNet:
    net = import_model(CHECKPOINTS / f"digits_{name}.pt").net
    return lower(net, QuantizeOptions(input_range=(0.0, 1.0)), calibration=None).net


def small() -> IntNet:
    """A loop with weights beyond signs whose table saturates, in four ticks."""
    return small_net([[1, -2, 0], [3, 1, -1], [0, 2, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=4)


def of_signs() -> IntNet:
    """A loop of signs, as many inputs as several turns need."""
    weight = np.random.default_rng(5).integers(-1, 1, (12, 12), endpoint=True)
    return small_net(weight.tolist(), table=list(range(-60, 61)), first=-60, steps=5)


def uniform(net: IntNet, seed: int, batch: int = 3) -> Codes:
    return random_inputs(net, random.Random(seed), batch=batch)


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hls4ml")
    return headers(compiled(small(), folder / "project"), folder)


# Equality


@pytest.mark.simulator
@pytest.mark.parametrize("name", ["looped", "ternary", "lazy", "cube"])
def test_the_bench_of_each_digits_net_agrees_with_golden(tmp_path: Path, common: Path, name: str) -> None:
    """Every output, tick count and state of every tick, at both ends of the input and between."""
    project = compiled(digits(name), tmp_path / "p")
    done = bench(project, common)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^8 samples, \d{5} codes compared, 0 differ$", done.stdout, re.M)


@pytest.mark.simulator
@pytest.mark.parametrize("seed", [0, 3, 5, 9])
def test_random_nets_agree_with_golden(tmp_path: Path, common: Path, seed: int) -> None:
    """Operations that the trained nets do not have: convolution, products, tables with lines, division, nesting."""
    source = random.Random(seed)
    net = random_net(source, frames=False)
    done = bench(compiled(net, tmp_path / "p", reuse=source.choice([1, 2, 3, 8])), common)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.simulator
def test_compile_of_hls4ml_agrees_with_golden(tmp_path: Path) -> None:
    """The project through hls4ml itself, on codes that are not its vectors."""
    net = digits("ternary")
    inputs = uniform(net, 1)
    found = Hls4mlSimulator().run(unchecked(compiled(net, tmp_path / "p")), inputs, trace=True, timeout_s=300.0)
    compare(golden.run(net, inputs), found).require()


@pytest.mark.simulator
def test_stock_layers_agree_with_golden(tmp_path: Path) -> None:
    """The baseline is exact too: rounding, saturation, a stencil as a matrix, a multiplier that is no power of two."""
    net = digits("cube")
    short = replace(net, schedule=Schedule(2))
    inputs = uniform(short, 1)
    project = compiled(short, tmp_path / "p", unroll=2)
    top = (project / "firmware" / "relaxation.cpp").read_text(encoding="utf-8")
    assert "eq_relax" not in top
    assert top.count("nnet::dense") == 1 + 1 + 1
    found = Hls4mlSimulator().run(unchecked(project), inputs, trace=True, timeout_s=300.0)
    compare(golden.run(short, inputs), found).require()


def test_a_sum_with_nothing_still_saturates() -> None:
    """Before the first tick the state is zero: what is left of `W h + x` is a layer that has the table's domain."""
    layers = Unrolled(small()).layers
    (cast,) = (layer for layer in layers if layer["class_name"] == "Activation" and layer["activation"] == "linear")
    assert (cast["n_in"], cast["inputs"]) == (3, [layers[0]["name"]])


# Reuse and widths


@pytest.mark.simulator
def test_reuse_changes_the_circuit_and_no_bit(tmp_path: Path, common: Path) -> None:
    """A reuse that only reached a comment would leave all multipliers in place."""
    net = of_signs()
    seen = {}
    for reuse, lanes in ((1, 144), (4, 36), (36, 4), (1000, 1)):
        project = compiled(net, tmp_path / str(reuse), reuse=reuse)
        found = Hls4mlTarget(reuse=reuse)
        assert found.reuse == reuse
        text = (project / "firmware" / "parameters.h").read_text(encoding="utf-8")
        turns = [int(n) for n in re.findall(r"turns_(?:in|out) = (\d+);", text)]
        assert 144 // (turns[0] * turns[1]) == lanes
        weights = next((project / "firmware" / "weights").glob("w_W*.txt")).read_text(encoding="utf-8")
        seen[text + weights] = reuse
        done = bench(project, common)
        assert done.returncode == 0, done.stdout
    assert len(seen) == 4


def test_turns_divide_a_map_evenly() -> None:
    """A turn that reads beyond the weights, or leaves some out, would be a wrong sum."""
    weight = np.arange(6 * 10).reshape(6, 10)
    for reuse in range(1, 70):
        found = maps.turns(6, 10, reuse)
        assert found.reuse <= reuse
        assert found.lanes * found.reuse == 60
        order = maps.ordered(weight, found).reshape(found.outputs, found.inputs, 6 // found.outputs, -1)
        assert np.array_equal(np.sort(order.reshape(-1)), np.arange(60))
        assert np.array_equal(order[-1, -1, -1], weight[-1, -(10 // found.inputs) :])


def test_widths_are_those_of_the_net(tmp_path: Path) -> None:
    """Two bits for a sign, the proved format for every value: a wider word would be hardware for nothing."""
    net = digits("ternary")
    project = compiled(net, tmp_path / "p")
    types = (project / "firmware" / "defines.h").read_text(encoding="utf-8")
    assert "typedef ap_int<2> w_W_rec_ternary_t;" in types
    assert "typedef ap_uint<8> input_t;" in types
    text = (project / "firmware" / "parameters.h").read_text(encoding="utf-8")
    for name in ("recurrent_linear", "drive", "new", "h"):
        assert f"ap_int<{net.formats[name].bits}> v_{name}[96];" in text
    assert text.count("typedef eq::ternary product;") == 3
    weights = project / "firmware" / "weights"
    for path in weights.glob("*.txt"):
        assert f"{{{path.read_text(encoding='utf-8')}}};" in path.with_suffix(".h").read_text(encoding="utf-8")


# Faults


MUTANTS = {
    "ties down": ("firmware/nnet_utils/eq_ops.h", "1LL << (SHIFT == 0 ? 0 : SHIFT - 1)", "(1LL << (SHIFT - 1)) - 1"),
    "width of a sum": (
        "firmware/parameters.h",
        "ap_int<12> v_recurrent_linear[96]",
        "ap_int<8> v_recurrent_linear[96]",
    ),
    "order of the weights": ("firmware/nnet_utils/eq_ops.h", "(group * CONFIG_T::turns_in + turn) * lanes", "0"),
    "settles early": ("firmware/parameters.h", "moved |= now != old;", "moved |= now > old;"),
    "never settles": ("firmware/parameters.h", "if (!moved) {", "if (false) {"),
    "domain of the table": ("firmware/nnet_utils/eq_ops.h", "at >= size ? WIDE(size - 1)", "at >= size ? WIDE(0)"),
    "a sign": ("firmware/nnet_utils/eq_ops.h", "w < 0 ? Y(-x) : Y(x)", "w < 0 ? Y(x) : Y(x)"),
}


@pytest.mark.simulator
def test_mutants_of_the_template_are_caught(tmp_path: Path, common: Path) -> None:
    """Vectors that pass a wrong circuit prove nothing about a right one."""
    project = compiled(digits("ternary"), tmp_path / "p")
    survivors = []
    for name, (file, old, new) in MUTANTS.items():
        path = project / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, name
        path.write_text(text.replace(old, new), encoding="utf-8")
        done = bench(project, common)
        assert "codes compared" in done.stdout, name
        if done.returncode == 0:
            survivors.append(name)
        path.write_text(text, encoding="utf-8")
    assert survivors == []


# The scripts of the vendor tools


def tclsh(project: Path, *arguments: str, flags: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "BENCH_FLAGS": flags}
    argv = ["tclsh", str(VENDOR), *arguments]
    return subprocess.run(argv, cwd=project, env=env, capture_output=True, text=True, check=False)


@pytest.mark.simulator
@pytest.mark.skipif(shutil.which("tclsh") is None, reason="no tclsh")
def test_the_build_script_runs_to_its_end(tmp_path: Path, common: Path) -> None:
    """Every command known, every file there, both simulations pass and agree; a wrong vector stops the build."""
    project = compiled(small(), tmp_path / "p")
    flags = " ".join([*FLAGS[1:], "-include", str(common)]).replace('"', '\\"')
    done = tclsh(project, "build_prj.tcl", flags=flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "INFO: Test PASSED" in done.stdout
    assert {"csim_design", "csynth_design", "cosim_design"} <= set(done.stdout.split("calls:")[1].split())
    done = tclsh(project, "vivado_synth.tcl")
    assert (done.returncode, done.stdout.split("calls:")[1].split()[0]) == (0, "synth_design"), done.stderr
    vectors = project / "tb_data" / "tb_output_predictions.dat"
    vectors.write_text(vectors.read_text(encoding="utf-8").replace("\n", " 0\n", 1), encoding="utf-8")
    assert tclsh(project, "build_prj.tcl", flags=flags).returncode != 0


@pytest.mark.simulator
@pytest.mark.skipif(shutil.which("tclsh") is None, reason="no tclsh")
def test_the_script_for_vivado_and_a_missing_file(tmp_path: Path) -> None:
    """Backend and part reach the scripts; the check of file names is one that can fail."""
    project = compiled(small(), tmp_path / "p", backend="Vivado", part="xc7z020clg400-1")
    settings = (project / "project.tcl").read_text(encoding="utf-8")
    assert 'set part "xc7z020clg400-1"' in settings
    assert 'set backend "vivado"' in settings
    quick = ("build_prj.tcl", "csim=0", "cosim=0", "validation=0")
    done = tclsh(project, *quick)
    assert done.returncode == 0, done.stdout + done.stderr
    (project / "firmware" / "relaxation.cpp").unlink()
    assert "no file firmware/relaxation.cpp" in tclsh(project, *quick).stderr


# Refusals and absent tools


def test_what_the_target_refuses() -> None:
    """All reasons at once, each with the node it is about."""
    net = small()
    framed = replace(net, schedule=Schedule(4, frames=True))
    large = tuple(Param("W", np.array([[1 << 54, 0, 0]] * 3), "t") if p.name == "W" else p for p in net.params)
    wide = replace(framed, params=large, formats={n: f for n, f in net.formats.items() if n in ("h", "x")})
    found = refused(Hls4mlTarget(), with_formats(wide))
    assert [(d.code, d.where) for d in found] == [("hls-frames", net.name), ("hls-width", "W")]
    gated = digits("lazy")
    found = refused(Hls4mlTarget(unroll=8), gated)
    assert {d.code for d in found} == {"hls-unroll"}
    named = {d.where for d in found}
    assert {gated.name, "activity0", "active1", "damped2", "next0"} <= named
    assert "recurrent" not in named
    for options in ({"reuse": 0}, {"part": "a b"}, {"unroll": -1}, {"backend": "Quartus"}):
        with pytest.raises(UsageError):
            Hls4mlTarget(**options)  # type: ignore[arg-type]


def test_absent_tools_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without hls4ml no project can be written, without g++ none can be run: said, with what to install."""
    net = small()
    monkeypatch.setattr(target, "find_spec", lambda name: None)
    assert "hls4ml" in Hls4mlTarget().missing()
    with pytest.raises(MissingToolError, match="hls4ml is not installed"):
        emitted(Hls4mlTarget(), net, tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "g++" in Hls4mlTarget().missing()
    artifact = Artifact(tmp_path, net, manifest_of(net, target="hls4ml", options={}, details={}))
    with pytest.raises(MissingToolError, match="g\\+\\+"):
        Hls4mlSimulator().run(artifact, uniform(net, 1), trace=True, timeout_s=1.0)


@pytest.mark.simulator
def test_hostile_codes_and_unlike_weights_are_refused(tmp_path: Path) -> None:
    """A code outside of its format would void every width; other weights for synthesis would void the comparison."""
    net = replace(small(), formats={"h": Format(8, True)})
    assert net.inputs[0].encoding is not None
    narrow = replace(net.inputs[0].encoding, format=Format(4, True))
    net = with_formats(replace(net, inputs=(replace(net.inputs[0], encoding=narrow),)))
    project = compiled(net, tmp_path / "p")
    with pytest.raises(SimulatorError, match="must be -8 to 7"):
        Hls4mlSimulator().run(unchecked(project), {"x": np.array([[0, 0, 9]])}, trace=True, timeout_s=60.0)
    weights = next((project / "firmware" / "weights").glob("w_W*.h"))
    weights.write_text(weights.read_text(encoding="utf-8").replace("= {1", "= {0"), encoding="utf-8")
    with pytest.raises(SimulatorError, match="other weights: w_W"):
        Hls4mlSimulator().run(unchecked(project), {"x": np.array([[0, 0, 1]])}, trace=True, timeout_s=60.0)


@pytest.mark.slow
def test_no_word_of_the_net_reaches_the_language(tmp_path: Path) -> None:
    """Values may be called as C++, hls4ml or the template call theirs, and beyond ASCII."""
    net = small_net([[1, -1], [0, 1]], table=[-3, -1, 0, 2, 3], first=-2, steps=4)
    add, lookup = net.step[1], net.step[2]
    assert isinstance(add, ops.Add)
    assert isinstance(lookup, ops.Lookup)
    step = (replace(net.step[0], out="tick"), replace(add, out="int", a="tick"), replace(lookup, out="ü", x="int"))
    states = (replace(net.states[0], update="ü"),)
    formats = {n: f for n, f in net.formats.items() if n in ("h", "x")}
    renamed = with_formats(replace(net, step=step, states=states, formats=formats))
    project = compiled(renamed, tmp_path / "p")
    argv = ["g++", *FLAGS, "-fsyntax-only", "firmware/relaxation.cpp"]
    done = subprocess.run(argv, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
