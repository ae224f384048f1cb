"""A provocation: a function of a case that fails on purpose."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from strategies import small_net

from eqcompile.app.cli import console
from eqcompile.app.cli.commands import run_command
from eqcompile.toolchain.diagnostics import Diagnostic, EqcompileError
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.ir.serial import save

ROOT = Path(__file__).resolve().parents[3]
CHECKPOINTS = ROOT / "examples" / "checkpoints"
SAMPLES = ROOT / "examples" / "data" / "digits_test.npz"


@dataclass(frozen=True)
class Case:
    """An empty folder, and what a test may replace until it ends."""

    folder: Path
    patch: pytest.MonkeyPatch

    def file(self, name: str, content: str | bytes = "") -> Path:
        """A file in the folder, with this content."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def arrays(self, name: str, **arrays: Any) -> Path:
        """An .npz file in the folder."""
        np.savez(self.folder / name, **arrays)
        return self.folder / name

    def net(self, net: IntNet | None = None, name: str = "net.onnx") -> Path:
        """A net in a file, by default `tiny()`."""
        save(net or tiny(), self.folder / name)
        return self.folder / name


Provocation = Callable[[Case], object]
Provocations = Mapping[str, Provocation]


class PrintedError(Exception):
    """What a command printed, and what it exited with."""

    def __init__(self, diagnostics: list[Diagnostic], exit_code: int) -> None:
        super().__init__("\n".join(map(str, diagnostics)))
        self.diagnostics, self.exit_code = diagnostics, exit_code


def tiny(**changes: Any) -> IntNet:
    """A net of two units and three steps."""
    given: dict[str, Any] = {"table": list(range(-8, 8)), "first": -8, "steps": 3}
    return small_net([[1, 0], [-1, 1]], **{**given, **changes})


def command(*argv: object) -> NoReturn:
    """Run `eqcompile` with these arguments, which must fail: the error itself."""
    run_command([str(word) for word in argv])
    raise AssertionError(f"eqcompile {' '.join(map(str, argv))} did not fail")


def printed(error: BaseException) -> NoReturn:
    """What a command prints that ends with an exception."""

    def fail(argv: object) -> NoReturn:
        raise error

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exit_code = console.run(fail, ["--json"])
    raise PrintedError([Diagnostic(**row) for row in json.loads(out.getvalue())["error"]], exit_code)


def failure(provoke: Provocation, case: Case) -> EqcompileError | PrintedError:
    """The error that a provocation ends with."""
    with pytest.raises((EqcompileError, PrintedError)) as caught:
        provoke(case)
    return caught.value
