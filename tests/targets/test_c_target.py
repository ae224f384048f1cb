"""The target `c`: what the compiler, its sanitizers and an emulated core make of the emitted folder."""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance_nets import example
from emitting import emitted, refused, unchecked
from numpy.typing import NDArray
from strategies import random_inputs, random_net, small_net, with_formats

from eqcompile.quantization.lower import lower
from eqcompile.sim.c_runner import CortexMSimulator, HostSimulator
from eqcompile.targets.c.scalar import Scalar, lookup_index
from eqcompile.targets.c.target import CTarget
from eqcompile.toolchain import golden
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.diagnostics import SimulatorError, UsageError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import Format, Input, IntNet, Param, ops
from eqcompile.toolchain.ir.ranges import Interval

CHECKPOINTS = Path(__file__).parents[2] / "examples" / "checkpoints"
KERNELS = ("dense", "event")
PACKS = ("auto", "2bit", "5trit", "int8")
Codes = Mapping[str, NDArray[np.int64]]


def compiled(net: IntNet, folder: Path, **options: Any) -> Path:
    return emitted(CTarget(**options), net, folder).folder


def make(folder: Path, *goals: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-s", *goals], cwd=folder, capture_output=True, text=True, check=False)


def digits(name: str) -> IntNet:
    net = import_model(CHECKPOINTS / name).net
    return lower(net, QuantizeOptions(input_range=(0.0, 1.0)), calibration=None).net


def wide_net(low: int, high: int, units: int = 7) -> IntNet:
    """A loop whose weights take all codes from `low` to `high`."""
    weight = np.random.default_rng(units).integers(low, high, (units, units), endpoint=True)
    weight.reshape(-1)[:2] = low, high
    return small_net(weight.tolist(), table=list(range(-60, 61)), first=-60, steps=5)


def uniform(net: IntNet, seed: int, batch: int = 3) -> Codes:
    return random_inputs(net, random.Random(seed), batch=batch)


def agrees(net: IntNet, folder: Path, inputs: Codes) -> None:
    compare(
        golden.run(net, inputs), HostSimulator().run(unchecked(folder), inputs, trace=True, timeout_s=60.0)
    ).require()


# What the compiler says


@pytest.mark.simulator
@pytest.mark.parametrize("seed", range(16))
def test_random_nets_run_clean_under_the_sanitizers(tmp_path: Path, seed: int) -> None:
    """Warnings are errors, undefined behaviour and stray accesses abort, and each state of each tick is golden's; the
    vectors hold both ends of every input."""
    source = random.Random(seed)
    # Wide ones have runs of entries, which small ones never fill.
    net = random_net(source, spaces=("vector", "sites"), wide=True) if seed % 2 else random_net(source)
    folder = compiled(net, tmp_path / "c", kernel=KERNELS[seed // 2 % 2], pack=PACKS[seed // 2 % 4])
    done = make(folder, "check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rows", [2, 200, 70_000])
def test_tokens_have_a_type_that_holds_them(tmp_path: Path, rows: int) -> None:
    """A token that its type cuts would read another row of the embedding."""
    source = small_net([[1, 0], [0, 1]], table=[-3, -1, 0, 2, 3], first=-2, steps=2)
    params = (*source.params, Param("E", np.arange(2 * rows).reshape(rows, 2) % 5, "test"))
    inputs = (Input("t", (), "index", rows=rows),)
    step = (source.step[0], replace(source.step[1], b="e"), source.step[2])
    drive = (ops.Embedding(out="e", x="t", table="E"),)
    net = with_formats(
        replace(source, params=params, inputs=inputs, drive=drive, step=step, formats={"h": source.formats["h"]})
    )
    folder = emitted(CTarget(), net, tmp_path / "c").folder
    header = next(p for p in folder.glob("*.h")).read_text(encoding="utf-8")
    expected = {2: "uint8_t|int8_t", 200: "uint8_t|int16_t", 70_000: "u?int32_t"}[rows]
    assert re.search(rf"\b({expected}) t\b", header), header


@pytest.mark.simulator
@pytest.mark.parametrize("pack", PACKS)
def test_kernels_and_packings_give_the_same_states(tmp_path: Path, pack: str) -> None:
    """How weights are stored and which of them are added is a matter of bytes and time, never of bits."""
    net = digits("digits_ternary.pt")
    inputs = uniform(net, 1)
    for kernel in KERNELS:
        agrees(net, compiled(net, tmp_path / kernel, kernel=kernel, pack=pack), inputs)


@pytest.mark.simulator
@pytest.mark.parametrize("bits", [*range(2, 10), 17])
def test_weights_of_every_width(tmp_path: Path, bits: int) -> None:
    """Both ends of the codes of a width survive the packing."""
    net = wide_net(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    agrees(net, compiled(net, tmp_path / "c"), uniform(net, bits))


def test_bytes_of_the_packings(tmp_path: Path) -> None:
    """A 20 by 20 matrix: 20 columns of 5, 4, 20 bytes; of 3-bit codes 4 words of 16 bits a column."""
    ternary, narrow = wide_net(-1, 1, 20), wide_net(-4, 3, 20)
    cases = {("2bit", ternary): 100, ("5trit", ternary): 80, ("int8", ternary): 400, ("auto", narrow): 160}
    for number, ((pack, net), size) in enumerate(cases.items()):
        artifact = emitted(CTarget(pack=pack), net, tmp_path / str(number))  # type: ignore[arg-type]
        assert artifact.manifest.details["matrices"]["W"]["bytes"] == size  # type: ignore[call-overload,index]


@pytest.mark.simulator
def test_names_that_c_has_taken(tmp_path: Path) -> None:
    """A net may call its values what it likes: keywords of C, variables of the generated code, letters beyond ASCII."""
    net = small_net([[1, -1], [0, 1]], table=[-3, -1, 0, 2, 3], first=-2, steps=4)
    add, lookup = net.step[1], net.step[2]
    assert isinstance(add, ops.Add)
    assert isinstance(lookup, ops.Lookup)
    step = (replace(net.step[0], out="delta"), replace(add, out="int", a="delta"), replace(lookup, out="ü", x="int"))
    states = (replace(net.states[0], update="ü"),)
    formats = {n: f for n, f in net.formats.items() if n in ("h", "x")}
    renamed = with_formats(replace(net, step=step, states=states, formats=formats))
    agrees(renamed, compiled(renamed, tmp_path / "c", prefix="static_net"), uniform(renamed, 1))


# Memory


@pytest.mark.simulator
@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_totals_are_those_of_the_linker(tmp_path: Path, kernel: str, pack: str) -> None:
    """A total that is computed and never checked is a guess: the map of the Cortex-M program has both."""
    folder = compiled(digits("digits_ternary.pt"), tmp_path / "c", kernel=kernel, pack=pack)
    done = make(folder, "cortex-m", "size")
    assert done.returncode == 0, done.stderr
    header = (folder / "eq.h").read_text(encoding="utf-8")
    stated = {k: int(v) for k, v in re.findall(r"#define EQ_(RAM|FLASH)_BYTES (\d+)", header)}
    linked = (folder / "build" / "cortex-m.map").read_text(encoding="utf-8")
    found = {
        kind: int(re.findall(rf"{section}\s+0x[0-9a-f]+\s+0x([0-9a-f]+)", linked)[-1], 16)
        for kind, section in (("RAM", r"\.bss\.state"), ("FLASH", r"\.rodata\.data"))
    }
    assert stated == found
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert f"| RAM | {stated['RAM']} |" in readme
    assert f"| flash | {stated['FLASH']} |" in readme
    # Text of the object file: the constants and the code, no data, no memory of its own.
    text, data, bss = map(int, done.stdout.splitlines()[1].split()[:3])
    assert (data, bss) == (0, 0)
    assert stated["FLASH"] < text < stated["FLASH"] + 4096


@pytest.mark.simulator
@pytest.mark.parametrize("kind", ["RAM", "FLASH"])
def test_a_wrong_total_stops_the_compiler(tmp_path: Path, kind: str) -> None:
    """The check in the source is one that can fail."""
    folder = compiled(wide_net(-8, 7), tmp_path / "c")
    header = folder / "eq.h"
    text = header.read_text(encoding="utf-8")
    header.write_text(re.sub(rf"({kind}_BYTES) (\d+)", r"\1 1\2", text), encoding="utf-8")
    assert f"{kind.lower()}_is_as_stated" in make(folder, "host").stderr


# Faults


MUTANTS = {
    "ties down": ("+ origin + half)", "+ origin + half - 1)"),
    "domain of the table": ("x < lowest ? lowest", "x < lowest ? highest"),
    "what was seen is not kept": ("_seen[i0] = (int8_t)now;", "_seen[i0] = s->recurrent_linear_seen[i0];"),
    "states of the last sample": ("    s->started[0] = 0;\n", "    s->started[0] = s->started[0];\n"),
    "settles at once": ("(uint8_t)(now ^ old));", "(uint8_t)(now ^ now));"),
    "sign": ("? delta : -delta", "? delta : delta"),
    "a run without changes": ("    if (changed != 0) {", "    if (changed > 9) {"),
    "entry of another run": ("data.new_entries[at[i0 - run]]", "data.new_entries[at[0]]"),
    "a plane": ("((uint32_t)w[j] >> 2) & 3u", "((uint32_t)w[j] >> 4) & 3u"),
}


@pytest.mark.simulator
def test_mutants_of_the_source_are_caught(tmp_path: Path) -> None:
    """Vectors that pass a wrong program prove nothing about a right one."""
    folder = compiled(digits("digits_ternary.pt"), tmp_path / "c")
    source = folder / "eq.c"
    text = source.read_text(encoding="utf-8")
    assert make(folder, "test").returncode == 0
    survivors = []
    for name, (old, new) in MUTANTS.items():
        assert text.count(old) >= 1, name
        source.write_text(text.replace(old, new, 1), encoding="utf-8")
        done = make(folder, "-B", "test", "OPTIMIZE=-O1", "WARN=-std=c99")
        assert (folder / "build" / "found.txt").exists()
        if done.returncode == 0:
            survivors.append(name)
    assert survivors == []


UNSIGNED_MUTANTS = {
    "the register has a sign": ("eq.h", "uint8_t h[3];", "int8_t h[3];"),
    "the latch has a sign": ("eq.c", "s->h[i0] = (uint8_t)now;", "s->h[i0] = (uint8_t)(now & 0x7f);"),
    "the table has a sign": ("eq.c", "uint8_t T[6];", "int8_t T[6];"),
}


@pytest.mark.simulator
def test_a_sign_in_a_state_without_one_is_caught(tmp_path: Path) -> None:
    """A register of the right width and the wrong type holds half of the codes right."""
    folder = compiled(example("unsigned")[0], tmp_path / "c")
    assert make(folder, "test").returncode == 0
    survivors = []
    for name, (file, old, new) in UNSIGNED_MUTANTS.items():
        text = (folder / file).read_text(encoding="utf-8")
        assert text.count(old) == 1, name
        (folder / file).write_text(text.replace(old, new), encoding="utf-8")
        done = make(folder, "-B", "test", "OPTIMIZE=-O1", "WARN=-std=c99")
        assert (folder / "build" / "found.txt").exists()
        if done.returncode == 0:
            survivors.append(name)
        (folder / file).write_text(text, encoding="utf-8")
    assert survivors == []


@pytest.mark.simulator
def test_the_stack_is_stated(tmp_path: Path) -> None:
    """A memory plan without the stack is short by it; a frame of unknown size would make the bound wrong."""
    net = digits("digits_ternary.pt")
    folder = compiled(net, tmp_path / "c")
    done = make(folder, "stack")
    frames = [line.split("\t") for line in (folder / "build" / "stack.su").read_text(encoding="utf-8").splitlines()]
    assert {kind for _, _, kind in frames} == {"static"}
    total = sum(int(size) for _, size, _ in frames)
    assert f"{total} bytes of stack at most" in done.stdout
    assert 0 < total < 1024
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "| stack | `make stack` |" in text
    # Verification states the total with it.
    run = HostSimulator().run(unchecked(folder), uniform(net, 1), trace=False, timeout_s=60.0)
    figures = unchecked(folder).manifest.details
    assert run.details["stack_bytes"] == total
    assert run.details["ram_bytes"] == figures["ram_bytes"] + figures["io_bytes"] + total  # type: ignore[operator]


@pytest.mark.simulator
def test_hostile_input_is_refused(tmp_path: Path) -> None:
    """A code outside of its format would void every proved width: the program says so and does not run it."""
    net = replace(wide_net(-8, 7, 2), formats={"h": Format(8, True)})
    narrow = replace(net.inputs[0].encoding, format=Format(4, True))  # type: ignore[type-var]
    net = with_formats(replace(net, inputs=(replace(net.inputs[0], encoding=narrow),)))
    folder = compiled(net, tmp_path / "c")
    assert make(folder, "build/checked").returncode == 0
    cases = {
        "1 1 0\n-8 7\n": 0,
        "1 1 0\n-9 0\n": 2,
        "1 1 0\n0 8\n": 2,
        "1 1 0\n0\n": 2,
        "1 1 0\n0 99999999999999999999999999\n": 2,
        "1 1 0\n0 x\n": 2,
        "1 2 0\n0 0\n0 0\n": 2,
        "": 2,
    }
    program = folder / "build" / "checked"
    for text, status in cases.items():
        done = subprocess.run([program], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == status, text
    # Who calls the function itself is told too, and what was there stays.
    probe = '#include "eq.h"\nint main(void){static eq_state s; static eq_output o; const eq_input i = {{9, 0}};\n'
    probe += "return eq_run(&s, &i, &o) != 0 || eq_clamp(&s, &i) != -1;}\n"
    (folder / "probe.c").write_text(probe, encoding="utf-8")
    subprocess.run(["gcc", "-std=c99", "probe.c", "eq.c", "-o", "probe"], cwd=folder, check=True)
    assert subprocess.run([folder / "probe"], check=False).returncode == 0


def test_a_repeat_is_a_loop_of_its_count(tmp_path: Path) -> None:
    """Would break if the loop were not written, or made another number of rounds: seen before any compiler runs."""
    nets = (random_net(random.Random(seed), spaces=("vector",), extras=("repeat",)) for seed in range(20))
    net = next(net for net in nets if any(isinstance(op, ops.Repeat) for op in net.step))
    text = "".join(p.read_text() for p in compiled(net, tmp_path).rglob("*.c"))
    bounds = {
        m[1]: int(m[2]) for m in re.finditer(r"for \(int (\w+)_count = 0; \1_count < (\d+); \1_count\+\+\) \{", text)
    }
    assert bounds == {op.out: op.count for op in net.all_ops() if isinstance(op, ops.Repeat)}


@pytest.mark.parametrize("first", [-3, 0, 1, 2, 2**31 - 4])
def test_a_table_is_read_from_its_first_entry(first: int) -> None:
    """A table that starts at 1, read as one that starts at 0; the expression means the same in C and in Python."""
    op, used = ops.Lookup(out="y", x="x", table="T", first=first), list[str]()
    text = lookup_index(op, Scalar("x", Interval(first - 9, first + 9)), 5, used.append)
    bits = 32 if first < 2**30 else 64
    assert used == [f"clamp{bits}"]
    clamp = {f"clamp{bits}": lambda x, low, high: min(max(x, low), high)}
    for x in range(first - 9, first + 10):
        code = re.sub(r"INT64_C\((-?\d+)\)", r"\1", text.replace(f"(int{bits}_t)", ""))
        assert eval(code, {"x": x, **clamp}) == min(max(x - first, 0), 4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_header_says_which_sums_stay(tmp_path: Path, kernel: str) -> None:
    """A reader who clears the sums of an event kernel between ticks, as those of a dense one may be."""
    net = wide_net(-1, 1)
    text = "".join(p.read_text() for p in compiled(net, tmp_path, kernel=kernel).rglob("*.h"))
    assert ("accumulators of" in text) == (kernel == "event")


def test_what_later_ticks_read_is_kept_and_nothing_else(tmp_path: Path) -> None:
    """A value of the drive in memory that a tick writes over, or scratch memory that each instance would keep."""
    net = wide_net(-1, 1)
    step = tuple(replace(op, b="d") if isinstance(op, ops.Add) else op for op in net.step)
    net = with_formats(replace(net, drive=(ops.Abs(out="d", x="x"),), step=step))
    header = next(p for p in compiled(net, tmp_path, kernel="dense").rglob("eq.h")).read_text()
    kept, scratch = header.split("/* States,")[1].split("eq_state;")[0].split("union")
    fields = [set(re.findall(r"(\w+)\[7\];", part)) for part in (kept, scratch)]
    assert {"h", "d"} <= fields[0]
    assert "y" in fields[1]
    assert not fields[0] & fields[1]


def test_what_the_target_refuses() -> None:
    """Sums that leave a word on the way, though their end is proved to fit it."""
    net = small_net([[1, 2], [-1, 1]], table=[-3, -1, 0, 2, 3], first=-2, steps=4)
    # The lowest sum is -2**62, the last that a value may have.
    large = np.array([[1 << 54, 1 << 54], [0, 0]])
    params = tuple(Param("W", large, "t") if p.name == "W" else p for p in net.params)
    formats = {n: f for n, f in net.formats.items() if n in ("h", "x")}
    step = (net.step[0], replace(net.step[2], x="w"))
    wide = with_formats(replace(net, params=params, formats=formats, step=step))  # type: ignore[arg-type]
    assert [d.code for d in refused(CTarget(), wide)] == ["c-width"]
    illegal = replace(net, step=(*net.step[:2], ops.Activation(out="y", x="a", kind="tanh")))
    assert [d.code for d in refused(CTarget(), illegal)] == ["ir-illegal"]
    with pytest.raises(UsageError, match="prefix is '9lives', must match"):
        CTarget(prefix="9lives")


# The simulators


@pytest.mark.simulator
def test_the_emulated_core_gives_the_same_logits(tmp_path: Path) -> None:
    """Another instruction set, 32-bit words, no library: every state and the logits are golden's, in each packing."""
    for name, pack in (("ternary", "auto"), ("ternary", "2bit"), ("ternary", "5trit"), ("looped", "auto")):
        net = digits(f"digits_{name}.pt")
        inputs = uniform(net, 1, batch=2)
        folder = compiled(net, tmp_path / f"{name}-{pack}", pack=pack)
        found = CortexMSimulator().run(unchecked(folder), inputs, trace=True, timeout_s=60.0)
        compare(golden.run(net, inputs), found).require()
        assert make(folder, "test-cortex-m").returncode == 0


@pytest.mark.simulator
def test_a_program_that_does_not_build_or_print_is_reported(tmp_path: Path) -> None:
    """The compiler's words reach the user; a program that writes less than it should is no result."""
    net = wide_net(-8, 7)
    folder = compiled(net, tmp_path / "c")
    main = folder / "main.c"
    text = main.read_text(encoding="utf-8")
    main.write_text(text.replace('put("steps");', ""), encoding="utf-8")
    with pytest.raises(SimulatorError, match="expected 'steps"):
        HostSimulator().run(unchecked(folder), uniform(net, 1), trace=True, timeout_s=60.0)
    main.write_text(text + "\nwires crossed;\n", encoding="utf-8")
    with pytest.raises(SimulatorError, match="wires"):
        HostSimulator().run(unchecked(folder), uniform(net, 1), trace=True, timeout_s=60.0)
