"""The nir target: graphs of affine maps, thresholds and delays that hold an IntNet without loss."""

from __future__ import annotations

import importlib.util
import json
import random
import re
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import nir
import numpy as np
import pytest
from emitting import emitted, refused
from hypothesis import HealthCheck, assume, given, settings
from numpy.typing import NDArray
from strategies import EXTRAS, int_runs, random_inputs, random_net, small_net, with_formats
from zoo_nets import zoo_net

from eqcompile.quantization.lower import lower
from eqcompile.targets.nir.lower import lower as lower_nir
from eqcompile.targets.nir.target import NirPlan, NirTarget
from eqcompile.toolchain import golden
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions, Run
from eqcompile.toolchain.ir import IntNet, Output, ops
from eqcompile.toolchain.reference import run_reference

Codes = dict[str, NDArray[np.int64]]
HELD = tuple(e for e in EXTRAS if e not in ("divide", "isqrt"))


def evaluator(folder: Path) -> ModuleType:
    """The emitted `run.py`, in this process."""
    spec = importlib.util.spec_from_file_location("emitted_nir", folder / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_folder(folder: Path, net: IntNet, inputs: Codes, change: Callable[[Any], None] | None = None) -> Run:
    """The artifact evaluated, after `change` of its graph."""
    module = evaluator(folder)
    graph = nir.read(folder / "net.nir")
    if change:
        change(graph)
    host = json.loads((folder / "net.json").read_text(encoding="utf-8"))
    codes = inputs if net.schedule.frames else {n: x[:, None] for n, x in inputs.items()}
    found = module.relax(module.Graph(graph), host, codes, trace=True)
    states = {s.name: found[f"state.{s.name}"] for s in net.states}
    return Run(states=states, outputs={o.name: found[o.name] for o in net.outputs}, steps=found["steps"])


@pytest.mark.slow
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(int_runs(extras=HELD, max_states=1, max_steps=4))
def test_every_state_of_every_step_is_golden(tmp_path: Path, run: tuple[IntNet, Codes]) -> None:
    """A bit that is found wrong, a step at the wrong place, or a state that starts or latches at the wrong tick."""
    net, inputs = run
    assume(refused(NirTarget(), net) == [])
    emitted(NirTarget(), net, tmp_path)
    compare(golden.run(net, inputs), run_folder(tmp_path, net, inputs)).require()


def test_a_size_is_golden(tmp_path: Path) -> None:
    """A graph without an absolute value, whose parts have another sign: of both signs, and of 0."""
    net = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=list(range(-20, 21)), first=-20, steps=4)
    step = tuple(replace(op, x="size") if isinstance(op, ops.Lookup) else op for op in net.step)
    net = with_formats(replace(net, step=(*step[:-1], ops.Abs(out="size", x="a"), step[-1])))
    codes = {"x": np.array([[3, -4, 0], [-1, 0, 7]])}
    emitted(NirTarget(), net, tmp_path)
    compare(golden.run(net, codes), run_folder(tmp_path, net, codes)).require()


@pytest.mark.slow
def test_most_random_nets_are_held() -> None:
    """The property above compares something: each operation that is written occurs in a net that is taken."""
    taken: set[str] = set()
    for seed in range(150):
        net = random_net(random.Random(seed), extras=HELD)
        if not lower_nir(net)[1]:
            taken |= {op.mnemonic for op in net.all_ops()}
    assert taken >= {"linear", "stencil", "conv", "add", "sub", "mul", "abs", "greater", "select", "reduce", "reshape"}
    assert taken >= {"repeat", "rescale", "lookup", "interpolate", "damp_fixed"}


@pytest.mark.parametrize("name", ["LoopedMLP_release_sn", "TernaryEqProp_release_t0.13_best", "LazyEqProp_release_sn"])
def test_trained_families_are_held(name: str) -> None:
    """Tables of 8 bits, dampings, gates and saturations of real nets."""
    net, inputs = zoo_net(name)
    assert refused(NirTarget(), lower(net, QuantizeOptions(), calibration=inputs).net) == []


