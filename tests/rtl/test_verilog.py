"""The writer of Verilog: the same function as Yosys sees in Amaranth's own output, as text that both standards take."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from amaranth import Array, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.back import rtlil
from amaranth.lib.memory import Memory
from rtl_mutant_nets import subjects

from eqcompile.rtl.verilog import emit_verilog
from eqcompile.targets.rtl.emit import shell_of
from eqcompile.targets.rtl.synth.tools import Deadline, run_tool
from eqcompile.targets.rtl.templates.tools import verilator

pytestmark = [pytest.mark.simulator, pytest.mark.xdist_group("rtl_netlist")]

WAIVED = {
    "DECLFILENAME": "one file holds all modules",
    "VARHIDDEN": "arguments of a function are called after the signals that it is given",
    "WIDTHEXPAND": "sums and products are exact: Verilog extends the operands to the width of the result",
    "UNUSEDSIGNAL": "AXI has bits that this core has no use for, and a slice need not take all of a word",
}


def operations() -> tuple[Module, list[Signal]]:
    """A result for each operator in several widths and signs, alone, nested and in choices."""
    m = Module()
    a, b, c = Signal(5, name="a"), Signal(signed(4), name="b"), Signal(3, name="c")
    s, t = Signal(name="s"), Signal(name="table")
    results = [
        *(a + b, a - b, a * b, b * b, b - c, -b, -a, ~a, a & b, a | c, a ^ b, a << c, b << c, a >> c, b >> c),
        *(a < b, a <= b, a > c, a >= c, a == b, b != c, a >= 0, b < -3, b == -8, a == 31, (a < b) ^ (b < c)),
        *(a.any(), a.all(), b.xor(), ~s, s & t, s | ~t, ~(s & ~(t | (a == b))), s ^ t, Mux(s, t, a[0])),
        *(Mux(s, a, b), Mux(a < c, b, c), Mux(s & (a == 3), a + 1, Mux(t, b, 0)), (a == b) + b, (s & t) + a + 1),
        *(a.bit_select(c, 2), Cat(a, b).word_select(c[:2], 4), b.bit_select(c, 3), Array([a, b, c, 9])[c]),
        *(Cat(a, a, b[3], b[3], s & t), (a + 1)[:5], (b * a)[2:6], (b + Const(-8, 4)) >> 1, abs(b), Cat(s, t) == 2),
    ]
    outs = []
    for number, value in enumerate(results):
        shape = value.shape()
        outs.append(out := Signal(shape, name=f"y{number}"))
        m.d.comb += out.eq(value)
    chosen, parts, only = Signal(6, name="chosen"), Signal(6, name="parts", init=5), Signal(4, name="only")
    with m.If(s & (a > c)), m.Switch(a):
        with m.Case(1, 2):
            m.d.comb += chosen.eq(a + b)
        with m.Case("1--01"):
            m.d.comb += chosen.eq(c)
        with m.Case(31):
            pass
        with m.Default():
            m.d.comb += chosen.eq(-b)
    with m.Elif(~t):
        m.d.comb += [chosen.eq(7), parts[2:4].eq(c)]
        with m.If(c[1]):
            m.d.comb += parts[3].eq(t)
    with m.Switch(c):
        for value in range(7):
            with m.Case(value):
                m.d.comb += only.eq(value * 5)
    outs += [chosen, parts, only]
    return m, [a, b, c, s, t, *outs]


def registers() -> tuple[Module, list[Signal]]:
    """Registers with every kind of reset and enable, memories, modules inside."""
    m = Module()
    a, s, t = Signal(4, name="a"), Signal(name="s"), Signal(name="t")
    count, kept, late = Signal(4, init=3, name="count"), Signal(signed(5), init=-2, name="kept"), Signal(name="late")
    m.d.sync += late.eq(s)
    with m.If(s):
        m.d.sync += count.eq(count + a)
    with m.Elif(t & (a == 2)):
        m.d.sync += count[1:3].eq(a)
    with m.If(t):
        m.d.sync += kept.eq(kept - a)
    with m.If(a == 9):
        m.d.sync += [kept.eq(1), count.eq(0)]
    words, table = Memory(shape=unsigned(6), depth=16, init=[5, 9]), Memory(shape=unsigned(3), depth=8, init=range(8))
    m.submodules.words, m.submodules.table = words, table
    write, read, look = words.write_port(granularity=3), words.read_port(), table.read_port(domain="comb")
    shown, looked = Signal(6, name="shown"), Signal(3, name="looked")
    m.d.comb += [write.addr.eq(a), write.data.eq(Cat(count, s, t)), write.en.eq(Cat(s, t)), read.addr.eq(count)]
    m.d.comb += [shown.eq(read.data), look.addr.eq(a), looked.eq(look.data)]
    return m, [a, s, t, count, kept, late, shown, looked]


DESIGNS = {"operations": operations, "registers": registers}
PROVE = """\
read_rtlil gold.il
hierarchy -top top
proc
flatten
memory -nordff
design -stash gold
read_verilog {mode} gate.v
hierarchy -check -top top
proc
flatten
memory -nordff
design -stash gate
design -copy-from gold -as gold top
design -copy-from gate -as gate top
miter -equiv -flatten -make_outputs gold gate miter
hierarchy -top miter
opt_clean
sat -verify -tempinduct-baseonly -prove trigger 0 -set-init-zero -seq 1 -maxsteps 8 miter
"""


def proof(folder: Path, text: str, gold: str, *, mode: str = "") -> tuple[int, str]:
    folder.mkdir(exist_ok=True)
    (folder / "gold.il").write_text(gold, encoding="utf-8")
    (folder / "gate.v").write_text(text, encoding="utf-8")
    (folder / "prove.ys").write_text(PROVE.format(mode=mode), encoding="utf-8")
    return run_tool("yosys", ["-q", "prove.ys"], cwd=folder, deadline=Deadline.after(300.0))


@pytest.mark.parametrize("mode", ["", "-sv"])
@pytest.mark.parametrize("name", DESIGNS)
def test_the_text_computes_what_amaranth_says(name: str, mode: str, tmp_path: Path) -> None:
    """A width or sign that Verilog takes otherwise than Amaranth does is a wrong core."""
    (m, ports), (again, again_ports) = DESIGNS[name](), DESIGNS[name]()
    text = emit_verilog(m, ports=ports)
    status, log = proof(tmp_path / "one", text, rtlil.convert(again, ports=again_ports, emit_src=False), mode=mode)
    assert status == 0, log


MUTANTS = (
    ("$signed(b) < -4'sd3", "b < 4'd13"),
    (" + ", " - "),
    ("a >= c", "a > c"),
    (">>> c", ">> c"),
    ("5'b1??01", "5'b1??11"),
    ("parts_of[3] =", "parts_of[2] ="),
)


@pytest.mark.parametrize(("right", "wrong"), MUTANTS)
def test_another_function_is_noticed(right: str, wrong: str, tmp_path: Path) -> None:
    """A proof that holds for any text proves nothing."""
    (m, ports), (again, again_ports) = operations(), operations()
    text = emit_verilog(m, ports=ports)
    assert right in text
    gold = rtlil.convert(again, ports=again_ports, emit_src=False)
    status, _ = proof(tmp_path / "one", text.replace(right, wrong, 1), gold)
    assert status != 0


def test_no_address_is_past_the_end_of_a_memory(tmp_path: Path) -> None:
    """What is read there is X in one simulator and a word in the next; an upset of a counter may bring it there."""
    m, at, write = Module(), Signal(3, name="at"), Signal(name="write")
    words, table = (
        Memory(shape=unsigned(4), depth=5, init=[7]),
        Memory(shape=unsigned(4), depth=5, init=[1, 2, 3, 4, 5]),
    )
    m.submodules.words, m.submodules.table = words, table
    port, read, look = words.write_port(), words.read_port(domain="comb"), table.read_port(domain="comb")
    shown, looked = Signal(4, name="shown"), Signal(4, name="looked")
    m.d.comb += [port.addr.eq(at), port.data.eq(at), port.en.eq(write), read.addr.eq(at), look.addr.eq(at)]
    m.d.comb += [shown.eq(read.data), looked.eq(look.data)]
    text = emit_verilog(m, ports=[at, write, shown, looked])
    assert len(re.findall(r"\[0:7\];", text)) == 2
    (tmp_path / "core.v").write_text(text, encoding="utf-8")
    bench = """\
