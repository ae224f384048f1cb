"""Run samples on the core as compiled C++ (Verilator), driven through the same ports as under cocotb.

python bench/native.py                            the vectors, compared
python bench/native.py -i x.npz -o y.npz          samples under `codes.NAME`, results, and states if asked
python bench/native.py -i ... -o ... --clocks     how many clocks they take too
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# An isolated interpreter (python -I) does not look beside the script by itself.
sys.path.insert(0, str(HERE))

import layout as core_layout  # type: ignore[import-not-found]  # noqa: E402
import numpy as np  # noqa: E402
import tools  # type: ignore[import-not-found]  # noqa: E402

VERILATOR_ARGS = (
    *("--cc", "--exe", "--build", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "--no-timing"),
    # Amaranth writes exact arithmetic whose operands differ in width on purpose.
    *("-Wno-WIDTH", "-Wno-fatal", "--top-module", "core", "--Mdir", ".", "-j", "1"),
    *("-MAKEFLAGS", "OPT_FAST=-O2"),
)
IDLE_LIMIT = 1 << 26
"""Clocks without a code in or out after which the core is taken for dead."""


def header(layout: Any) -> str:
    """core_layout.h: the layout as C++ constants."""
    states = [f"{{{s['units']}, {s['bits']}, {int(s['signed'])}}}" for s in layout.states]
    defines = "#define TRACED" if layout.trace else ""
    defines += "\n#define INJECTS" if layout.injects else ""
    hardened = ""
    if layout.injects and (flags := layout.inject.get("flags")):
        defines += "\n#define HARDENED"
        registers = {"Faults": layout.registers["FAULTS"], "Corrected": layout.registers["CORRECTED"]}
        hardened = "".join(f"constexpr uint32_t k{n}Register = {at};\n" for n, at in registers.items())
        hardened += f"constexpr uint32_t kFaultsMask = {(1 << len(flags)) - 1};\n"
    return f"""\
#include <cstddef>
#include <cstdint>
{defines}
struct State {{
    uint32_t units;
    int bits;
    bool is_signed;
}};
constexpr State kStates[] = {{{", ".join(states) or "{0, 1, 0}"}}};
constexpr size_t kXCount = {layout.x["count"]}, kYCount = {layout.y["count"]};
constexpr size_t kXBeat = {layout.x["beat"]}, kYBeat = {layout.y["beat"]};
constexpr size_t kXBeats = (kXCount + kXBeat - 1) / kXBeat;
constexpr int kXBits = {8 * layout.x["bytes"]};
constexpr int kYBits = {8 * layout.y["bytes"]};
constexpr bool kYSigned = {str(layout.y["signed"]).lower()};
constexpr int64_t kIdleLimit = {IDLE_LIMIT};
constexpr uint32_t kStepsRegister = {layout.registers["STEPS"]};
constexpr uint32_t kLoadAddressRegister = {layout.registers.get("LOAD_ADDRESS", 0)};
constexpr uint32_t kLoadDataRegister = {layout.registers.get("LOAD_DATA", 0)};
{hardened}"""


def build(layout: Any, folder: Path) -> Path:
    """Compile the core and its driver in `folder`; the program. SystemExit with the compiler's words if it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "core_layout.h").write_text(header(layout), encoding="utf-8")
    sources = tools.copied([*layout.sources, HERE / "native.cpp"], folder)
    argv = ["verilator", *VERILATOR_ARGS, *(path.name for path in sources)]
    env = {**os.environ, **tools.verilator()}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        raise SystemExit(1)
    return folder / "Vcore"


