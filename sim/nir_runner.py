"""Simulator `nir`: evaluates the graph of the target `nir` by the definition of its nodes, in a process of its own."""

from __future__ import annotations

from typing import ClassVar

from .script_runner import ScriptSimulator

__all__ = ["NirSimulator"]


class NirSimulator(ScriptSimulator):
    """`net.nir`, read with the package `nir`."""

    name: ClassVar[str] = "nir"
    target: ClassVar[str] = "nir"
    package: ClassVar[str | None] = "nir"
