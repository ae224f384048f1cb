"""The kernel of engine fast as plain Python: the compiler takes a minute, a small net a tenth of a second."""

from __future__ import annotations

import importlib.util
import sys
from importlib.resources import files
from types import ModuleType

import pytest

__all__ = ["plain_kernel"]

PACKAGE = "eqcompile.sim.faults.fast"
SOURCES = ("elements", "operations", "latches", "units", "dense", "queue", "kernel")


def plain_kernel(monkeypatch: pytest.MonkeyPatch, module: str = "", old: str = "", new: str = "") -> None:
    """Take the kernel as plain Python for this test; `old`, which stands once in `module`, is replaced by `new`."""
    plain = ModuleType("numba")
    plain.njit = lambda **_: lambda function: function  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "numba", plain)
    for name in SOURCES:
        text = (files(PACKAGE) / f"{name}.py").read_text(encoding="utf-8")
        if name == module:
            assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {name}.py"
            text = text.replace(old, new)
        spec = importlib.util.spec_from_loader(f"{PACKAGE}.{name}", loader=None)
        assert spec is not None
        made = importlib.util.module_from_spec(spec)
        made.__package__ = PACKAGE
        monkeypatch.setitem(sys.modules, spec.name, made)
        exec(compile(text, name, "exec"), made.__dict__)
