"""`eqcompile certify`: what is proved of the relaxation of an integer net, for every input and for given samples."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eqcompile.toolchain.arrays import Array, Codes
from eqcompile.toolchain.artifact import NET_FILE, Artifact
from eqcompile.toolchain.certificate import (
    SETTLING_TICKS,
    Attraction,
    Counterexample,
    NoBoundError,
    Recovery,
    attraction,
    certify,
    counterexamples,
    recovery,
)
from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.ir.serial import is_saved_net, load
from eqcompile.toolchain.options import Bounds, option

from ..clocks import InputCodes
from ..documents import CertifyDocument, CounterexampleDocument, LocalDocument, RecoveryDocument, RecoveryRow
from ..options import InputsOption, LimitOption, TicksOption
from ..progress import stage_progress
from ..report.data import number
from . import show
from .console import TARGET_MISSED, Parser, Reply
from .options import add_field_options, build

__all__ = ["command"]

_DESCRIPTION = """\
State what is proved of the relaxation of an integer net, in exact integers or with directed rounding.

For every input: how much closer one step takes two runs (L), and how far rounding may leave them apart. For the samples
of --inputs: how many ticks an upset must leave, of any size and in any number of states, so that it cannot change the
label, and by how many codes a state can still be off. Of samples for which that is not proved within --ticks: how large
an upset may be, and a run that ends elsewhere or in a cycle, if one is found."""
_EXAMPLES = """\
  eqcompile certify out
  eqcompile certify out --inputs test.npz --ticks 20
  eqcompile certify out --inputs test.npz --ticks 10 --safe 0.99
  eqcompile certify out/net.onnx --inputs test.npz --limit 100 --json"""
_SEARCHED = 100
"""So many samples without a proof are looked at for a radius and a counterexample."""
_THEOREM_TICKS = 10
_HOW = "every setting of the states, propagated as boxes and distances"


@dataclass(frozen=True, kw_only=True)
class _Options(InputsOption, LimitOption, TicksOption):
    safe: float | None = option(
        None,
        metavar="A",
        bounds=Bounds(0, 1, above=True),
        help="the share of the samples whose label must be proved to stay with --ticks left; a miss is exit code 9",
    )


def command(argv: Sequence[str]) -> Reply:
    """Certify as the command line says.

    Raises UsageError if the source holds no integers, and what opening it raises.
    """
    parser = Parser(prog="eqcompile certify", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("source", type=Path, metavar="DIR|NET", help="artifact folder or its net.onnx")
    add_field_options(parser, _Options, "samples")
    namespace = parser.parse_all(argv)
    options = build(_Options, namespace)
    if options.safe is not None and options.inputs is None:
        raise UsageError(Diagnostic("usage", "--safe is a share of samples", "certify", "give them: --inputs X.npz"))
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
    missed = options.safe is not None and _safe(document) < options.safe
    return Reply(document, show.certification(document), TARGET_MISSED if missed else 0)


def _safe(document: CertifyDocument) -> float:
    """The share of the samples whose label is proved to stay after the most ticks; 0 without a proof."""
    rows = document["recovery"].get("rows", []) if "recovery" in document else []
    return float(rows[-1]["safe"]["value"]) if rows else 0.0


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
    document = _document(proved, inputs)
    unproved = np.flatnonzero(proved.harmless_from() == 0)[:_SEARCHED]
    if unproved.size:
        codes = {name: v[unproved] for name, v in inputs.codes.items()}
        document["local"] = _local(attraction(net, codes, ticks=ticks), unproved)
        document["counterexamples"] = [_example(e, int(unproved[e.sample])) for e in counterexamples(net, codes)]
    return document


def _local(proved: Attraction, samples: Codes) -> LocalDocument:
    document: LocalDocument = {
        "ticks": proved.ticks,
        "samples": samples.tolist(),
        "radius": proved.radius.tolist(),
        "apart": proved.apart.tolist(),
        "share": number(
            float((proved.radius > 0).mean()), "proved", "of the samples without a proof for any size", _HOW
        ),
    }
    rates = proved.rates()
    if rates:
        document["rate"] = number(float(np.median(rates)), "proved", "a tick, in the median of these samples", _HOW)
    return document


def _example(example: Counterexample, sample: int) -> CounterexampleDocument:
    return {
        "sample": sample,
        "what": example.kind,
        "ticks": SETTLING_TICKS,
        "codes": example.codes,
        "labels": list(example.labels),
        "period": example.period,
        "start": {name: _packed(codes) for name, codes in example.start.items()},
    }


def _packed(values: Array) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values, "<i8").tobytes())).decode()


def _theorem(rows: Sequence[RecoveryRow]) -> str:
    """What a user may tell others, from the row of ten ticks or the last one, and from when on rows say anything."""
    row = rows[min(_THEOREM_TICKS, len(rows)) - 1]
    first = next((r["ticks"] for r in rows if r["safe"]["value"] > 0.0), None)
    if first is None:
        return f"vacuous: of no sample is the label proved to stay after an upset of any size, within {len(rows)} ticks"
    share = f"{math.floor(row['safe']['value'] * 1e4) / 1e2:.2f} %"
    return (
        f"after {row['ticks']} ticks an upset of any size in any number of states is within "
        f"{row['apart_most']['value']:.0f} codes of the run without it, and for {share} of these samples the label "
        "cannot change" + (f" (vacuous for labels before {first} ticks)" if first > 1 else "")
    )


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
        "theorem": _theorem(rows),
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