def run(
    program: Path,
    layout: Any,
    frames: Any,
    words: Any,
    *,
    pause: int,
    trace: bool,
    alone: bool = False,
    faults: Any = None,
) -> tuple[Any, dict[str, Any]]:
    """Results of input frames (a core that was disturbed may give none: -1 steps) and what was measured without the
    weight load: `cycles` and `seconds` of the run, and for each sample the `latency` in clocks from its first code in
    to its last code out, `relaxing` from its last code in to its first code out, and with faults what hardening reports
    of each: FAULTS as `flags`, and `corrected`. `alone`: a sample is sent when the result of the one before has come.
    `faults`: what native.cpp reads, a row for each sample."""
    # Not beside the program: several processes may run it at once.
    with tempfile.TemporaryDirectory(prefix="core-") as name:
        entering, leaving, disturbing = (Path(name) / f"{part}.bin" for part in ("in", "out", "faults"))
        with entering.open("wb") as file:
            np.array([len(frames), len(words)], np.int64).tofile(file)
            np.asarray(words, np.int64).tofile(file)
            np.asarray(frames, np.int64).tofile(file)
        argv = [str(program), str(entering), str(leaving), str(layout.steps), str(pause), str(int(trace))]
        argv.append(str(int(alone)))
        if faults is not None:
            np.asarray(faults, np.int64).tofile(disturbing)
            argv.append(str(disturbing))
        ended = subprocess.run(argv, capture_output=True, text=True, check=False)
        if ended.returncode:
            sys.stderr.write(ended.stderr)
            raise SystemExit(1)
        return read_runs(leaving, layout, len(frames), trace=trace)


def read_runs(path: Path, layout: Any, samples: int, *, trace: bool) -> tuple[Any, dict[str, Any]]:
    """What native.cpp has written of so many samples, as `run` returns it."""
    units = sum(s["units"] for s in layout.states)
    steps, y = np.zeros(samples, np.int64), np.zeros((samples, layout.y["count"]), np.int64)
    states = np.zeros((layout.steps if trace else 0, samples, units), np.int64)
    clocks = np.zeros((samples, 6), np.int64)
    with path.open("rb") as file:
        cycles, nanoseconds = np.fromfile(file, np.int64, 2)
        for sample in range(samples):
            steps[sample], rows = np.fromfile(file, np.int64, 2)
            clocks[sample] = np.fromfile(file, np.int64, clocks.shape[1])
            y[sample] = np.fromfile(file, np.int64, y.shape[1])
            if rows:
                traced = np.fromfile(file, np.int32, rows * units).reshape(rows, units)
                states[:rows, sample] = traced[: layout.steps]
                # A core that was disturbed may make more ticks than it should: the last one counts.
                states[min(rows, layout.steps) :, sample] = traced[-1]
                states[-1, sample] = traced[-1]
    ends = np.cumsum([s["units"] for s in layout.states])[:-1]
    named = zip((s["name"] for s in layout.states), np.split(states, ends, axis=2), strict=True) if trace else ()
    results = core_layout.Results(dict(named), y, steps)
    first_in, last_in, first_out, last_out, flags, corrected = clocks.T
    measured = {"latency": last_out - first_in + 1, "relaxing": first_out - last_in}
    measured |= {"flags": flags, "corrected": corrected}
    return results, {"cycles": int(cycles), "seconds": float(nanoseconds) * 1e-9, **measured}


def fault_rows(arrays: Any) -> Any:
    """The rows that native.cpp reads: `faults` `[samples, codes]`, each followed by the numbers of its `upsets` (number
    of the sample, ascending, word, unit, tick, flip, one, zero, add), `loads` (number of the sample, address, word,
    what is put back) and `flips` (number of the sample, site, number of the word, bits), and by them."""
    rows, lists = arrays["faults"], (arrays["upsets"], arrays["loads"], arrays["flips"])
    ends = [np.searchsorted(found[:, 0], np.arange(len(rows) + 1)) for found in lists]
    parts = []
    for number, row in enumerate(rows):
        mine = [found[end[number] : end[number + 1], 1:] for found, end in zip(lists, ends, strict=True)]
        parts += [row, [len(found) for found in mine], *(found.reshape(-1) for found in mine)]
    return np.concatenate(parts)


