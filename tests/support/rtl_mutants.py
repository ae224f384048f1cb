"""Mutants of the core: each a one-line change of its source that the emitted bench must notice.

python tests/support/rtl_mutants.py             every mutant through the bench in Icarus Verilog
python tests/support/rtl_mutants.py sign gate   those whose name holds one of the words
python tests/support/rtl_mutants.py lattice     those of an engine, or of a module
python tests/support/rtl_mutants.py --table     every mutant, and writes MUTANTS.md; with words it keeps other rows
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.resources import files
from pathlib import Path
from threading import Lock
from types import ModuleType

from rtl_mutant import Mutant
from rtl_mutant_nets import Subject, subjects
from rtl_mutant_table import MUTANTS

from eqcompile.targets.rtl.emit import TOP
from eqcompile.toolchain.registry import names

__all__ = ["Verdict", "benches", "judged", "main", "mutated", "rewritten", "summary", "table", "written"]

LIMIT_S = 120
"""Seconds of the processor, seven times what the slowest bench spends on a sound core; the load of the machine counts
nothing."""
NO_END = "no end"
SURVIVES = "SURVIVES"
NOT_RUN = "not run"
KINDS = ("noticed", "equivalent", "survive", NOT_RUN)
ROW = re.compile(r"^\| (.+?) \| [a-z.]+ \| (.+?) \|$", re.MULTILINE)
IMPORTING = Lock()
"""Modules are replaced for the whole process, benches run in processes of their own."""
TABLE = Path(__file__).resolve().parents[2] / "targets" / "rtl" / "MUTANTS.md"
HEAD = """\
# Mutants of the core

Each row is a change of one line of the core's source; the emitted bench, run on the changed core in Icarus Verilog,
must fail. The third column names the test of the bench that failed first, `elaboration` where the change gives no core,
`no end` where the bench was stopped after {limit} s of the processor.
Written by `python tests/support/rtl_mutants.py --table`; {summary}.

| mutant | module of `rtl/` | noticed by |
|---|---|---|
"""


class _Patched(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports modules of `eqcompile.rtl` with other texts."""

    def __init__(self, texts: Mapping[str, tuple[str, str]]) -> None:
        self.texts = texts

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name in self.texts else None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        path, text = self.texts[module.__name__]
        exec(compile(text, path, "exec"), module.__dict__)


def _changed(mutant: Mutant) -> Callable[[str], str]:
    def change(text: str) -> str:
        if text.count(mutant.old) != 1:
            raise LookupError(f"{mutant.name}: {mutant.old!r} stands {text.count(mutant.old)} times in {mutant.module}")
        return text.replace(mutant.old, mutant.new)

    return change


@contextmanager
def mutated(mutant: Mutant) -> Iterator[None]:
    """Within, `eqcompile.rtl` is imported anew with the mutation, and afterwards as it was."""
    with rewritten({mutant.module: _changed(mutant)}):
        yield


def _is_hardware(module: str) -> bool:
    """Options of architectures hold no logic, and who loaded them goes on with their classes."""
    return module.startswith("eqcompile.rtl") and not module.endswith((".architecture", ".options"))


@contextmanager
def rewritten(changes: Mapping[str, Callable[[str], str]]) -> Iterator[dict[str, str]]:
    """Within, `eqcompile.rtl` is imported anew, the text of each module in `changes` changed; afterwards as it was."""
    texts = {}
    for module, change in changes.items():
        path = files("eqcompile.rtl").joinpath(*module.split(".")).with_suffix(".py")  # type: ignore[attr-defined]
        texts[f"eqcompile.rtl.{module}"] = str(path), change(path.read_text(encoding="utf-8"))
    finder = _Patched(texts)
    kept = {n: m for n, m in sys.modules.items() if _is_hardware(n)}
    for name in kept:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield {module: texts[f"eqcompile.rtl.{module}"][1] for module in changes}
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n in sys.modules if _is_hardware(n)]:
            del sys.modules[name]
        sys.modules.update(kept)
        # A package holds its modules as attributes too.
        for name, module in kept.items():
            parent, _, child = name.rpartition(".")
            setattr(sys.modules[parent], child, module)


def benches(folder: Path, archs: Iterable[str] = names("architectures")) -> dict[str, list[Path]]:
    """The emitted folder of each subject of the engines, without a mutation."""
    return {a: [s.write(folder / f"{a}{number}") for number, s in enumerate(subjects(a))] for a in archs}


def passes(bench: Path) -> tuple[bool, str]:
    """Whether the bench passes in Icarus Verilog, and the first failure that it names."""
    with tempfile.TemporaryDirectory(prefix="eqcompile-mutant-") as build:
        argv = ["sh", "-c", f'ulimit -St {LIMIT_S}; exec "$@"', "sh"]
        argv += [sys.executable, "-I", "-B", "bench/run.py", "--sim", "icarus", "--quiet", "--build", build]
        env = {**os.environ, "COCOTB_MAX_FAILURES": "1"}
        with tempfile.TemporaryFile("w+") as messages:
            process = subprocess.Popen(argv, cwd=bench, env=env, stdout=subprocess.DEVNULL, stderr=messages)
            # Of the bench and of all that it waited for.
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            messages.seek(0)
            failed = [line.split()[-2] for line in messages if line.rstrip().endswith(" failed")]
    if process.returncode != 0 and not failed and usage.ru_utime + usage.ru_stime >= LIMIT_S:
        return False, NO_END
    return process.returncode == 0, failed[0].removeprefix("test_core.") if failed else ""


