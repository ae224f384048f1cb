"""`eqcompile certify`: what is proved of the relaxation of an integer net, for every input and for given samples."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eqcompile.toolchain.arrays import Array
from eqcompile.toolchain.artifact import NET_FILE, Artifact
from eqcompile.toolchain.certificate import NoBoundError, Recovery, certify, recovery
from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.ir.serial import is_saved_net, load

from ..clocks import InputCodes
from ..options import InputsOption, LimitOption, TicksOption
from ..report.data import number
from . import show
from .console import Parser, Reply
from .documents import CertifyDocument, RecoveryDocument, RecoveryRow
from .options import add_field_options, build
from .progress import stage_progress

__all__ = ["command"]

_DESCRIPTION = """\
State what is proved of the relaxation of an integer net, in exact integers or with directed rounding.

For every input: how much closer one step takes two runs (L), and how far rounding may leave them apart. For the samples
of --inputs: how many ticks an upset must leave, of any size and in any number of states, so that it cannot change the
label, and by how many codes a state can still be off."""
_EXAMPLES = """\
  eqcompile certify out
  eqcompile certify out --inputs test.npz --ticks 20
  eqcompile certify out/net.onnx --inputs test.npz --limit 100 --json"""
_HOW = "every setting of the states, propagated as boxes and distances"


@dataclass(frozen=True, kw_only=True)
class _Options(InputsOption, LimitOption, TicksOption):
    pass


def command(argv: Sequence[str]) -> Reply:
    """Certify as the command line says.

    Raises UsageError if the source holds no integers, and what opening it raises.
    """
    parser = Parser(prog="eqcompile certify", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("source", type=Path, metavar="DIR|NET", help="artifact folder or its net.onnx")
    add_field_options(parser, _Options, "samples")
    namespace = parser.parse_all(argv)
    options = build(_Options, namespace)
    net = _net(namespace.source)
    certificate = certify(net, norms=True)
    document: CertifyDocument = {
        "source": str(namespace.source),
        "ir_digest": net.digest,
        "certificate": certificate.to_json(),
        "lines": certificate.lines(),
        "net_sha256": hashlib.sha256(_net_file(namespace.source).read_bytes()).hexdigest(),
    }
    if options.inputs is not None:
        document["recovery"] = _recovery(net, options)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    document["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return Reply(document, show.certification(document))


def _net_file(source: Path) -> Path:
    return source / NET_FILE if source.is_dir() else source


def _net(path: Path) -> IntNet:
    if path.is_dir():
        return Artifact.open(path).net
    net = load(path) if path.suffix == ".onnx" and is_saved_net(path) else None
    if not isinstance(net, IntNet):
        what = "holds no integers: a certificate is about the net that the hardware computes"
        raise UsageError(Diagnostic("usage", what, str(path), "give an artifact folder or its net.onnx"))
    return net


def _recovery(net: IntNet, options: _Options) -> RecoveryDocument:
    assert options.inputs is not None
    inputs = InputCodes.read(options.inputs, net, options.limit)
    ticks = min(options.ticks, net.schedule.steps - 1)
    try:
        with stage_progress("sample") as progress:
            proved = recovery(
                net, inputs.codes, ticks=ticks, progress=lambda done, total: progress("certify", done, total)
            )
    except NoBoundError as error:
        return {"samples": inputs.source, "reason": str(error)}
    return _document(proved, inputs)


def _packed(values: Array) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values, "<i8").tobytes())).decode()


def _document(proved: Recovery, inputs: InputCodes) -> RecoveryDocument:
    count, ticks = proved.safe.shape
    rows: list[RecoveryRow] = [
        {
            "ticks": t,
            "safe": number(float(proved.safe[:, t - 1].mean()), "proved", "of samples", _HOW),
            "apart_median": number(float(np.median(proved.apart[:, t - 1])), "proved", "LSB", _HOW),
            "apart_most": number(float(proved.apart[:, t - 1].max()), "proved", "LSB", _HOW),
        }
        for t in range(1, ticks + 1)
    ]
    return {
        "samples": inputs.source,
        "count": count,
        "settled": number(float(proved.settled.mean()), "simulated", "of samples"),
        "never": number(float((proved.harmless_from() == 0).mean()), "proved", "of samples", _HOW),
        "rows": rows,
        "harmless_from": [int(t) if t else None for t in proved.harmless_from()],
        "proof": {
            "ticks": ticks,
            "inputs": {name: _packed(codes) for name, codes in inputs.codes.items()},
            "safe": _packed(proved.safe),
            "apart": _packed(proved.apart),
        },
    }
