"""Lava 0.10.0 made to start on Python 3.11 and newer, and to end when something goes wrong.

Two repairs at import time, which change no result:

1. `lava.magma.compiler.var_model` has dataclasses whose default is a `ByteEncoder()`. Since Python 3.11 a default whose
   class has no hash is refused as mutable, and a dataclass with `eq` has none. While the module is imported, every
   dataclass named ByteEncoder keeps the hash of `object`.
2. `lava.magma.runtime.message_infrastructure.multiprocessing` calls `multiprocessing.set_start_method("fork")`, which
   raises if a start method was set before. While Lava is imported, the call is forced.

And one guard at run time. If a process model raises, or its operating-system process dies, `run()` waits for ever for
messages that never come, `stop()` never returns, and leaving the interpreter hangs. `guard` watches the actors from a
thread and ends everything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

__all__ = ["end", "guard", "prepare"]

DIED = 3
TIMED_OUT = 4


def prepare() -> None:
    """Import the parts of Lava that need a repair. Call it before any other import of Lava."""
    plain_dataclass = dataclasses.dataclass
    plain_start = multiprocessing.set_start_method

    def hashable(cls: Any = None, /, **options: Any) -> Any:
        if cls is not None and cls.__name__ == "ByteEncoder":
            cls.__hash__ = object.__hash__
            return plain_dataclass(cls, eq=False)
        return plain_dataclass(cls, **options) if cls is not None else lambda c: plain_dataclass(c, **options)

    def forced(method: str | None, force: bool = True) -> None:
        plain_start(method, force=True)

    dataclasses.dataclass = hashable
    multiprocessing.set_start_method = forced
    try:
        importlib.import_module("lava.magma.compiler.var_model")
        importlib.import_module("lava.magma.runtime.message_infrastructure.multiprocessing")
    finally:
        dataclasses.dataclass = plain_dataclass
        multiprocessing.set_start_method = plain_start


def end(runtime: Any, message: str, status: int) -> None:
    """Say why, terminate every actor of a runtime, free its shared memory and leave without waiting for Lava."""
    sys.stderr.write(message.rstrip() + "\n")
    infrastructure = getattr(runtime, "_messaging_infrastructure", None)
    actors = list(getattr(infrastructure, "actors", ()))
    for actor in actors:
        with contextlib.suppress(Exception):
            actor.terminate()
    limit = time.monotonic() + 1.0
    while time.monotonic() < limit and any(_alive(a) for a in actors):
        time.sleep(0.02)
    for actor in actors:
        with contextlib.suppress(Exception):
            actor.kill()
    if infrastructure is not None:
        with contextlib.suppress(Exception):
            infrastructure.smm.shutdown()
    sys.stderr.flush()
    os._exit(status)


def _alive(actor: Any) -> bool:
    try:
        return bool(actor.is_alive())
    except ValueError:
        return False


@contextlib.contextmanager
def guard(runtime: Any, timeout_s: float | None) -> Iterator[None]:
    """While the body runs: if an actor ends or `timeout_s` seconds pass, end this program with status 3 or 4."""
    done = threading.Event()
    start = time.monotonic()

    def watch() -> None:
        while not done.wait(0.1):
            gone = [a for a in runtime._messaging_infrastructure.actors if not _alive(a)]
            if gone:
                # The other actors may just be reporting; give the one with a traceback time to arrive.
                time.sleep(0.2)
                if not done.is_set():
                    end(runtime, "\n".join(_reason(a) for a in gone), DIED)
            if timeout_s is not None and time.monotonic() - start > timeout_s:
                end(
                    runtime,
                    f"no end after {timeout_s:g} s: a process model hangs, or the limit is too short",
                    TIMED_OUT,
                )

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - Ctrl-C too: Lava would hang on the way out
        end(runtime, f"{type(error).__name__}: {error}", DIED)
    finally:
        done.set()
        watcher.join()


def _reason(actor: Any) -> str:
    with contextlib.suppress(Exception):
        if actor.exception:
            return str(actor.exception[1])
    return f"a process of the network ended with exit code {actor.exitcode}"