@dataclass(frozen=True)
class Verdict:
    """`by`: what noticed the mutant first, empty if nothing did; `same`: no Verilog differs from that of the core."""

    mutant: Mutant
    by: str
    same: bool
    seconds: float

    @property
    def text(self) -> str:
        """What became of the mutant."""
        if self.by:
            return self.by
        if self.same and not self.mutant.same:
            return f"{SURVIVES}: not in the core"
        return f"equivalent: {self.mutant.equivalent}" if self.mutant.equivalent else SURVIVES

    @property
    def survives(self) -> bool:
        """Whether nothing noticed it that should have: a line that no subject's core has was not judged at all."""
        return self.text.startswith(SURVIVES)


def judged(mutant: Mutant, whole: Mapping[str, Sequence[Path]]) -> Verdict:
    """Emit the mutant's core for each subject of its engine and run the bench of that subject on it."""
    start, same, by = time.perf_counter(), True, ""
    for bench, subject in zip(whole[mutant.arch], subjects(mutant.arch), strict=True):
        with tempfile.TemporaryDirectory(prefix="eqcompile-mutant-") as name:
            copy = Path(name) / "copy"
            shutil.copytree(bench, copy)
            core = verilog(mutant, subject)
            if core is None:
                by = "elaboration"
                break
            file = (bench / f"{TOP}.v").read_text(encoding="utf-8")
            # The file has a header too.
            if core == file[file.index("module ") :]:
                continue
            same = False
            (copy / f"{TOP}.v").write_text(core, encoding="utf-8")
            passed, first = passes(copy)
            if not passed:
                by = first or "the bench"
                break
    return Verdict(mutant, by, same, time.perf_counter() - start)


def verilog(mutant: Mutant, subject: Subject) -> str | None:
    """The mutant's core; None if it cannot be built."""
    from eqcompile.rtl.verilog import emit_verilog

    with IMPORTING, mutated(mutant):
        from eqcompile.targets.rtl.emit import shell_of

        try:
            shell = shell_of(subject.net, subject.architecture, trace=True)
            return emit_verilog(shell, name=TOP)
        except Exception:  # noqa: BLE001 a mutant may break in any way
            return None


def written() -> dict[str, str]:
    """What the written table says of each mutant, by its name."""
    return dict(ROW.findall(TABLE.read_text(encoding="utf-8")))


def summary(verdicts: Mapping[str, str]) -> str:
    """How many mutants there are, and what became of them by these verdicts."""
    kinds = Counter(_kind(verdicts.get(m.name, NOT_RUN)) for m in MUTANTS)
    counts = (f"{kinds[kind]} {kind}" for kind in KINDS if kinds[kind] or kind != NOT_RUN)
    return f"{len(MUTANTS)} mutants, {', '.join(counts)}"


def table(verdicts: Mapping[str, str]) -> str:
    """The table of these verdicts, by mutant, under their counts."""
    rows = "".join(f"| {m.name} | {m.module} | {verdicts.get(m.name, NOT_RUN)} |\n" for m in MUTANTS)
    return HEAD.format(summary=summary(verdicts), limit=LIMIT_S) + rows


def write_table(found: Iterable[Verdict]) -> None:
    """Write the table; a mutant that was not judged now keeps what an earlier run found."""
    TABLE.write_text(table(written() | {v.mutant.name: v.text for v in found}), encoding="utf-8")


def _kind(verdict: str) -> str:
    if verdict == NOT_RUN:
        return NOT_RUN
    first = verdict.split(":")[0]
    return {"equivalent": "equivalent", SURVIVES: "survive"}.get(first, "noticed")


def main(argv: Sequence[str]) -> int:
    """Run the mutants; 0 if every one that is not equivalent was noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only mutants whose name holds one of them")
    parser.add_argument("--table", action="store_true", help=f"write {TABLE.name}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="benches at a time")
    options = parser.parse_args(argv)
    chosen = [
        m for m in MUTANTS if not options.words or any(w in (m.arch, m.module) or w in m.name for w in options.words)
    ]
    found = []
    with tempfile.TemporaryDirectory(prefix="eqcompile-mutants-") as name:
        whole = benches(Path(name), dict.fromkeys(m.arch for m in chosen))
        for bench in (b for made in whole.values() for b in made):
            passed, first = passes(bench)
            if not passed:
                sys.stdout.write(f"the bench fails without a mutation: {first}\n")
                return 1
        with ThreadPoolExecutor(options.jobs) as pool:
            for verdict in pool.map(lambda mutant: judged(mutant, whole), chosen):
                found.append(verdict)
                label, module = verdict.mutant.name, verdict.mutant.module
                sys.stdout.write(f"{label:44} {module:16} {verdict.text} ({verdict.seconds:.1f} s)\n")
                sys.stdout.flush()
                if options.table:
                    # At once: an interrupted run keeps what it judged.
                    write_table([verdict])
    left = sum(v.survives for v in found)
    noticed = sum(bool(v.by) for v in found)
    equivalent = len(found) - noticed - left
    sys.stdout.write(f"{len(found)} mutants, {noticed} noticed, {equivalent} equivalent, {left} survive\n")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
