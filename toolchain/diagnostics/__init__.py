"""Diagnostics: what is wrong, where, both numbers, and the next step.

A check collects every `Diagnostic` it finds and raises once, so that one run shows all problems.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "ArtifactError",
    "BuildTimeoutError",
    "Diagnostic",
    "EqcompileError",
    "ImportFileError",
    "MissingToolError",
    "PluginError",
    "SimulatorError",
    "SynthesisError",
    "UnsupportedError",
    "UsageError",
    "VerifyError",
]


@dataclass(frozen=True)
class Diagnostic:
    """One fault.

    `code` is stable and kebab-case (`"shape-mismatch"`); `what` is one sentence with both numbers; `where` names the
    file, tensor key or IR node; `hint` is the next step for the user, where it is another than the catalogue's.
    """

    code: str
    what: str
    where: str = ""
    hint: str = ""

    @property
    def remedy(self) -> str:
        """The next step: the hint, else what the catalogue says of this code."""
        from .catalogue import remedy_of

        return self.hint or remedy_of(self.code)

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {self.what}"]
        if self.where:
            lines.append(f"  --> {self.where}")
        if remedy := self.remedy:
            lines.append(f"  help: {remedy}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, str]:
        """The same as plain JSON values."""
        return {"code": self.code, "what": self.what, "where": self.where, "hint": self.remedy}


class EqcompileError(Exception):
    """Root of every error that eqcompile raises on purpose; carries one or more diagnostics."""

    exit_code: ClassVar[int] = 1

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic]) -> None:
        self.diagnostics = (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        super().__init__("\n".join(str(d) for d in self.diagnostics))


class UsageError(EqcompileError, ValueError):
    """The command line or an API argument is wrong."""

    exit_code = 2


class ImportFileError(EqcompileError, ValueError):
    """A model or data file cannot be read as what it claims to be."""

    exit_code = 3


class VerifyError(EqcompileError, ValueError):
    """A net breaks a rule of the IR: a defect of an importer, a pass or a hand-made net."""

    exit_code = 4


class UnsupportedError(EqcompileError, NotImplementedError):
    """A valid net uses an operation that this lowering or target does not take."""

    exit_code = 5


class ArtifactError(EqcompileError, OSError):
    """An output folder cannot be written, or a folder given is not an artifact."""

    exit_code = 6


class MissingToolError(EqcompileError, ImportError):
    """An optional tool is not installed; the hint is its install command."""

    exit_code = 7


class PluginError(EqcompileError, RuntimeError):
    """A plug-in of another package is broken: it fails to load, or is not what its entry point promises."""


class SimulatorError(EqcompileError, RuntimeError):
    """A simulator died or hung, or its results differ from golden."""

    exit_code = 8


class BuildTimeoutError(SimulatorError):
    """What a simulator compiles before it runs was not compiled within the limit: nothing of the artifact has run."""


class SynthesisError(EqcompileError, RuntimeError):
    """A synthesis or place-and-route tool died, ran out of time, or wrote what cannot be read."""

    exit_code = 8
