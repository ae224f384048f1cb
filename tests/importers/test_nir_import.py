"""NIR graphs of rates and leaky integrators as EqNets, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
from numpy.typing import NDArray

from eqcompile.quantization.lower import lower
from eqcompile.toolchain.diagnostics import EqcompileError, ImportFileError, UnsupportedError, UsageError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.reference import run_reference

Array = NDArray[np.float64]
GENERATOR = np.random.default_rng(3)
W, U, B = (0.3 * GENERATOR.standard_normal(s) for s in ((3, 3), (3, 2), (3,)))
V = GENERATOR.standard_normal((2, 3))
X = GENERATOR.standard_normal((4, 2))


def written(path: Path, nodes: Mapping[str, Any], edges: list[tuple[str, str]], **metadata: Any) -> Path:
    graph = nir.NIRGraph(nodes=dict(nodes), edges=edges, metadata=metadata, type_check=False)
    nir.write(path, graph)
    return path


def looped(neuron: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """`neuron` fed by an affine map of the input and by its own output, read by a linear map."""
    nodes = {
        "input": nir.Input(np.array([2])),
        "drive": nir.Affine(U, B),
        "rec": nir.Linear(W),
        "cell": neuron,
        "head": nir.Linear(V),
        "output": nir.Output(np.array([2])),
    }
    chain = [("input", "drive"), ("drive", "cell"), ("cell", "rec"), ("rec", "cell"), ("cell", "head")]
    return nodes, [*chain, ("head", "output")]


def relaxed(path: Path, **settings: Any) -> Array:
    net = import_model(path, settings={"outputs": "values", **settings}).net
    found: Array = run_reference(net, {net.inputs[0].name: X}).outputs[net.outputs[0].name]
    return found


ONES = np.ones(3)
TAU = np.array([0.5, 1.0, 2.0])
LEAK = np.array([0.1, 0.0, -0.3])


@pytest.mark.parametrize("tau", [ONES, TAU])
def test_a_leaky_loop_is_forward_euler(tmp_path: Path, tau: Array) -> None:
    """`tau v' = v_leak - v + r I` with recurrent weights, one time constant or several."""
    path = written(tmp_path / "x.nir", *looped(nir.LI(tau=tau, r=2 * ONES, v_leak=LEAK)))
    v = np.zeros((4, 3))
    for _ in range(20):
        v = v + 0.125 / tau * (LEAK - v + 2 * (X @ U.T + B + v @ W.T))
    np.testing.assert_allclose(relaxed(path, steps=20, dt=0.125), v @ V.T, atol=1e-12)


def test_an_integrator_and_a_current_based_cell(tmp_path: Path) -> None:
    """`v' = r I`, and the two equations of CubaLI, each from the values before the tick."""
    path = written(tmp_path / "i.nir", *looped(nir.I(r=3 * ONES)))
    v = np.zeros((4, 3))
    for _ in range(7):
        v = v + 0.125 * 3 * (X @ U.T + B + v @ W.T)
    np.testing.assert_allclose(relaxed(path, steps=7, dt=0.125), v @ V.T, atol=1e-12)
    cell = nir.CubaLI(tau_syn=TAU, tau_mem=2 * ONES, r=ONES, v_leak=LEAK, w_in=0.5 * ONES)
    path = written(tmp_path / "c.nir", *looped(cell))
    v, i = np.zeros((4, 3)), np.zeros((4, 3))
    for _ in range(9):
        s = X @ U.T + B + v @ W.T
        v, i = v + 0.125 / 2 * (LEAK - v + i), i + 0.125 / TAU * (-i + 0.5 * s)
    np.testing.assert_allclose(relaxed(path, steps=9, dt=0.125), v @ V.T, atol=1e-12)


def test_delay_threshold_scale_and_convolution(tmp_path: Path) -> None:
    """A delay of two ticks is two registers; what has no memory is the map that NIR defines."""
    nodes = {
        "input": nir.Input(np.array([1, 4, 4])),
        "conv": nir.Conv2d((4, 4), 1.0 + np.arange(9.0).reshape(1, 1, 3, 3), 1, 0, 1, 1, np.array([2.0])),
        "flat": nir.Flatten({"input": np.array([1, 2, 2])}, start_dim=0, end_dim=-1),
        "scale": nir.Scale(np.array([1.0, -1.0, 2.0, 0.5])),
        "step": nir.Threshold(np.array([0.0, 0.0, 0.0, 47.0])),
        "late": nir.Delay(np.full(4, 0.5)),
        "output": nir.Output(np.array([4])),
    }
    names = list(nodes)
    path = written(tmp_path / "x.nir", nodes, list(zip(names[:-1], names[1:], strict=True)), steps=2, dt=0.25)
    done = import_model(path)
    assert dict(done.given) == {"steps": 2, "dt": 0.25}
    x = np.ones((1, 1, 4, 4))
    for steps, want in ((1, [0.0] * 4), (2, [1.0, 0.0, 1.0, 0.0])):
        net = import_model(path, settings={"steps": steps}).net
        assert run_reference(net, {"input": x}).outputs["output"][0].tolist() == want


def test_an_imported_net_is_compiled(tmp_path: Path) -> None:
    """What is read goes the way of every other net: to integers, close to the float reference."""
    path = written(tmp_path / "x.nir", *looped(nir.LI(tau=ONES, r=ONES, v_leak=0 * ONES)), steps=20, dt=0.25)
    net = import_model(path).net
    inputs = {net.inputs[0].name: X}
    lowered = lower(net, QuantizeOptions(), calibration=inputs).net
    from eqcompile.toolchain.data import encode

    codes, _ = encode(lowered, inputs)
    got = run_golden(lowered, codes)
    real = got.outputs[net.outputs[0].name] * lowered.outputs[0].scale
    want = run_reference(net, inputs).outputs[net.outputs[0].name]
    assert np.abs(real - want).max() < 0.05 * np.abs(want).max()


def codes_of(error: EqcompileError) -> list[str]:
    return [d.code for d in error.diagnostics]


def test_spiking_nodes_are_named(tmp_path: Path) -> None:
    """Each spiking neuron and each node that is not read, all at once."""
    nodes, edges = looped(nir.LIF(tau=ONES, r=ONES, v_leak=0 * ONES, v_threshold=ONES))
    nodes["other"] = nir.IF(r=ONES, v_threshold=ONES)
    nodes["pool"] = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    path = written(tmp_path / "x.nir", nodes, edges)
    with pytest.raises(UnsupportedError) as raised:
        import_model(path, settings={"steps": 3})
    assert sorted(codes_of(raised.value)) == ["nir-node", "nir-spiking", "nir-spiking"]
    assert all(f"'{name}'" in str(raised.value) for name in ("cell", "other", "pool"))


def test_loops_steps_and_delays_that_cannot_be(tmp_path: Path) -> None:
    """A loop without memory, a step above a time constant, a delay between two ticks, no number of steps."""
    path = written(tmp_path / "a.nir", *looped(nir.Scale(ONES)))
    with pytest.raises(UnsupportedError, match="nir-loop"):
        import_model(path, settings={"steps": 3})
    path = written(tmp_path / "b.nir", *looped(nir.LI(tau=TAU, r=ONES, v_leak=ONES)))
    with pytest.raises(UnsupportedError, match="nir-step"):
        import_model(path, settings={"steps": 3, "dt": 0.6})
    path = written(tmp_path / "c.nir", *looped(nir.Delay(0.7 * ONES)))
    with pytest.raises(UnsupportedError, match="nir-delay"):
        import_model(path, settings={"steps": 3, "dt": 0.5})
    with pytest.raises(UsageError, match="needs steps"):
        import_model(path)
    with pytest.raises(UsageError, match="family-mismatch"):
        import_model(path, family="models.LoopedMLP")


def test_damaged_files_are_refused_cleanly(tmp_path: Path) -> None:
    """Cut anywhere, or with any byte changed: a net or a clean error, never a traceback."""
    path = written(tmp_path / "x.nir", *looped(nir.LI(tau=ONES, r=ONES, v_leak=ONES)), steps=3, dt=0.5)
    whole = path.read_bytes()
    source = np.random.default_rng(0)
    refused = 0
    for at in source.integers(16, len(whole), 60):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << int(source.integers(8))
        for content in (whole[:at], bytes(flipped)):
            path.write_bytes(content)
            try:
                import_model(path)
            except EqcompileError:
                refused += 1
    assert refused >= 60


@pytest.mark.parametrize("kind", ["external", "soft", "elsewhere"])
def test_nothing_outside_the_file_is_opened(tmp_path: Path, kind: str) -> None:
    """Links and data in other files would read what the user did not name."""
    path = written(tmp_path / "x.nir", *looped(nir.LI(tau=ONES, r=ONES, v_leak=ONES)), steps=3, dt=0.5)
    secret = tmp_path / "secret"
    secret.write_bytes(np.arange(3.0).tobytes())
    with h5py.File(path, "r+") as file:
        group = file["node/nodes/cell"]
        del group["tau"]
        if kind == "external":
            group["tau"] = h5py.ExternalLink(str(secret), "/tau")
        elif kind == "soft":
            group["tau"] = h5py.SoftLink("/node/nodes/cell/r")
        else:
            group.create_dataset("tau", (3,), "f8", external=[(str(secret), 0, 24)])
    with pytest.raises(ImportFileError, match="nir-link"):
        import_model(path)


def test_other_hdf5_files_and_bombs(tmp_path: Path) -> None:
    """An HDF5 file that holds no graph, one that claims to unpack to far more than it has, and NaN weights."""
    with h5py.File(tmp_path / "a.nir", "w") as file:
        file["weights"] = np.ones(3)
    with pytest.raises(ImportFileError, match="no NIR graph"):
        import_model(tmp_path / "a.nir")
    path = written(tmp_path / "b.nir", *looped(nir.LI(tau=ONES, r=ONES, v_leak=ONES)))
    with h5py.File(path, "r+") as file:
        file["node/nodes"].create_dataset("bomb", (1 << 40,), "f8", chunks=(1 << 16,), compression="gzip")
    with pytest.raises(ImportFileError, match="archive-bomb"):
        import_model(path)
    path = written(tmp_path / "c.nir", *looped(nir.LI(tau=ONES, r=np.nan * ONES, v_leak=ONES)))
    with pytest.raises(ImportFileError, match="tensor-not-finite"):
        import_model(path, settings={"steps": 3, "dt": 0.5})


def test_a_node_of_step_and_readout_stores_its_weights_once(tmp_path: Path) -> None:
    """The map that feeds the cell back and is read out too was two parameters, twice the memory of the artifact."""
    nodes, edges = looped(nir.LI(tau=ONES, r=ONES, v_leak=LEAK))
    edges = [*edges[:-2], ("rec", "head"), edges[-1]]
    path = written(tmp_path / "x.nir", nodes, edges)
    net = import_model(path, settings={"steps": 2, "dt": 0.5}).net
    assert sum(np.array_equal(p.value, W) for p in net.params) == 1
    v = np.zeros((4, 3))
    for _ in range(2):
        v = v + 0.5 * (LEAK - v + X @ U.T + B + v @ W.T)
    np.testing.assert_allclose(relaxed(path, steps=2, dt=0.5), v @ W.T @ V.T, atol=1e-12)


def test_an_unknown_kind_of_outputs_is_a_usage_error(tmp_path: Path) -> None:
    """A wrong --set is exit code 2 for every kind of file; a NIR graph said that its file was bad."""
    path = written(tmp_path / "x.nir", *looped(nir.LI(tau=ONES, r=ONES, v_leak=ONES)))
    with pytest.raises(UsageError, match="outputs is 'labels', must be classes or values"):
        import_model(path, settings={"steps": 2, "dt": 0.5, "outputs": "labels"})