def test_the_graph_is_of_the_package(tmp_path: Path) -> None:
    """The `nir` package reads the file with its own type check, to the same nodes and edges."""
    net = small_net([[1, -1], [1, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6, init=[3, -4])
    emitted(NirTarget(), net, tmp_path)
    read, (made, _) = nir.read(tmp_path / "net.nir"), lower_nir(net)
    assert sorted(read.edges) == sorted(made.edges)
    assert {n: type(x).__name__ for n, x in read.nodes.items()} == {n: type(x).__name__ for n, x in made.nodes.items()}
    for name, node in made.nodes.items():
        for key in {"weight", "bias", "scale", "threshold", "delay"} & set(vars(node)):
            np.testing.assert_array_equal(getattr(read.nodes[name], key), getattr(node, key))


def test_the_readme_says_what_each_node_of_the_host_carries(tmp_path: Path) -> None:
    """A host that does not know how `x` becomes codes feeds real numbers."""
    net = small_net([[1, -1], [1, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
    emitted(NirTarget(), net, tmp_path)
    rows = re.findall(r"^- `([a-z]+-\w+)`: codes", (tmp_path / "README.md").read_text(), re.MULTILINE)
    assert rows == ["input-x", "state-h", "output-o"]


def shift_a_step(graph: Any) -> None:
    next(n for n in graph.nodes.values() if isinstance(n, nir.Threshold)).threshold += 1.0


def drop_an_edge(graph: Any) -> None:
    graph.edges.remove(next(e for e in graph.edges if "step" in e[0]))


def start_elsewhere(graph: Any) -> None:
    graph.nodes["param-h0-bias"].weight[0, 0] -= 7.0


@pytest.mark.parametrize("change", [shift_a_step, drop_an_edge, start_elsewhere])
def test_a_changed_graph_is_caught(tmp_path: Path, change: Callable[[Any], None]) -> None:
    """The comparison must be able to fail."""
    net = small_net([[1, -1], [1, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6, init=[3, -4])
    inputs = {"x": np.array([[1, 0], [-2, 2], [0, 1], [-3, -3]])}
    emitted(NirTarget(), net, tmp_path)
    want = golden.run(net, inputs)
    compare(want, run_folder(tmp_path, net, inputs)).require()
    assert not compare(want, run_folder(tmp_path, net, inputs, change)).ok


def test_what_is_not_held_is_named() -> None:
    """Every operation without an exact form, and a table with too many steps, each by its name."""
    faults = []
    for seed in range(60):
        net = random_net(random.Random(seed), spaces=("tokens",))
        found = refused(NirTarget(), net)
        named = {op.out for op in net.all_ops() if isinstance(op, (ops.MatMul, ops.Divide, ops.Embedding))}
        assert named <= {d.where for d in found}
        faults += list(found)
    assert {"matmul", "divide", "embedding"} <= {d.what.split()[0] for d in faults}
    long = small_net([[1]], table=[k % 2 for k in range(1100)], first=-550, steps=2)
    assert [d.where for d in refused(NirTarget(), long)] == ["y"]


def test_a_broadcast_that_fills_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix that spreads a value is written like any other: its size must be asked before it is made."""
    net = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-3, -1, 0, 2, 3], first=-2, steps=2)
    readout = (ops.Reshape(out="column", x="h", shape=(3, 1)), ops.Add(out="outer", a="column", b="x"))
    net = with_formats(replace(net, readout=readout, outputs=(*net.outputs, Output("p", "outer", "values", 1.0))))
    assert refused(NirTarget(), net) == []
    monkeypatch.setattr("eqcompile.targets.nir.lower.MAX_MATRIX", 20)
    assert [(d.where, "9 x 3 entries, at most 20" in d.what) for d in refused(NirTarget(), net)] == [("outer", True)]


@pytest.mark.slow
def test_what_is_written_is_imported_to_the_same_results(tmp_path: Path) -> None:
    """IntNet, NIR file, EqNet: the float64 reference of what was read gives golden's codes."""
    compared = 0
    for seed in range(12):
        source = random.Random(seed)
        net = random_net(source, extras=HELD, frames=False, tolerance=0, max_states=1)
        if lower_nir(net)[1]:
            continue
        folder = tmp_path / str(seed)
        folder.mkdir()
        emitted(NirTarget(), net, folder)
        inputs = random_inputs(net, source)
        again = import_model(folder / "net.nir", settings={"outputs": "values"})
        assert again.given["steps"] == net.schedule.steps
        found = run_reference(again.net, {n: x.reshape(len(x), -1) for n, x in inputs.items()})
        for name, codes in golden.run(net, inputs).outputs.items():
            np.testing.assert_array_equal(found.outputs[name], codes.reshape(len(codes), -1))
        compared += 1
    assert compared >= 4


def peak_bytes(script: ModuleType, samples: int, steps: int, *, trace: bool = False) -> int:
    """Most memory that a run takes at once."""
    net = json.loads((script.HERE / "net.json").read_text(encoding="utf-8")) | {"steps": steps}
    # Codes that never settle, so that every step is made.
    codes = {"x": np.ones((samples, 1, *net["inputs"]["x"][0]), np.int64)}
    tracemalloc.start()
    script.run(net | {"tolerance": -1}, codes, trace=trace)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_writing_copies_no_matrix(tmp_path: Path) -> None:
    """Would break if the nodes' arrays were plain: the package's writer makes two deep copies of all that it writes."""
    weights = np.random.default_rng(0).integers(-1, 2, (256, 256))
    plan = NirTarget().plan(small_net(weights.tolist(), table=[-90, -40, 0, 30, 80], first=-2, steps=6))
    assert isinstance(plan, NirPlan)
    tracemalloc.start()
    plan.emit(tmp_path, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * 8 * weights.size
    stored = [n.weight for n in nir.read(tmp_path / "net.nir").nodes.values() if isinstance(n, nir.Linear)]
    assert any(np.array_equal(w, weights) for w in stored)


def test_memory_grows_with_neither_samples_nor_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if the runner kept the values of all samples, or of all steps, at once: 5,000 samples took 4.6 GB."""
    net = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
    script = evaluator(emitted(NirTarget(), net, tmp_path / "nir").folder)
    monkeypatch.setattr(script, "ENTRIES", 1 << 15)
    few, many, long = (peak_bytes(script, *sizes) for sizes in ((2000, 4), (8000, 4), (2000, 64)))
    results = 8 * 8000 * (3 + 1)
    assert many < few + 4 * results
    assert long < 1.2 * few
    # What a runner does that keeps every step, as it has to for a trace, and one that takes every sample at once.
    assert peak_bytes(script, 2000, 64, trace=True) > 1.2 * few
    monkeypatch.setattr(script, "ENTRIES", 1 << 40)
    assert peak_bytes(script, 8000, 4) > few + 4 * results