module bench;
  reg clk = 0, rst = 0, write = 0;
  reg [2:0] at = 0;
  wire [3:0] shown, looked;
  top top(.clk(clk), .rst(rst), .at(at), .write(write), .shown(shown), .looked(looked));
  integer i;
  initial for (i = 0; i < 8; i = i + 1) begin at = i; #1 $display("%b %b", shown, looked); end
endmodule
"""
    (tmp_path / "bench.v").write_text(bench, encoding="utf-8")
    subprocess.run(["iverilog", "-o", "bench", "bench.v", "core.v"], cwd=tmp_path, check=True)
    done = subprocess.run(["vvp", "bench"], cwd=tmp_path, check=True, capture_output=True, text=True)
    rows = [[int(word, 2) for word in line.split()] for line in done.stdout.splitlines()]
    assert rows == [[7, 1], [0, 2], [0, 3], [0, 4], [0, 5], [0, 5], [0, 5], [0, 5]]


def test_a_read_that_shows_what_is_being_written_is_refused() -> None:
    """Written as another read, it would give the word before."""
    m, shown = Module(), Signal(4, name="shown")
    m.submodules.words = words = Memory(shape=unsigned(4), depth=4, init=[])
    write = words.write_port()
    m.d.comb += shown.eq(words.read_port(transparent_for=[write]).data)
    with pytest.raises(NotImplementedError, match="what is being written"):
        emit_verilog(m, ports=[write.addr, write.data, write.en, shown])


@pytest.mark.parametrize("arch", ["serial", "parallel", "lattice"])
def test_no_core_reads_past_the_end_of_a_memory(arch: str) -> None:
    """The law above, on whole cores: their counters stand past the last word in clocks in which nobody reads it."""
    for subject in subjects(arch):
        text = emit_verilog(shell_of(subject.net, subject.architecture, trace=False), name="core")
        ends = [int(end) for end in re.findall(r"\[0:(\d+)\];", text)]
        assert ends
        assert all(end & (end + 1) == 0 for end in ends)


def test_signals_that_synthesis_must_keep_are_marked() -> None:
    """Without the mark Yosys makes sums of many operands of the adders of the parallel core: twice the LUTs."""
    subject = subjects("parallel")[0]
    core = rtlil.convert(shell_of(subject.net, subject.architecture, trace=False), name="core", emit_src=False)
    text = emit_verilog(shell_of(subject.net, subject.architecture, trace=False), name="core")
    assert text.count("(* keep = 1 *)") == core.count("attribute \\keep 1") > 100


ARCHITECTURES = ("serial", "parallel", "lattice")
STANDARDS = ("1364-2005", "1800-2017")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_linters_have_nothing_to_say(arch: str, tmp_path: Path) -> None:
    """A warning among hundreds is read by nobody; these few are known and harmless."""
    for number, subject in enumerate(subjects(arch)):
        file = tmp_path / f"core{number}.v"
        file.write_text(
            emit_verilog(shell_of(subject.net, subject.architecture, trace=False), name="core"), encoding="utf-8"
        )
        for standard in STANDARDS:
            argv = ["verilator", "--lint-only", "-Wall", *(f"-Wno-{name}" for name in WAIVED), "--language", standard]
            done = subprocess.run(
                [*argv, file.name],
                cwd=tmp_path,
                env={**os.environ, **verilator()},
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("standard", STANDARDS)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_bench_passes_in_both_standards(arch: str, standard: str, tmp_path: Path) -> None:
    """In SystemVerilog initial values stand before any process runs: logic that waits for an event would stay X."""
    core = subjects(arch)[0].write(tmp_path / "core")
    argv = [sys.executable, "-B", "bench/run.py", "--sim", "icarus", "--standard", standard]
    done = subprocess.run(argv, cwd=core, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
