"""Simulator `numpy`: runs the folder of the target `numpy` in a Python process of its own."""

from __future__ import annotations

from typing import ClassVar

from .script_runner import ScriptSimulator

__all__ = ["NumpySimulator"]


class NumpySimulator(ScriptSimulator):
    """The emitted kernel."""

    name: ClassVar[str] = "numpy"
    target: ClassVar[str] = "numpy"
