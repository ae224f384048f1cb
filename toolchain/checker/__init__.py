"""A checker of certificates that shares no code with the rest: NumPy, onnx and this folder alone.

    python -m eqcompile.toolchain.checker certificate.json net.onnx

`certificate.json` is what `eqcompile certify DIR --inputs X.npz --json` printed. The checker reads the operations from
the graph, derives how far a step can spread a change, proves every norm anew, runs the net on the samples that the
certificate holds, and propagates all settings of the states around these runs. A copy of the folder runs as
`python -m checker`.
"""

from .document import check
from .reading import RefusalError, UnknownError

__all__ = ["RefusalError", "UnknownError", "check"]
