"""Memory of an emission by the number of weights: counted, so that no clock and no other process enters."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from strategies import small_net

from eqcompile.app.emission import emit_artifact
from eqcompile.quantization.lower import lower
from eqcompile.toolchain import arrays, registry
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import IntNet

SIDES = (192, 448)


def dense_net(side: int) -> IntNet:
    codes = np.random.default_rng(0).integers(-127, 128, (side, side))
    return small_net(codes, table=[-3, -1, 0, 2, 3], first=-2, steps=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "most"), [("numpy", 6), ("c", 8), ("onnx", 2), ("nir", 27), ("loihi", 22)])
@pytest.mark.slow
def test_an_emission_holds_few_bytes_a_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    """The net itself has eight bytes a weight already. Before files were written in pieces, c took 92, onnx and numpy
    16, nir 30 and loihi 28. Would break if a file were text, or a message, as a whole before it is written, or if codes
    became Python's integers."""
    target = registry.target_class(name)()
    if target.missing():
        pytest.skip(f"{target.missing()} absent")
    monkeypatch.setattr(arrays, "_PART", 1 << 12)
    emit_artifact(target, dense_net(8), tmp_path)
    peaks = []
    for side in SIDES:
        net = dense_net(side)
        folder = tmp_path / str(side)
        folder.mkdir()
        tracemalloc.start()
        emit_artifact(target, net, folder)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    small, large = (side * side for side in SIDES)
    each = (peaks[1] - peaks[0]) / (large - small)
    assert each <= most, f"{each:.1f} bytes a weight"


def peak_of_a_quantization(folder: Path, hidden: int) -> float:
    """Bytes a weight of 784-hidden-10, from the file to integers."""
    rng = np.random.default_rng(0)
    shapes = {"in": (hidden, 784), "rec": (hidden, hidden), "out": (10, hidden)}
    weights = {f"W_{n}.weight": rng.standard_normal(s).astype(np.float32) / s[1] ** 0.5 for n, s in shapes.items()}
    biases = {f"W_{n}.bias": np.zeros(s[0], np.float32) for n, s in shapes.items()}
    np.savez(folder / "net.npz", **weights, **biases)  # type: ignore[arg-type]
    inputs = {"x": rng.random((64, 784))}
    tracemalloc.start()
    net = import_model(folder / "net.npz", family="models.LoopedMLP", settings={"steps": 30}).net
    lower(net, QuantizeOptions(), calibration=inputs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / sum(p.value.size for p in net.params)


def test_a_small_net_takes_few_bytes_a_weight_too(tmp_path: Path) -> None:
    """Would break with 2**18 entries or with 128 rows in the making at once: 36 then."""
    peak_of_a_quantization(tmp_path, 8)
    each = peak_of_a_quantization(tmp_path, 256)
    assert each <= 30, f"{each:.1f} bytes a weight"
