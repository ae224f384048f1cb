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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
# An isolated interpreter (python -I) does not look beside the script by itself.
sys.path.insert(0, str(HERE))

import numpy as np  # noqa: E402
import tools  # type: ignore[import-not-found]  # noqa: E402
from layout import FOLDER, Codes, Layout, Results, held, load_arrays  # type: ignore[import-not-found]  # noqa: E402

VERILATOR_ARGS = (
    *("--cc", "--exe", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "--no-timing"),
    # Amaranth writes exact arithmetic whose operands differ in width on purpose.
    *("-Wno-WIDTH", "-Wno-fatal", "--top-module", "core", "--Mdir", "."),
)
MAKE_ARGS = (
    *("-f", "Vcore.mk", "OPT_FAST=-O2", "VM_PARALLEL_BUILDS=1"),
    *("VM_CLASSES_FAST=fast", "VM_CLASSES_SLOW=slow", "VM_SUPPORT_FAST=", "VM_SUPPORT_SLOW="),
    # For two files Verilator's headers need not be compiled ahead of them, twice.
    *("VK_PCH_H=core_layout.h", "VK_PCH_I_FAST=", "VK_PCH_I_SLOW="),
)
IDLE_LIMIT = 1 << 26
"""Clocks without a code in or out after which the core is taken for dead."""


def header(layout: Layout) -> str:
    """core_layout.h: the layout as C++ constants."""
    states = [f"{{{s['units']}, {s['bits']}, {int(s['signed'])}}}" for s in layout.states]
    defines = "#define TRACED" if layout.trace else ""
    defines += "\n#define INJECTS" if layout.injects else ""
    defines += "\n#define SEQUENCES" if layout.sequence else ""
    outside = ""
    if layout.memory is not None:
        defines += "\n#define STREAMS"
        outside = f"constexpr int kMemoryBytes = {layout.memory['bits'] // 8};\n"
        outside += f'constexpr const char* kMemoryFile = "{layout.memory["file"]}";\n'
        outside += f"constexpr uint32_t kWeightsRegister = {layout.registers['WEIGHTS_BASE']};\n"
    hardened = ""
    if layout.injects and layout.inject is not None and (flags := layout.inject["flags"]):
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
constexpr bool kEvery = {str(layout.sequence == "every").lower()};
constexpr int kXBits = {8 * layout.x["bytes"]};
constexpr int kYBits = {8 * layout.y["bytes"]};
constexpr bool kYSigned = {str(layout.y["signed"]).lower()};
constexpr int64_t kIdleLimit = {IDLE_LIMIT};
constexpr uint32_t kStepsRegister = {layout.registers["STEPS"]};
constexpr uint32_t kFramesRegister = {layout.registers.get("FRAMES", 0)};
constexpr uint32_t kLoadAddressRegister = {layout.registers.get("LOAD_ADDRESS", 0)};
constexpr uint32_t kLoadDataRegister = {layout.registers.get("LOAD_DATA", 0)};
{hardened}{outside}"""


def build(layout: Layout, folder: Path) -> Path:
    """Compile the core and its driver in `folder`; the program. SystemExit with the compiler's words if it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "core_layout.h").write_text(header(layout), encoding="utf-8")
    sources = tools.copied(layout.sources, folder)
    tools.copied([HERE / "native.cpp"], folder)
    for path in folder.glob("Vcore*"):
        path.unlink()
    env = {**os.environ, **tools.verilator()}
    run_tool(["verilator", *VERILATOR_ARGS, *(path.name for path in sources)], folder, env)
    # What runs in every clock in one file, what runs once in another: each of Verilator's files includes all headers,
    # which take longer to compile than it does.
    parts: dict[str, list[str]] = {"fast": ["native.cpp"], "slow": []}
    for path in sorted(folder.glob("Vcore*.cpp")):
        # Those but include others.
        if "_vm_classes_" not in path.name:
            parts["slow" if path.stem.endswith("Slow") else "fast"].append(path.name)
    for name, files in parts.items():
        text = "".join(f'#include "{file}"\n' for file in files)
        (folder / f"{name}.cpp").write_text(text, encoding="utf-8")
    run_tool(["make", *MAKE_ARGS, "Vcore"], folder, env)
    return folder / "Vcore"


