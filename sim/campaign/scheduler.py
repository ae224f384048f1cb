"""Who runs the chunks: this process, processes of this machine, or a dask.distributed cluster.

A pool is given chunk numbers and yields their results in any order, each once. What a chunk holds depends on its number
alone, so nobody needs to know who ran it; a worker that dies has its chunks run again by others. Who makes a pool says
what running a chunk is: a function of a module, which workers import.
"""

from __future__ import annotations

import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from ...toolchain.diagnostics import Diagnostic, MissingToolError, SimulatorError, UsageError
from ..process import SHARE, usable_processors
from .definition import Content

__all__ = ["LOCAL", "Pool", "make_pool"]

R = TypeVar("R")
Work = Callable[[Content, int], R]
"""What a chunk of the campaign gives."""
LOCAL = "local"
_AHEAD = 2
"""Chunks given out for each worker: one to run and one to begin with."""
_DEATHS = 5
_CONNECT_S = 10


class Pool(ABC, Generic[R]):
    """Abstract. `close` ends the workers; a pool is closed on every way out."""

    @abstractmethod
    def run(self, numbers: Sequence[int]) -> Iterator[R]:
        """Results of these chunks, in the order in which they are done."""

    @abstractmethod
    def close(self) -> None:
        """End what this pool has started."""


class _Here(Pool[R]):
    """This process."""

    def __init__(self, content: Content, work: Work[R]) -> None:
        self._content, self._work = content, work

    def run(self, numbers: Sequence[int]) -> Iterator[R]:
        return (self._work(self._content, number) for number in numbers)

    def close(self) -> None:
        """Nothing was started."""


_given_work: tuple[Content, Work[Any]] | None = None


def _begin(content: Content, work: Work[Any], processors: int) -> None:
    """In a new worker: hold the campaign, leave Ctrl-C to the parent, do not outlive it, and use its share of the
    processors."""
    import multiprocessing
    from multiprocessing.connection import wait

    global _given_work  # noqa: PLW0603 - set once, before the first chunk of this process
    _given_work = content, work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Chunks run side by side already: engines that used all processors would only take them from one another.
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    os.environ[SHARE] = str(processors)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _work_here(number: int) -> Any:
    assert _given_work is not None
    content, work = _given_work
    return work(content, number)


class _Processes(Pool[R]):
    """`workers` processes of this machine."""

    def __init__(self, content: Content, work: Work[R], workers: int) -> None:
        self._content, self._work, self._workers = content, work, workers
        self._executor = self._start()

    def _start(self) -> Any:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        # Forking a process that runs threads is not safe.
        context = multiprocessing.get_context("spawn")
        share = max(1, usable_processors() // self._workers)
        return ProcessPoolExecutor(self._workers, context, _begin, (self._content, self._work, share))

    def run(self, numbers: Sequence[int]) -> Iterator[R]:
        from concurrent.futures import FIRST_COMPLETED, wait
        from concurrent.futures.process import BrokenProcessPool

        waiting, deaths = list(reversed(numbers)), 0
        running: dict[Any, int] = {}
        while waiting or running:
            try:
                while waiting and len(running) < _AHEAD * self._workers:
                    running[self._executor.submit(_work_here, waiting[-1])] = waiting[-1]
                    waiting.pop()
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    del running[future]
                    yield result
            except BrokenProcessPool as error:
                # One dead process takes the whole executor with it: all that it had is run again by a new one.
                deaths += 1
                if deaths > _DEATHS:
                    what = f"worker processes died {deaths} times"
                    hint = "out of memory? --workers 1 runs the chunks in this process"
                    raise SimulatorError(Diagnostic("workers-died", what, hint=hint)) from error
                waiting += sorted(running.values(), reverse=True)
                running.clear()
                self._executor.shutdown(wait=False)
                self._executor = self._start()

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)


def _given(content: Content) -> Content:
    return content


class _Cluster(Pool[R]):
    """The workers of a dask.distributed scheduler."""

    def __init__(self, content: Content, work: Work[R], address: str) -> None:
        self._work = work
        try:
            from distributed import Client
        except ImportError as error:
            what = "a cluster is reached through dask.distributed, which is not installed"
            raise MissingToolError(Diagnostic("missing-tool", what, hint="pip install 'eqcompile[cluster]'")) from error
        connect: Any = Client
        try:
            self._client = connect(f"tcp://{address}", timeout=_CONNECT_S, set_as_default=False)
        except (OSError, TimeoutError) as error:
            what = f"no dask scheduler answers within {_CONNECT_S} s: {error}"
            raise UsageError(Diagnostic("no-scheduler", what, address, "start one with `dask scheduler`")) from error
        # The result of a task, unlike scattered data, is made again when the worker that holds it dies.
        self._content = self._client.submit(_given, content, pure=False)

    def run(self, numbers: Sequence[int]) -> Iterator[R]:
        import distributed

        waiting = list(reversed(numbers))
        as_completed: Any = distributed.as_completed
        done = as_completed(loop=self._client.loop)
        while waiting or not done.is_empty():
            ahead = _AHEAD * max(1, len(self._client.nthreads()))
            while waiting and done.count() < ahead:
                done.add(self._client.submit(self._work, self._content, waiting.pop(), pure=False))
            future = next(done)
            try:
                result: R = future.result()
            except distributed.KilledWorker as error:
                what = f"a chunk ended several workers: {error}"
                raise SimulatorError(Diagnostic("workers-died", what, hint="see the logs of the workers")) from error
            future.release()
            yield result

    def close(self) -> None:
        with suppress(OSError, TimeoutError):
            self._client.close()


def make_pool(content: Content, work: Work[R], scheduler: str, workers: int) -> Pool[R]:
    """Of chunks of `content` that `work` runs: `local` with a number of workers (one is this process), or the HOST:PORT
    of a dask scheduler.

    Raises UsageError if `scheduler` is neither, or if none answers there; MissingToolError without dask.distributed.
    """
    if scheduler != LOCAL:
        host, _, port = scheduler.rpartition(":")
        if not host or not port.isdecimal():
            raise UsageError(Diagnostic("scheduler", f"{scheduler!r} is neither local nor HOST:PORT", "--scheduler"))
        return _Cluster(content, work, scheduler)
    return _Here(content, work) if workers == 1 else _Processes(content, work, workers)
