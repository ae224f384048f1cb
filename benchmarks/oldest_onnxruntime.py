"""The oldest ONNX Runtime that the README of target `onnx` names, on real artifacts.

    python benchmarks/oldest_onnxruntime.py [VERSION]     # `make oldest-onnxruntime`; needs the package index

Makes an environment of its own with that version in a temporary folder, runs there what is emitted for each shipped net
of `NETS`, with all states, and compares with golden. It ends with 1 if a run dies or a code differs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from eqcompile.app.emission import emit_artifact
from eqcompile.quantization.lower import lower
from eqcompile.sim.exchange import read_run, write_codes
from eqcompile.targets.onnx.target import OLDEST_RUNTIME, OnnxTarget
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.options import QuantizeOptions
from eqcompile.toolchain.passes import example_codes

CHECKPOINTS = Path(__file__).resolve().parents[1] / "examples" / "checkpoints"
NETS = ("digits_layered.npz", "digits_looped.pt", "digits_ternary.pt", "digits_cube.pt")
NUMPY = "numpy<2"
"""Its wheels are built against the first major version."""


def environment(folder: Path, version: str) -> Path:
    """The interpreter of a new environment with that version of ONNX Runtime."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", f"onnxruntime=={version}", NUMPY]
    subprocess.run(install, check=True)
    return python


def differences(python: Path, checkpoint: Path, folder: Path) -> int:
    """State and output codes, and step counts, of a shipped net that differ from golden's there."""
    source = import_model(checkpoint).net
    net = lower(source, QuantizeOptions(), calibration=None).net
    folder.mkdir()
    emit_artifact(OnnxTarget(), net, folder, source)
    codes = example_codes(net, uniform=5)
    results = folder.with_suffix(".npz")
    argv = [python, "-I", "-B", "run.py", "-i", write_codes(folder.with_suffix(".codes.npz"), codes), "-o", results]
    subprocess.run([*argv, "--trace"], cwd=folder, check=True)
    found = compare(run_golden(net, codes, trace=True), read_run(results, net, folder), states=True)
    sys.stdout.write(f"{checkpoint.name}: {found.values} state codes compared, {found.mismatches} differ\n")
    return int(found.mismatches + found.output_mismatches + found.step_mismatches)


def main() -> int:
    version = sys.argv[1] if len(sys.argv) > 1 else OLDEST_RUNTIME
    with tempfile.TemporaryDirectory(prefix="oldest-onnxruntime-") as name:
        python = environment(Path(name) / "env", version)
        says = "import onnxruntime, numpy; print('ONNX Runtime', onnxruntime.__version__, 'NumPy', numpy.__version__)"
        subprocess.run([python, "-c", says], check=True)
        return int(any([differences(python, CHECKPOINTS / n, Path(name) / n) for n in NETS]))


if __name__ == "__main__":
    sys.exit(main())
