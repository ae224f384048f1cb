"""The kernel of engine `gpu`, on the GPU that is here, against golden: every column of every result.

    python benchmarks/faults_gpu_equal.py [--faults 300] [--random 60] [--seed 0]

Needs PyTorch and Triton beside eqcompile. Without a CUDA device it refuses; with
`TRITON_INTERPRET=1` the same kernel runs on the CPU. Nets: the example checkpoints, and random ones, damped and
interpolating ones among them. Then wrong kernels: each must give another result on a net that contains what it breaks.
Exit status 1 if a result differs, if a mutant is not noticed, or if no net was accepted.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from gpu_faults import MUTANTS, Comparison, compared, drawn_net, mutated  # noqa: E402
from strategies import random_inputs  # noqa: E402

from eqcompile.quantization.lower import lower  # noqa: E402
from eqcompile.sim.faults.gpu.engine import GpuEngine  # noqa: E402
from eqcompile.toolchain import data  # noqa: E402
from eqcompile.toolchain.importers.api import import_model  # noqa: E402
from eqcompile.toolchain.ir import IntNet  # noqa: E402
from eqcompile.toolchain.options import QuantizeOptions  # noqa: E402

CHECKPOINTS = ("digits_layered.npz", "digits_looped.pt", "digits_ternary.pt", "digits_lazy.pt", "digits_cube.pt")
SAMPLES = 16
Inputs = Mapping[str, NDArray[np.int64]]


def nets(count: int) -> Iterator[tuple[str, IntNet, Inputs]]:
    """Name, net and input codes: the trained nets, then `count` random ones."""
    examples = ROOT / "examples"
    for file in CHECKPOINTS:
        source = import_model(examples / "checkpoints" / file).net
        calibration = data.read_inputs(examples / "data" / "digits_calibration.npz", source)
        net = lower(source, QuantizeOptions(), calibration=calibration).net
        samples = data.read_inputs(examples / "data" / "digits_test.npz", net, limit=SAMPLES)
        yield Path(file).stem, net, data.encode(net, samples)[0]
    for seed in range(count):
        source_of = random.Random(seed)
        net = drawn_net(source_of)
        yield f"random {seed}", net, random_inputs(net, source_of)


def kinds(net: IntNet) -> str:
    """The operations of the step, with how often each occurs."""
    return ", ".join(f"{name} {n}" for name, n in sorted(Counter(op.mnemonic for op in net.step).items()))


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=300, metavar="N", help="faults a net")
    parser.add_argument("--random", type=int, default=60, metavar="N", help="random nets")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    absent = GpuEngine().missing()
    if absent:
        say(f"not here: {', '.join(absent)}")
        return 3
    import torch
    import triton

    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"Triton's interpreter, {platform.machine()}"
    )
    say(f"{device}; torch {torch.__version__}, triton {triton.__version__}")
    accepted: list[tuple[str, IntNet, Inputs]] = []
    total = Comparison(0, 0, 0)
    for name, net, codes in nets(options.random):
        reasons = GpuEngine().check(net)
        if reasons:
            say(f"{name}: refused, {reasons[0].what}")
            continue
        accepted.append((name, net, codes))
        result = compared(net, codes, options.seed, options.faults)
        total += result
        say(f"{name}: {result.faults} faults, {result.steps} steps, {result.mismatches} mismatches; {kinds(net)}")
    unnoticed = []
    for right, wrong in MUTANTS:
        with mutated(right, wrong) as changed:
            noticed = (n for n, net, codes in accepted if compared(net, codes, options.seed, options.faults).mismatches)
            by = next((n for n in noticed if changed), None)
        unnoticed += [] if by else [right]
        say(f"mutant {right!r} -> {wrong!r}: {f'noticed on {by}' if by else 'NOT NOTICED'}")
    document = {
        "device": device,
        "nets": len(accepted),
        "faults": total.faults,
        "steps": total.steps,
        "mismatches": total.mismatches,
        "mutants": len(MUTANTS),
        "noticed": len(MUTANTS) - len(unnoticed),
    }
    say(json.dumps(document))
    return 1 if total.mismatches or unnoticed or not accepted else 0


if __name__ == "__main__":
    sys.exit(main())