def compared(layout: Any, program: Path, words: Any) -> int:
    """Run the vectors with and without pauses; how many codes and counts differ."""
    arrays = core_layout.load_arrays(core_layout.FOLDER / "vectors" / "vectors.npz")
    want = layout.expected(arrays)
    differ = 0
    for pause in (0, 128):
        got, measured = run(program, layout, layout.frames(arrays), words, pause=pause, trace=layout.trace)
        pairs = [(want.y, got.y), (want.steps, got.steps), *((want.states[n], a) for n, a in got.states.items())]
        differ += sum(int((a != b).sum()) for a, b in pairs)
        codes = sum(a.size for a, _ in pairs)
        sys.stdout.write(
            f"{differ} of {codes} codes differ; {measured['cycles']} cycles at "
            f"{measured['cycles'] / measured['seconds'] / 1e6:.2f} M cycles/s\n"
        )
    return differ


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, help="folder for what is built (default build/native)")
    parser.add_argument("-i", "--input", type=Path, help="samples to run instead of the vectors")
    parser.add_argument("-o", "--output", type=Path, help="where their results go")
    parser.add_argument("--trace", action="store_true", help="write the states after every tick too")
    parser.add_argument("--clocks", action="store_true", help="with samples: run each of them alone too, to time it")
    parser.add_argument("--pause", type=int, default=0, help="share of clocks, in 1/256, in which the streams pause")
    parser.add_argument("--saboteurs", action="store_true", help="take the core with saboteurs; --faults does too")
    parser.add_argument("--build-only", action="store_true", help="build the core, and run nothing")
    parser.add_argument("--built", action="store_true", help="run what an earlier call has built in --build")
    parser.add_argument(
        "--serve", action="store_true", help="run once for each line on the standard input, and answer it"
    )
    parser.add_argument(
        "--faults", type=Path, help="what to inject: arrays `samples`, `faults`, `upsets`, `loads` and `flips`"
    )
    given = parser.parse_args(argv)
    if (given.input is None) != (given.output is None):
        parser.error("--input and --output go together")
    if given.faults is not None and given.input is None:
        parser.error("--faults needs --input and --output")
    injects = given.saboteurs or given.faults is not None
    traced = given.trace or (given.input is None and not given.build_only)
    layout = core_layout.Layout.read(traced=traced, injects=injects)
    folder = (given.build or core_layout.FOLDER / "build" / "native").resolve()
    try:
        program = folder / "Vcore" if given.built else build(layout, folder)
    except tools.MissingTool as error:
        sys.stderr.write(f"{error}\n")
        return 3
    if given.build_only:
        return 0
    # With saboteurs there is more room for weights, and so another layout of their memory; it starts with them.
    loads = layout.load_words and not layout.injects
    words = core_layout.load_arrays(core_layout.FOLDER / "weights.npz")["words"] if loads else []
    if given.input is None:
        return 1 if compared(layout, program, words) else 0
    for _ in sys.stdin if given.serve else (None,):
        sampled(given, layout, program, words)
        if given.serve:
            sys.stdout.write("done\n")
            sys.stdout.flush()
    return 0


def sampled(given: argparse.Namespace, layout: Any, program: Path, words: Any) -> None:
    """Run the samples of --input and write --output."""
    frames = layout.frames(core_layout.load_arrays(given.input))
    options: dict[str, Any] = {}
    if given.faults is not None:
        arrays = core_layout.load_arrays(given.faults)
        frames, options = frames[arrays["samples"]], {"alone": True, "faults": fault_rows(arrays)}
    results, measured = run(program, layout, frames, words, pause=given.pause, trace=given.trace, **options)
    details = {k: measured[k] for k in ("cycles", "seconds")}
    if given.faults is not None:
        details |= {k: measured[k] for k in ("latency", "flags", "corrected")}
    elif given.clocks:
        _, timed = run(program, layout, frames, words, pause=0, trace=False, alone=True)
        details |= {k: timed[k] for k in ("latency", "relaxing")}
    layout.write(given.output, results, details)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
