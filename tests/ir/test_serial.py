"""Nets as ONNX files: nothing is lost, the file computes what the net computes, and no other file is taken for one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from float_nets import float_net, float_nets
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray
from onnx_run import execute
from strategies import int_nets, int_runs, small_net, with_formats
from zoo_nets import NAMES, zoo_net

from eqcompile.quantization.lower import lower
from eqcompile.toolchain import golden
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.diagnostics import ArtifactError, VerifyError
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import LEGAL, Encoding, Format, Input, IntNet, Net, Output, Param, Schedule, ops, verify
from eqcompile.toolchain.ir.serial import load, save
from eqcompile.toolchain.reference import run_reference

BOUNDED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def same_in_full(first: Net, second: Net) -> bool:
    """Meaning, name, family and provenance."""
    sources = [[(p.name, p.source) for p in net.params] for net in (first, second)]
    return (
        first == second
        and (first.name, first.family) == (second.name, second.family)
        and sources[0] == sources[1]
        and str(first) == str(second)
    )


FLOAT_NETS = float_nets()


def float_inputs(net: Net, lead: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    generator = np.random.default_rng(3)
    return {
        i.name: generator.integers(0, i.rows, (*lead, *i.shape)) if i.rows else generator.normal(size=(*lead, *i.shape))
        for i in net.inputs
    }


# Round trip


@pytest.mark.slow
@BOUNDED
@given(int_nets())
def test_an_integer_net_survives(tmp_path: Path, net: IntNet) -> None:
    """A lost attribute, format or source would make a saved specification another one."""
    path = tmp_path / "net.onnx"
    save(net, path)
    loaded = load(path)
    assert isinstance(loaded, IntNet)
    assert same_in_full(loaded, net)
    assert dict(loaded.formats) == dict(net.formats)
    content = path.read_bytes()
    save(loaded, path)
    assert path.read_bytes() == content
    onnx.checker.check_model(content, full_check=True)


@pytest.mark.parametrize("name", [*FLOAT_NETS, *NAMES])
def test_a_float_net_survives_and_runs(tmp_path: Path, name: str) -> None:
    """The file must be a valid model that computes, in any ONNX runtime, what the reference computes."""
    if name in FLOAT_NETS:
        net = FLOAT_NETS[name]
        inputs = float_inputs(net, (3, 4) if net.schedule.frames else (3,))
    else:
        net, inputs = zoo_net(name)
    path = tmp_path / "net.onnx"
    save(net, path)
    assert same_in_full(load(path), net)
    onnx.checker.check_model(path.read_bytes(), full_check=True)
    want, got = run_reference(net, inputs), execute(path, inputs)
    assert got["schedule/ticks"] == want.steps[0]
    for o in net.outputs:
        np.testing.assert_allclose(got[o.name], want.outputs[o.name], rtol=1e-9, atol=1e-9)
    for s in net.states:
        np.testing.assert_allclose(got[f"final/{s.name}"], want.states[s.name], rtol=1e-9, atol=1e-9)


def test_every_float_operation_is_executed() -> None:
    """An operation that no net here uses would have a function that nothing compares."""
    used = {type(op) for net in FLOAT_NETS.values() for op in net.all_ops()}
    assert used == {op for op, levels in LEGAL.items() if "eqnet" in levels}
    for net in FLOAT_NETS.values():
        verify(net)


def test_the_stop_rule_stops(tmp_path: Path) -> None:
    """A stop rule that never fires in its test would not be tested."""
    net = FLOAT_NETS["stop"]
    path = tmp_path / "net.onnx"
    save(net, path)
    assert 5 < execute(path, float_inputs(net, (3,)))["schedule/ticks"] < net.schedule.steps


@BOUNDED
@given(int_runs())
def test_an_integer_net_runs_to_the_bit(tmp_path: Path, run: tuple[IntNet, dict[str, NDArray[np.int64]]]) -> None:
    """The executable file is only a specification if it gives golden's codes: outputs and final states."""
    net, inputs = run
    path = tmp_path / "net.onnx"
    save(net, path)
    want, got = golden.run(net, inputs), execute(path, inputs)
    for o in net.outputs:
        np.testing.assert_array_equal(got[o.name], want.outputs[o.name])
    for s in net.states:
        np.testing.assert_array_equal(got[f"final/{s.name}"], want.states[s.name][-1])


@pytest.mark.parametrize(
    "name",
    [
        "GatedMLP_archive",
        "LazyEqProp_archive_sn",
        "NeuralCube_archive_sn",
        "RecursiveBlock_archive_sn",
        "TemporalResonanceEqProp_release_sn",
        "TernaryEqProp_release_t0.13_best",
    ],
)
def test_a_family_in_integers_runs_to_the_bit(tmp_path: Path, name: str) -> None:
    """Trained networks reach widths, saturations and gates that small random ones do not."""
    net, inputs = zoo_net(name)
    lowered = lower(net, QuantizeOptions(), calibration=inputs).net
    codes, _ = encode(lowered, inputs)
    save(lowered, tmp_path / "net.onnx")
    assert same_in_full(load(tmp_path / "net.onnx"), lowered)
    want, got = golden.run(lowered, codes), execute(tmp_path / "net.onnx", codes)
    for o in lowered.outputs:
        np.testing.assert_array_equal(got[o.name], want.outputs[o.name])
    for s in lowered.states:
        np.testing.assert_array_equal(got[f"final/{s.name}"], want.states[s.name][-1])


