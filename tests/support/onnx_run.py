"""Run a model file in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from eqcompile.toolchain.ir.onnx_write import Model


def whole(model: Model) -> onnx.ModelProto:
    """A model with the contents of its initializers, as a file of it is read."""
    return onnx.load_from_string(b"".join(model.pieces()))


def execute(path: Path, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Results of a model in ONNX Runtime by name, final states (`final/...`) and `schedule/ticks` included."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    types = {"tensor(int64)": np.int64, "tensor(double)": np.float64, "tensor(float)": np.float32}
    given = {i.name: inputs[i.name].astype(types[i.type]) for i in session.get_inputs()}
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, given), strict=True))
