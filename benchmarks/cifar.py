"""Convolutional nets on images of CIFAR-10's shape: every state of every step against golden.

    python benchmarks/cifar.py [--out DIR]

Hopfield-ResNet13 and ConvEqProp with group normalisation on random images 3x32x32, with random weights of a size that
keeps their states moving, are quantized to 8-bit states and int8 weights and run on two images by numpy, c on the host
and ONNX Runtime. `tests/conformance/test_published_nets.py` runs smaller ones.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import numpy as np
import results
from equality import COUNTS, Row, counts, finish
from untrained_nets import conv_layout, drawn_net, residual_layout

from eqcompile.app.emission import emit_artifact
from eqcompile.quantization.lower import lower
from eqcompile.toolchain import registry
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import QuantizeOptions

IMAGE = {"height": "32", "width": "32"}
NETS = {
    "hopfield.ConvHopfieldResEnergy32": (
        residual_layout(3, 16, 16, 32, 32, 64, 64, 64, 64),
        {**IMAGE, "mode": "asynchronous", "steps": "6", "activation": "relu6"},
    ),
    "models.ConvEqProp": (conv_layout(3, 32), {**IMAGE, "steps": "10", "gamma": "0.5"}),
}
SIMULATORS = (("numpy", "numpy"), ("c", "c-host"), ("onnx", "onnxruntime"))
SEED, SAMPLES, TIMEOUT_S = 11, 2, 3600.0
COLUMNS = {
    "net": "",
    "weights": "computed",
    "units": "computed",
    "units that move": "simulated",
    "simulator": "",
} | COUNTS


def moving(states: Mapping[str, np.ndarray]) -> float:
    """Share of units that change in the second half of the steps, over all samples."""
    late = [trace[len(trace) // 2 :] for trace in states.values()]
    moved = sum(int((trace != trace[:1]).any(axis=0).sum()) for trace in late)
    return moved / sum(trace[0].size for trace in late)


def rows(key: str, folder: Path) -> Iterator[Row]:
    """One row for each simulator."""
    layout, settings = NETS[key]
    net, inputs = drawn_net(key, layout, settings, seed=SEED, samples=SAMPLES)
    lowered = lower(net, QuantizeOptions(), calibration=inputs).net
    codes, _ = encode(lowered, inputs)
    golden = run_golden(lowered, codes)
    row: Row = {
        "net": key,
        "weights": sum(int(np.prod(shape)) for shape in layout.values() if len(shape) > 1),
        "units": sum(int(np.prod(s.shape)) for s in lowered.states),
        "units that move": f"{moving(golden.states):.0%}",
    }
    for target_name, simulator in SIMULATORS:
        sys.stderr.write(f"{key}: {simulator}\n")
        place = folder / f"{key}-{target_name}"
        place.mkdir()
        artifact = emit_artifact(registry.target_class(target_name)(), lowered, place)
        run = registry.simulators_of(target_name)[simulator]().run(artifact, codes, trace=True, timeout_s=TIMEOUT_S)
        yield row | {"simulator": simulator} | counts(compare(golden, run, states=True))


def main() -> int:
    """Print and record the table; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results.add_folder(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="raise"):
        data = [row for key in NETS for row in rows(key, Path(folder))]
    words = (
        f"`make cifar`: random images 3x32x32 and random weights (seed {SEED}), {SAMPLES} samples, each state of every "
        "step against golden. Units that move: whose code changes in the second half of the steps."
    )
    return finish("cifar", "Convolutional nets on images of CIFAR-10's shape", words, COLUMNS, data, {}, options.out)


if __name__ == "__main__":
    sys.exit(main())