def test_wide_codes_are_exact(tmp_path: Path) -> None:
    """Kernels that compare or add int64 in fewer bits give wrong codes only where 32 or 53 bits are exceeded."""
    generator = np.random.default_rng(5)
    for bits in (31, 32, 33, 53, 58):
        top = 1 << (bits - 1)
        net = IntNet(
            name="wide",
            family="test",
            inputs=(Input("x", (2, 3), encoding=Encoding(Format(bits, True), 1.0)),),
            params=(Param("T", np.array([-4, 0, 2, 9]), "t"), Param("b", np.array([5, -6, 7]), "t")),
            states=(),
            drive=(
                ops.Reduce(out="s", x="x", kind="sum", axes=(-1, -2), keep=False),
                ops.Reduce(out="m", x="x", kind="max", axes=(-1,), keep=True),
                ops.Reduce(out="n", x="x", kind="max", axes=(-2, -1), keep=False),
                ops.Lookup(out="l", x="x", table="T", first=-2),
                ops.Interpolate(out="i", x="x", base="b", slope="b", first=3, shift=2),
                ops.Abs(out="d", x="x"),
                ops.Reshape(out="f", x="x", shape=(6,)),
                ops.Stencil(out="t", x="f", weight="w", index="at"),
            ),
            step=(),
            readout=(),
            outputs=tuple(Output(f"o_{n}", n, "values", 1.0) for n in "smnlidt"),
            schedule=Schedule(1),
        )
        taps = (Param("w", np.array([[3, -2, 1]] * 4), "t"), Param("at", generator.integers(-1, 6, (4, 3)), "t"))
        net = with_formats(replace(net, params=(*net.params, *taps)))
        x = generator.integers(-top, top, (200, 2, 3))
        save(net, tmp_path / "net.onnx")
        want, got = golden.run(net, {"x": x}), execute(tmp_path / "net.onnx", {"x": x})
        for name, codes in want.outputs.items():
            np.testing.assert_array_equal(got[name], codes)


def test_names_that_collide(tmp_path: Path) -> None:
    """An output may bear the name of an input or a parameter, a value that of nothing in the glue."""
    net = small_net([[1, 0], [0, 1]], table=[-1, 0, 1], first=-1, steps=2)
    net = with_outputs(net, Output("x", "h", "values", 1.0), Output("W", "h", "values", 1.0))
    path = tmp_path / "net.onnx"
    save(net, path)
    assert same_in_full(load(path), net)
    got = execute(path, {"x": np.array([[1, -1]])})
    np.testing.assert_array_equal(got["output/x"], got["final/h"])


def with_outputs(net: IntNet, *outputs: Output) -> IntNet:
    return replace(net, outputs=outputs)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    save(small_net([[1, 2], [-1, 1]], table=[-3, -1, 0, 2, 3], first=-2, steps=4), path)
    return path


# Writing


def test_a_failed_save_changes_nothing(saved: Path) -> None:
    """A net that is wrong, or a path that cannot be written, must leave the old file and no temporary one."""
    before = saved.read_bytes()
    net = load(saved)
    wrong = replace(net, params=(Param("W", np.zeros((3, 3)), "test"), *net.params[1:]))
    with pytest.raises(VerifyError):
        save(wrong, saved)
    with pytest.raises(ArtifactError, match="cannot write"):
        save(net, saved.parent / "absent" / "net.onnx")
    (saved.parent / "folder").mkdir()
    with pytest.raises(ArtifactError, match="cannot write"):
        save(net, saved.parent / "folder")
    assert saved.read_bytes() == before
    assert sorted(path.name for path in saved.parent.iterdir()) == ["folder", "net.onnx"]


def test_onnx_is_imported_late() -> None:
    """The command line starts without paying for ONNX."""
    code = "import sys, eqcompile.toolchain.ir.serial; sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_floats_are_exact(tmp_path: Path) -> None:
    """ONNX attributes have single precision; a factor must come back to the last bit."""
    net = float_net((ops.Scale(out="y", x="x", factor=0.1 + 1e-16),), {}, shape=(2,))
    save(net, tmp_path / "net.onnx")
    loaded = load(tmp_path / "net.onnx")
    assert isinstance(loaded.step[0], ops.Scale)
    assert loaded.step[0].factor == 0.1 + 1e-16
    assert loaded.step[0].factor != np.float32(0.1)