def run_tool(argv: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
    """Run a tool in the folder. SystemExit with its words if it fails."""
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        raise SystemExit(1)


@dataclass(frozen=True)
class Measured:
    """What was measured of a run without the weight load: `cycles` and `seconds`; for each sample the `latency` in
    clocks from its first code in to its last code out, and `relaxing` from its last code in to its first code out; with
    faults what hardening reports of each: FAULTS as `flags`, and `corrected`."""

    cycles: int
    seconds: float
    latency: Codes
    relaxing: Codes
    flags: Codes
    corrected: Codes

    def chosen(self, *names: str) -> dict[str, object]:
        """Some of it, by name."""
        return {name: getattr(self, name) for name in names}


def run(
    program: Path,
    layout: Layout,
    samples: Codes,
    words: Sequence[int],
    *,
    pause: int,
    trace: bool,
    alone: bool = False,
    faults: Codes | None = None,
) -> tuple[Results, Measured]:
    """Results of samples `[samples, frames, codes]` (a core that was disturbed may give none: -1 steps) and what was
    measured. `alone`: a sample is sent when the result of the one before has come. `faults`: what native.cpp reads, a
    row for each sample."""
    frames = samples.shape[1]
    # Not beside the program: several processes may run it at once.
    with tempfile.TemporaryDirectory(prefix="core-") as name:
        entering, leaving, disturbing = (Path(name) / f"{part}.bin" for part in ("in", "out", "faults"))
        with entering.open("wb") as file:
            np.array([len(samples), len(words), frames], np.int64).tofile(file)
            np.asarray(words, np.int64).tofile(file)
            np.asarray(samples, np.int64).tofile(file)
        argv = [str(program), str(entering), str(leaving), str(layout.steps), str(pause), str(int(trace))]
        argv.append(str(int(alone)))
        if faults is not None:
            np.asarray(faults, np.int64).tofile(disturbing)
            argv.append(str(disturbing))
        # Memories start with files of this folder.
        ended = subprocess.run(argv, cwd=FOLDER, capture_output=True, text=True, check=False)
        if ended.returncode:
            sys.stderr.write(ended.stderr)
            raise SystemExit(1)
        return read_runs(leaving, layout, len(samples), frames, trace=trace)


def read_runs(path: Path, layout: Layout, samples: int, frames: int, *, trace: bool) -> tuple[Results, Measured]:
    """What native.cpp has written of so many samples, as `run` returns it."""
    units = sum(s["units"] for s in layout.states)
    steps = np.zeros(samples, np.int64)
    y = np.zeros((samples, layout.results(frames) * layout.y["count"]), np.int64)
    states = np.zeros((frames * layout.steps if trace else 0, samples, units), np.int64)
    clocks = np.zeros((samples, 6), np.int64)
    with path.open("rb") as file:
        cycles, nanoseconds = np.fromfile(file, np.int64, 2)
        for sample in range(samples):
            steps[sample], rows = np.fromfile(file, np.int64, 2)
            clocks[sample] = np.fromfile(file, np.int64, clocks.shape[1])
            y[sample] = np.fromfile(file, np.int64, y.shape[1])
            if rows:
                traced = np.fromfile(file, np.int32, rows * (units + 1)).reshape(rows, units + 1)
                states[:, sample] = held([(row[0], row[1:]) for row in traced], layout.steps, frames)
                # A core that was disturbed may make more ticks than it should: the last one counts.
                states[-1, sample] = traced[-1, 1:]
    ends = np.cumsum([s["units"] for s in layout.states])[:-1]
    named = zip((s["name"] for s in layout.states), np.split(states, ends, axis=2), strict=True) if trace else ()
    first_in, last_in, first_out, last_out, flags, corrected = clocks.T
    latency, relaxing = last_out - first_in + 1, first_out - last_in
    measured = Measured(int(cycles), float(nanoseconds) * 1e-9, latency, relaxing, flags, corrected)
    return Results(dict(named), y, steps), measured


def fault_rows(arrays: Mapping[str, Codes]) -> Codes:
    """The rows that native.cpp reads: `faults` `[samples, codes]`, each followed by the numbers of its `upsets` (number
    of the sample, ascending, word, unit, tick, flip, one, zero, add), `loads` (number of the sample, address, word,
    what is put back) and `flips` (number of the sample, site, number of the word, bits), and by them."""
    rows, lists = arrays["faults"], (arrays["upsets"], arrays["loads"], arrays["flips"])
    ends = [np.searchsorted(entries[:, 0], np.arange(len(rows) + 1)) for entries in lists]
    parts = []
    for number, row in enumerate(rows):
        mine = [entries[end[number] : end[number + 1], 1:] for entries, end in zip(lists, ends, strict=True)]
        parts += [row, np.array([len(entries) for entries in mine]), *(entries.reshape(-1) for entries in mine)]
    return np.concatenate(parts)


def compared(layout: Layout, program: Path, words: Sequence[int]) -> int:
    """Run the vectors with and without pauses; how many codes and counts differ."""
    arrays = load_arrays(FOLDER / "vectors" / "vectors.npz")
    want = layout.expected(arrays)
    differ = 0
    for pause in (0, 128):
        got, measured = run(program, layout, layout.samples(arrays), words, pause=pause, trace=layout.trace)
        pairs = [(want.y, got.y), (want.steps, got.steps), *((want.states[n], a) for n, a in got.states.items())]
        differ += sum(int((a != b).sum()) for a, b in pairs)
        codes = sum(a.size for a, _ in pairs)
        sys.stdout.write(
            f"{differ} of {codes} codes differ; {measured.cycles} cycles at "
            f"{measured.cycles / measured.seconds / 1e6:.2f} M cycles/s\n"
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
    options = parser.parse_args(argv)
    if (options.input is None) != (options.output is None):
        parser.error("--input and --output go together")
    if options.faults is not None and options.input is None:
        parser.error("--faults needs --input and --output")
    injects = options.saboteurs or options.faults is not None
    traced = options.trace or (options.input is None and not options.build_only)
    layout = Layout.read(traced=traced, injects=injects)
    folder = (options.build or FOLDER / "build" / "native").resolve()
    try:
        program = folder / "Vcore" if options.built else build(layout, folder)
    except tools.MissingTool as error:
        sys.stderr.write(f"{error}\n")
        return 3
    if options.build_only:
        return 0
    # With saboteurs there is more room for weights, and so another layout of their memory; it starts with them.
    loads = layout.load_words and not layout.injects
    words = load_arrays(FOLDER / "weights.npz")["words"] if loads else []
    if options.input is None:
        return 1 if compared(layout, program, words) else 0
    for _ in sys.stdin if options.serve else (None,):
        run_samples(options, layout, program, words)
        if options.serve:
            sys.stdout.write("done\n")
            sys.stdout.flush()
    return 0


def run_samples(options: argparse.Namespace, layout: Layout, program: Path, words: Sequence[int]) -> None:
    """Run the samples of --input and write --output."""
    samples, faults = layout.samples(load_arrays(options.input)), None
    if options.faults is not None:
        arrays = load_arrays(options.faults)
        samples, faults = samples[arrays["samples"]], fault_rows(arrays)
    disturbed = faults is not None
    results, measured = run(
        program, layout, samples, words, pause=options.pause, trace=options.trace, alone=disturbed, faults=faults
    )
    details = measured.chosen("cycles", "seconds")
    if disturbed:
        details |= measured.chosen("latency", "flags", "corrected")
    elif options.clocks:
        _, timed = run(program, layout, samples, words, pause=0, trace=False, alone=True)
        details |= timed.chosen("latency", "relaxing")
    layout.write(options.output, results, details)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
