"""Files of nets that were damaged, changed or made by someone else: refused in words, and mutants that must show."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx_run import execute
from strategies import small_net

from eqcompile.toolchain import golden
from eqcompile.toolchain.diagnostics import ImportFileError
from eqcompile.toolchain.ir import ops, serial
from eqcompile.toolchain.ir.serial import KEY, load, save

# A changed file


def change_shift(model: onnx.ModelProto) -> None:
    attribute(call(model, "lookup"), "first").i += 1


def change_call(model: onnx.ModelProto) -> None:
    node = call(model, "add")
    node.input[0], node.input[1] = node.input[1], node.input[0]


def change_body(model: onnx.ModelProto) -> None:
    function = next(f for f in model.functions if f.name == "lookup")
    last = next(n for n in function.node if n.op_type == "Constant" and n.attribute[0].HasField("t"))
    last.attribute[0].t.raw_data = np.int64(2).tobytes()


def change_steps(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.output[0] == "schedule/steps")
    node.attribute[0].t.raw_data = np.int64(7).tobytes()


def change_weight(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.raw_data = np.int64(-1).tobytes() + tensor.raw_data[8:]


def change_schedule(model: onnx.ModelProto) -> None:
    rewrite(model, lambda said: said["schedule"].update(steps=7))


def change_format(model: onnx.ModelProto) -> None:
    rewrite(model, lambda said: said["formats"]["h"].update(bits=9))


def change_latch(model: onnx.ModelProto) -> None:
    body = next(n for n in model.graph.node if n.name == "relaxation").attribute[0].g
    next(n for n in body.node if n.output[0] == "latch/h").input[0] = "step/a"


def drop_function(model: onnx.ModelProto) -> None:
    del model.functions[0]


def claim_size(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [1 << 40, 1 << 40]


def claim_empty(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [0, 1 << 40]
    model.graph.initializer[0].raw_data = b""


def claim_external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def claim_width(model: onnx.ModelProto) -> None:
    rewrite(model, lambda said: said["formats"]["h"].update(bits=1 << 40))


def claim_fraction(model: onnx.ModelProto) -> None:
    rewrite(model, lambda said: said["states"][0].update(frac=1 << 40))


def claim_shape(model: onnx.ModelProto) -> None:
    rewrite(model, lambda said: said["inputs"][0].update(shape=[1 << 62, 1 << 62]))


def wrong_type(model: onnx.ModelProto) -> None:
    rewrite(model, lambda said: said["states"][0].update(shape="abc"))


def nested_json(model: onnx.ModelProto) -> None:
    model.metadata_props[0].value = "[" * 100_000


def another_version(model: onnx.ModelProto) -> None:
    rewrite(model, lambda said: said.update(version=99))


CHANGES: tuple[tuple[Callable[[onnx.ModelProto], None], str], ...] = (
    (change_shift, "digest"),
    (change_call, "digest"),
    (change_body, "functions"),
    (change_steps, "graph"),
    (change_weight, "digest"),
    (change_schedule, "digest"),
    (change_format, "ir-overflow"),
    (change_latch, "graph"),
    (drop_function, "no operation"),
    (claim_size, "needs .* bytes, has 32"),
    (claim_empty, "is empty"),
    (claim_external, "external data"),
    (claim_width, "format has 1099511627776 bits"),
    (claim_fraction, "fraction bits"),
    (claim_shape, "ir-shape|digest"),
    (wrong_type, "states.0..shape is a str"),
    (nested_json, "damaged"),
    (another_version, "version 99"),
)


def call(model: onnx.ModelProto, function: str) -> onnx.NodeProto:
    body = next(n for n in model.graph.node if n.name == "relaxation").attribute[0].g
    return next(n for n in body.node if n.op_type == function)


def attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(a for a in node.attribute if a.name == name)


def rewrite(model: onnx.ModelProto, change: Callable[[dict[str, Any]], None]) -> None:
    prop = next(p for p in model.metadata_props if p.key == KEY)
    said = json.loads(prop.value)
    change(said)
    prop.value = json.dumps(said)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    save(small_net([[1, 2], [-1, 1]], table=[-3, -1, 0, 2, 3], first=-2, steps=4), path)
    return path


@pytest.mark.parametrize(("change", "said"), CHANGES, ids=[change.__name__ for change, _ in CHANGES])
def test_a_changed_file_is_refused(saved: Path, change: Callable[[onnx.ModelProto], None], said: str) -> None:
    """What runs in an ONNX runtime and what is loaded must be the same net; no number in a file may cost memory."""
    model = onnx.load(saved)
    change(model)
    saved.write_bytes(model.SerializeToString())
    tracemalloc.start()
    with pytest.raises(ImportFileError, match=said):
        load(saved)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("change", [change_shift, change_body, change_weight, change_latch])
def test_execution_sees_a_changed_graph(saved: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    """The comparison with golden must be able to fail: an attribute, a body, a weight or a latch that is wrong."""
    x = np.array([[0, 1], [-3, 2], [2, -1]])
    want = execute(saved, {"x": x})["final/h"]
    model = onnx.load(saved)
    change(model)
    saved.write_bytes(model.SerializeToString())
    assert (execute(saved, {"x": x})["final/h"] != want).any()


@pytest.mark.parametrize(
    "mutate",
    [
        lambda op: replace(op, first=op.first + 1) if isinstance(op, ops.Lookup) else op,
        lambda op: ops.Sub(out=op.out, a=op.a, b=op.b) if isinstance(op, ops.Add) else op,
    ],
)
def test_another_net_gives_other_codes(saved: Path, mutate: Callable[[Any], Any]) -> None:
    """One changed attribute of the net has to show in what its file computes."""
    net = load(saved)
    save(replace(net, step=tuple(mutate(op) for op in net.step)), saved)
    x = np.array([[0, 1], [-3, 2], [2, -1]])
    assert (execute(saved, {"x": x})["final/h"] != golden.run(net, {"x": x}).states["h"][-1]).any()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0.0, 1.0, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_file_is_refused_or_harmless(saved: Path, at: float, byte: int, cut: bool) -> None:
    """A flipped byte or a truncation ends in a clear error, or hit what means nothing; never in another net."""
    content = bytearray(saved.read_bytes())
    where = int(at * len(content))
    content[where:] = b"" if cut else bytes([byte]) + bytes(content[where + 1 :])
    damaged = saved.with_name("damaged.onnx")
    damaged.write_bytes(bytes(content))
    try:
        loaded = load(damaged)
    except ImportFileError:
        return
    assert loaded == load(saved)


def test_foreign_files_are_named(tmp_path: Path) -> None:
    """Text, an empty file, another ONNX model, a folder, nothing at all, or a file beyond what ONNX holds."""
    text, empty, other, huge = (tmp_path / n for n in ("a.txt", "b.onnx", "c.onnx", "d.onnx"))
    text.write_text("no model at all\n" * 50, encoding="utf-8")
    empty.write_bytes(b"")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [], [])
    other.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    with huge.open("wb") as file:
        file.truncate(3 << 30)
    for path, said in ((text, "ONNX"), (empty, "not a net"), (other, "not a net"), (huge, "3221225472 bytes")):
        with pytest.raises(ImportFileError, match=said):
            load(path)
    for path in (tmp_path, tmp_path / "absent.onnx"):
        with pytest.raises(ImportFileError, match="cannot read"):
            load(path)


def test_a_file_that_no_net_fills_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a file of any size were read into memory before it is refused."""
    path = tmp_path / "net.onnx"
    save(small_net([[1]], table=[0, 1], first=0, steps=1), path)
    with path.open("r+b") as file:
        file.truncate(serial.MAX_BYTES + (1 << 20) + 1)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("the file was read"))
    with pytest.raises(ImportFileError, match="net-file-size") as caught:
        load(path)
    assert str(serial.MAX_BYTES) in str(caught.value)
