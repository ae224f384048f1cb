"""The one way to show progress: a bar on a terminal or in a notebook, a line now and then in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Progress", "of_simulator", "progress_if", "stage_progress"]

Progress = Callable[[str, int, int], None]
_QUIET_S = 10.0
"""Seconds between two lines where standard error is no terminal; a command that is shorter says nothing."""

_MINUTE_S, _LONG_S = 100.0, 5400.0
"""Seconds from which on what is left is told in minutes, and in hours."""


@contextlib.contextmanager
def stage_progress(unit: str = "it") -> Iterator[Progress]:
    """A callback `(stage, done, total)` for standard error; of a total of 0 it says the stage alone. What was done when
    a stage begins does not count for its speed."""
    with contextlib.closing(_Bars(unit) if sys.stderr.isatty() or _in_notebook() else _Lines()) as view:
        yield view.show


def of_simulator(progress: Progress, name: str) -> Callable[[int, int], None]:
    """Progress of a simulator, called by its samples, as that of the stage `name`; what it compiles first is a stage of
    its own."""
    return lambda done, total: progress(name if total else f"{name} compiles the artifact", done, total)


@contextlib.contextmanager
def progress_if(show: bool, unit: str = "it") -> Iterator[Progress]:
    """`stage_progress`, or a callback that shows nothing."""
    if not show:
        yield lambda stage, done, total: None
        return
    with stage_progress(unit) as progress:
        yield progress


def _in_notebook() -> bool:
    """Whether the cells of a notebook run this, where standard error is no terminal; imports nothing to find out."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def _left(seconds: float) -> str:
    """How long a stage takes on, as `about 2 min left`."""
    if seconds < _MINUTE_S:
        return f"about {seconds:.0f} s left"
    if seconds < _LONG_S:
        return f"about {seconds / 60:.0f} min left"
    return f"about {seconds / 3600:.1f} h left"


class _Bars:
    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._stage = ""
        self._bar: Any = None

    def show(self, stage: str, done: int, total: int) -> None:
        from tqdm.auto import tqdm  # type: ignore[import-untyped]

        if self._bar is None or stage != self._stage:
            self.close()
            self._stage = stage
            form = {} if total else {"bar_format": "{desc} [{elapsed}]"}
            shown = {"desc": stage, "unit": self._unit, "leave": False, "file": sys.stderr, **form}
            self._bar = tqdm(total=total or None, initial=done, **shown)
        self._bar.total = total or None
        self._bar.update(done - self._bar.n)
        if not total:
            self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class _Lines:
    def __init__(self) -> None:
        self._last = time.monotonic()
        self._stage = ""
        self._begun = 0.0
        self._before = 0

    def show(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._begun, self._before = stage, now, done
        if now - self._last >= _QUIET_S:
            self._last = now
            spent = now - self._begun
            rate = (done - self._before) / spent if spent > 0 else 0.0
            # A rate of nothing is one that nobody knows yet; routing can even go backwards.
            speed = f", {rate:,.3g} a second, {_left((total - done) / rate)}" if rate > 0 and done < total else ""
            sys.stderr.write(f"{stage}: {done:,} of {total:,}{speed}\n" if total else f"{stage}, {spent:,.0f} s\n")
            sys.stderr.flush()

    def close(self) -> None:
        """Lines need no end."""
