"""Convolutional nets on images of CIFAR-10's shape, and attention over 20 tokens: every state of every step against
golden.

    python benchmarks/cifar.py [--net NAME ...] [--out DIR]

Hopfield-ResNet13 and ConvEqProp with group normalisation on random images 3x32x32, a convolution of 64 channels with
group normalisation, and two layers of causal attention, with random weights of a size that keeps their states moving,
are quantized to 8-bit states and int8 weights and run on two samples by numpy, c on the host and ONNX Runtime, and by
the processes of Loihi where it takes them. `tests/conformance/test_published_nets.py` runs smaller ones.
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
from size import CASES
from untrained_nets import conv_layout, drawn_net, residual_layout

from eqcompile.app.emission import emit_artifact
from eqcompile.quantization.lower import lower
from eqcompile.quantization.requirements import requirements_of
from eqcompile.toolchain import registry
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import EqNet

IMAGE = {"height": "32", "width": "32"}
NETS = {
    "hopfield.ConvHopfieldResEnergy32": (
        residual_layout(3, 16, 16, 32, 32, 64, 64, 64, 64),
        {**IMAGE, "mode": "asynchronous", "steps": "6", "activation": "relu6"},
    ),
    "models.ConvEqProp": (conv_layout(3, 32), {**IMAGE, "steps": "10", "gamma": "0.5"}),
}
DRAWN = ("conv 64 x 32 x 32", "attention 20 x 64")
"""Nets of `benchmarks/size.py`, with the weights that it draws."""
SIMULATORS = (("numpy", "numpy"), ("c", "c-host"), ("onnx", "onnxruntime"), ("loihi", "lava-loihi2"))
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


def made(key: str, folder: Path) -> tuple[EqNet, dict[str, np.ndarray], int]:
    """A net, its inputs and the number of its weights."""
    if key in NETS:
        layout, settings = NETS[key]
        net, inputs = drawn_net(key, layout, settings, seed=SEED, samples=SAMPLES)
        return net, inputs, sum(int(np.prod(shape)) for shape in layout.values() if len(shape) > 1)
    case, generator = CASES[key], np.random.default_rng(SEED)
    arrays = case.arrays(generator)
    np.savez(folder / "net.npz", **arrays)
    net = import_model(folder / "net.npz", family=case.family, settings=case.settings).net
    weights = sum(a.size for a in arrays.values() if a.ndim > 1)
    return net, {"x": case.inputs(generator)[:SAMPLES]}, weights


def rows(key: str, folder: Path) -> Iterator[Row]:
    """One row for each simulator, or for each target that refuses the net."""
    net, inputs, weights = made(key, folder)
    lowered = lower(net, QuantizeOptions(), calibration=inputs).net
    codes, _ = encode(lowered, inputs)
    golden = run_golden(lowered, codes)
    row: Row = {
        "net": key,
        "weights": weights,
        "units": sum(int(np.prod(s.shape)) for s in lowered.states),
        "units that move": f"{moving(golden.states):.0%}",
    }
    for target_name, simulator in SIMULATORS:
        sys.stderr.write(f"{key}: {simulator}\n")
        place = folder / f"{key}-{target_name}"
        place.mkdir()
        target = registry.target_class(target_name)()
        refusals = target.preflight(requirements_of(net, QuantizeOptions(), calibrated=True))
        if refusals:
            yield row | {"by": target_name, "refused": [d.what for d in refusals]}
            continue
        try:
            artifact = emit_artifact(target, lowered, place, net)
        except UnsupportedError as error:
            yield row | {"by": target_name, "refused": [d.what for d in error.diagnostics]}
            continue
        run = registry.simulators_of(target_name)[simulator]().run(artifact, codes, trace=True, timeout_s=TIMEOUT_S)
        yield row | {"simulator": simulator} | counts(compare(golden, run, states=True))


def main() -> int:
    """Print and record the table; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", nargs="+", choices=[*NETS, *DRAWN], default=[*NETS, *DRAWN])
    results.add_folder(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="raise"):
        data = [row for key in options.net for row in rows(key, Path(folder))]
    words = (
        f"`make cifar`: random images 3x32x32 or 20 tokens and random weights (seed {SEED}), {SAMPLES} samples, each "
        "state of every step against golden. Units that move: whose code changes in the second half of the steps."
    )
    title = "Convolutional nets on images of CIFAR-10's shape, and attention over 20 tokens"
    return finish("cifar", title, words, COLUMNS, data, {}, options.out)


if __name__ == "__main__":
    sys.exit(main())
