"""The relaxation processor: nets of all families against golden in its simulator, and its core beside the serial one.

    python benchmarks/processor.py [--only NAME ...]

`steps`: ticks of one sample, after each of which every state of the program, run by the instruction-set simulator in
banks full of dirt, is compared with golden. Clocks are those of both cores of `digits_layered` with 4 lanes for two
samples, in Amaranth's simulator, every state of every tick equal to golden, the processor with 1, 2 and 4 entries of a
vector in a clock; cells are those of the engines alone, without bus shell and load port, by Yosys.

    python benchmarks/processor.py --profile mnist_layered 64 2 --data mnist.npz [--images 100]

prints where the clocks of images go on a core of 64 lanes and 2 entries a clock, by instruction, as the simulator of
instructions states them; it records nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import numpy as np
import results
from amaranth.back import rtlil
from family_nets import FAMILY_NETS, family_net
from mnist_rtl import mnist_net
from processor_runs import differences
from protect import CELLS, cells_of
from rtl_engines import differences as engine_differences
from rtl_engines import simulate
from tqdm import tqdm

import eqcompile as eq
from eqcompile.quantization.lower import lower
from eqcompile.rtl.interface import Engine
from eqcompile.rtl.processor.compiler import compile_net
from eqcompile.rtl.processor.hardware import ProcessorEngine
from eqcompile.rtl.processor.profile import profile
from eqcompile.rtl.serial.engine import SerialEngine
from eqcompile.toolchain import golden
from eqcompile.toolchain.data import Inputs, encode
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import IntNet

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SAMPLES = 2
WIDTHS = (1, 2, 4)


def families(names: list[str]) -> Iterator[list[str]]:
    """A row for each net: its program, and what differs from golden."""
    for name in tqdm(names, unit="net"):
        case = family_net(name)
        net = lower(case.net, QuantizeOptions(), calibration=case.calibration).net
        codes, _ = encode(net, Inputs({key: value[:1] for key, value in case.calibration.items()}))
        program = compile_net(net)
        wrong = differences(net, codes, program)
        ticks = int(golden.run(net, codes, trace=False).steps.sum())
        yield [name, str(len(program.instructions)), str(ticks), str(len(wrong)) if wrong else "0"]


def cores(net: IntNet, codes: dict[str, object]) -> Iterator[list[str]]:
    """A row for each core: clocks and cells."""
    makes: list[tuple[str, Callable[..., Engine]]] = [("serial", partial(SerialEngine, loadable=False))]
    makes += [(f"processor, width {w}", partial(ProcessorEngine, width=w)) for w in WIDTHS]
    for name, make in makes:
        simulation = simulate(make(net, trace=True), net, codes, limit=1_000_000)
        wrong = engine_differences(net, codes, simulation)
        if wrong:
            raise SystemExit(f"{name}: {wrong[0]}")
        counts = cells(make(net))
        yield [
            name,
            " and ".join(map(str, simulation.made)),
            f"{simulation.clocks:,}",
            *(f"{counts[c]:,}" for c in CELLS),
        ]


def cells(engine: Engine) -> dict[str, int]:
    """Cells of an engine by Yosys."""
    y, x = engine.y, engine.x
    ports = [x.payload, x.valid, x.ready, y.payload, y.valid, y.ready, engine.steps, engine.tolerance]
    ports += [engine.restart, engine.busy, engine.made]
    with TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "core.il").write_text(rtlil.convert(engine, ports=ports), encoding="utf-8")
        return cells_of(place / "core.il", read="read_rtlil", top="top")


def stated(name: str, lanes: int, width: int, data: Path, images: int) -> str:
    """Clocks by instruction, and of an image, of an MNIST net."""
    net = mnist_net(name)
    with np.load(data) as file:
        pixels = file["x_test"][:images].reshape(images, -1) / 255.0
    codes, _ = encode(net, Inputs({net.inputs[0].name: pixels}))
    program = compile_net(net, lanes=lanes, width=width)
    result = profile(program, [[row] for row in codes[net.inputs[0].name]])
    spread = f"median {np.median(result.totals):,.0f}, mean {np.mean(result.totals):,.0f}, most {max(result.totals):,}"
    return f"clocks and runs an image, of {images}\n{result}\nclocks of an image: {spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=FAMILY_NETS, default=list(FAMILY_NETS), metavar="NAME")
    results.add_folder(parser)
    parser.add_argument("--profile", nargs=3, metavar=("NET", "LANES", "WIDTH"))
    parser.add_argument("--data", type=Path, default=Path("mnist.npz"))
    parser.add_argument("--images", type=int, default=100)
    options = parser.parse_args()
    if options.profile is not None:
        name, lanes, width = options.profile
        tqdm.write(stated(name, int(lanes), int(width), options.data, options.images))
        return
    made = eq.quantize(
        eq.load(EXAMPLES / "checkpoints" / "digits_layered.npz"),
        calibrate=EXAMPLES / "data" / "digits_calibration.npz",
    )
    net = made.lowered.net
    tests = eq.golden(made, EXAMPLES / "data" / "digits_test.npz", limit=SAMPLES, trace=False)
    codes, _ = encode(net, tests.samples)
    core_heads = {"core": "", "ticks of two samples": "simulated", "clocks": "simulated"}
    core_heads |= dict.fromkeys(CELLS, "estimated")
    core_rows = list(cores(net, codes))
    rows = list(families(options.only))
    heads = {"net": "", "instructions": "computed", "steps": "simulated", "samples or ticks that differ": "simulated"}
    results.record(
        "processor",
        "The relaxation processor",
        [
            results.text("Cores of digits_layered (64-128-10, W_rec 45 % not 0), 4 lanes, engines alone:"),
            results.table(core_heads, core_rows),
            results.text("Programs of all families in the instruction-set simulator, one sample each:"),
            results.table(heads, rows),
        ],
        data={"cores": core_rows, "families": rows},
        folder=options.out,
    )


if __name__ == "__main__":
    main()
