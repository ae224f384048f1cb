"""Instructions of an inference of the C target on an emulated Cortex-M3, beside int8 kernels in the shape of CMSIS-NN.

    python benchmarks/c_cortex.py [--out DIR]

Both run in qemu (mps2-an385, `-icount shift=0`), which counts instructions and knows nothing of cycles: an M3 takes
more of those for loads, branches and flash. The kernels do the matrix products of the same ticks, int8 weights and int8
results, three rows at a time as `arm_nn_vec_mat_mult_t_s8` does on cores without DSP instructions; activations are not
counted on their side. Each sum of theirs is checked against NumPy, each output and tick of the C target against golden.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import results
from numpy.typing import NDArray

from eqcompile.app.emission import emit_artifact
from eqcompile.targets.c.target import CTarget
from eqcompile.toolchain import golden
from eqcompile.toolchain.ir import IntNet
from rtl import digits

HERE = Path(__file__).parent
NETS = ("digits_layered", "digits_certified", "digits_ternary")
KERNELS = (("event", "auto"), ("event", "int8"), ("dense", "2bit"), ("dense", "int8"))
SAMPLES = 20
CORE = ["-mcpu=cortex-m3", "-mthumb", "-O3", "-std=c99", "-ffreestanding", "-ffunction-sections", "-fdata-sections"]
QEMU = "qemu-system-arm -M mps2-an385 -icount shift=0 -nographic -monitor none -serial none"


def matrices(net: IntNet) -> dict[str, NDArray[np.int64]]:
    """The weights by rows: of the input, the recurrent and the output layer."""
    found = {p.name: p.value for p in net.params if p.name.startswith("W_") and p.value.ndim == 2}
    return {key: next(w for n, w in found.items() if n.startswith(key)) for key in ("W_in", "W_rec", "W_out")}


def counted(net: IntNet, codes: NDArray[np.int64], kernel: str, pack: str) -> NDArray[np.int64]:
    """`[samples, 3]`: ticks, instructions of the C target and of the kernels."""
    weights = matrices(net)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        emit_artifact(CTarget(kernel=kernel, pack=pack), net, folder)  # type: ignore[arg-type]
        sizes = {"INPUTS": weights["W_in"].shape[1], "UNITS": len(weights["W_rec"]), "OUTPUTS": len(weights["W_out"])}
        lines = [f"enum {{ {', '.join(f'{key} = {size}' for key, size in sizes.items())} }};"]
        for key, value in weights.items():
            text = ", ".join(map(str, value.reshape(-1).tolist()))
            lines.append(f"static const int8_t {key.upper()}[] = {{{text}}};")
        (folder / "matrices.h").write_text("\n".join([*lines, ""]), encoding="utf-8")
        (folder / "in.txt").write_bytes(bytes([len(codes)]) + codes.astype(np.uint8).tobytes())
        sources = ["eq.c", str(HERE / "c_cortex.c"), "cortex_m.c"]
        # Start-up code must not become calls of itself.
        plain = ["-fno-builtin", "-fno-tree-loop-distribute-patterns"]
        argv = ["arm-none-eabi-gcc", *CORE, *plain, "-I.", "-nostdlib", "-Wl,--gc-sections", "-T", "cortex_m.ld"]
        subprocess.run([*argv, *sources, "-lgcc", "-o", "run.elf"], cwd=folder, check=True)
        semihosting = ["-semihosting-config", "enable=on,target=native", "-kernel", "run.elf"]
        subprocess.run([*QEMU.split(), *semihosting], cwd=folder, check=True, timeout=300)
        rows = np.loadtxt(folder / "out.txt", dtype=np.int64)
    told = golden.run(net, {net.inputs[0].name: codes}, trace=True)
    last = told.states["h"][told.steps - 1, np.arange(len(codes))]
    sums = (codes @ weights["W_in"].T).sum(axis=1) + (last @ weights["W_out"].T).sum(axis=1)
    sums += told.steps * (last @ weights["W_rec"].T).sum(axis=1)
    if (rows[:, 0] != told.steps).any() or (rows[:, 3] != sums % (1 << 32)).any():
        sys.exit(f"{net.name}: ticks or sums are not golden's")
    return np.asarray(rows[:, :3])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results.add_folder(parser)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    facts = []
    for name in NETS:
        net, given = digits(name)
        codes = next(iter(given.codes.values()))[:SAMPLES]
        facts.append(results.net_facts(name, net))
        for kernel, pack in KERNELS:
            ticks, ours, theirs = counted(net, codes, kernel, pack).mean(axis=0)
            rows.append({"net": name, "program": f"{kernel}, {pack}", "ticks": ticks, "ours": ours, "kernels": theirs})
            sys.stdout.write(f"{name} {kernel} {pack}: {ours:,.0f} of {theirs:,.0f}, {theirs / ours:.1f}x\n")
    cells = [
        [r["net"], r["program"], f"{r['ticks']:.1f}", f"{r['ours']:,.0f}", f"{r['kernels']:,.0f}"]
        + [f"{r['kernels'] / r['ours']:.1f}"]
        for r in rows
    ]
    columns = {"net": "", "program": "", "ticks": "simulated", "instructions": "simulated"}
    columns |= {"of int8 kernels": "simulated", "times fewer": "computed"}
    compiler = subprocess.run(["arm-none-eabi-gcc", "--version"], check=True, capture_output=True, text=True).stdout
    version = subprocess.run([QEMU.split()[0], "--version"], check=True, capture_output=True, text=True).stdout
    words = (
        f"`benchmarks/c_cortex.py`: instructions an inference on a Cortex-M3, counted by qemu, which knows no cycles; "
        f"mean of {SAMPLES} inputs. Beside them the matrix products of the same ticks by int8 kernels in the shape of "
        f"CMSIS-NN's, activations left out. {compiler.splitlines()[0]}, -O3; {version.splitlines()[0]}."
    )
    blocks = [results.text(words), results.table(columns, cells)]
    title = "The C target on a Cortex-M"
    results.record("c_cortex", title, blocks, data=rows, nets=facts, folder=options.out)


if __name__ == "__main__":
    main()
