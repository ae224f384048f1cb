"""Diagnostics: what is wrong, where, both numbers, and the next step.

A check collects every `Diagnostic` it finds and raises once, so that one run shows all problems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = [
    "ArtifactError",
    "Diagnostic",
    "EqcompileError",
    "ImportFileError",
    "MissingToolError",
    "SimulatorError",
    "UnsupportedError",
    "UsageError",
    "VerifyError",
]


@dataclass(frozen=True)
class Diagnostic:
    """One fault.

    `code` is stable and kebab-case (`"shape-mismatch"`); `what` is one sentence with both numbers; `where` names the
    file, tensor key or IR node; `hint` is the next step for the user.
    """

    code: str
    what: str
    where: str = ""
    hint: str = ""

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {self.what}"]
        if self.where:
            lines.append(f"  --> {self.where}")
        if self.hint:
            lines.append(f"  help: {self.hint}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, str]:
        """The same as plain JSON values."""
        return {"code": self.code, "what": self.what, "where": self.where, "hint": self.hint}


@dataclass(eq=False)
class EqcompileError(Exception):
    """Root of every error that eqcompile raises on purpose; carries one or more diagnostics."""

    diagnostics: Sequence[Diagnostic] = field(default_factory=tuple)
    exit_code: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.diagnostics, Diagnostic):
            self.diagnostics = (self.diagnostics,)
        super().__init__(str(self))

    def __str__(self) -> str:
        return "\n".join(str(d) for d in self.diagnostics)


class UsageError(EqcompileError, ValueError):
    """The command line or an API argument is wrong (exit code 2)."""

    def __post_init__(self) -> None:
        self.exit_code = 2
        super().__post_init__()


class ImportFileError(EqcompileError, ValueError):
    """A model or data file cannot be read as what it claims to be (exit code 3)."""

    def __post_init__(self) -> None:
        self.exit_code = 3
        super().__post_init__()


class VerifyError(EqcompileError, ValueError):
    """A net breaks a rule of the IR (exit code 4: a defect of an importer, a pass or a hand-made net)."""

    def __post_init__(self) -> None:
        self.exit_code = 4
        super().__post_init__()


class UnsupportedError(EqcompileError, NotImplementedError):
    """A valid net uses an operation that this lowering or target does not take (exit code 5)."""

    def __post_init__(self) -> None:
        self.exit_code = 5
        super().__post_init__()


class ArtifactError(EqcompileError, OSError):
    """An output folder cannot be written, or a folder given is not an artifact (exit code 6)."""

    def __post_init__(self) -> None:
        self.exit_code = 6
        super().__post_init__()


class MissingToolError(EqcompileError, ImportError):
    """An optional tool is not installed; the hint is its install command (exit code 7)."""

    def __post_init__(self) -> None:
        self.exit_code = 7
        super().__post_init__()


class SimulatorError(EqcompileError, RuntimeError):
    """A simulator died, hung or diverged from golden (exit code 8)."""

    def __post_init__(self) -> None:
        self.exit_code = 8
        super().__post_init__()
