"""Simulator `onnxruntime`: runs the folder of the target `onnx` in ONNX Runtime, in a process of its own."""

from __future__ import annotations

from typing import ClassVar

from .script_runner import ScriptSimulator

__all__ = ["OnnxSimulator"]


class OnnxSimulator(ScriptSimulator):
    """Outputs and steps are those of `model.onnx`, states those of `trace.onnx`, which has to give the same outputs."""

    name: ClassVar[str] = "onnxruntime"
    target: ClassVar[str] = "onnx"
    package: ClassVar[str | None] = "onnxruntime"
