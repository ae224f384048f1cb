"""What is proved of the relaxation of an integer net, for every input and for given samples, as JSON values."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Sequence
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
    clocks,
    counterexamples,
    recovery,
)
from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.interfaces import Progress
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.ir.serial import is_saved_net, load

from .clocks import InputCodes
from .documents import CertifyDocument, CounterexampleDocument, LocalDocument, RecoveryDocument, RecoveryRow
from .report.data import number

__all__ = ["certification", "integers_in", "safe_share"]

_SEARCHED = 100
"""So many samples without a proof are looked at for a radius and a counterexample."""
_THEOREM_TICKS = 10
_HOW = "every setting of the states, propagated as boxes and distances"


def certification(
    net: IntNet,
    *,
    source: Path | None,
    inputs: InputCodes | None,
    ticks: int,
    progress: Progress | None = None,
) -> CertifyDocument:
    """The proofs of a net.

    Args:
        net: verified net of integers.
        source: the artifact folder or the file that it is from, whose hash the document holds.
        inputs: samples for which it is proved from how many ticks on no upset can change a label; None: none.
        ticks: ticks that an upset leaves, at most.
        progress: called with samples done and all of them.
    """
    certificate = certify(net, norms=True)
    document: CertifyDocument = {
        "source": net.name if source is None else str(source),
        "ir_digest": net.digest,
        "certificate": certificate.to_json(),
        "lines": certificate.lines(),
    }
    if source is not None:
        document["net_sha256"] = hashlib.sha256(_net_file(source).read_bytes()).hexdigest()
    if inputs is not None:
        document["recovery"] = _recovery(net, inputs, ticks, progress)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    document["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return document


def safe_share(document: CertifyDocument) -> float:
    """The share of the samples whose label is proved to stay after the most ticks; 0 without a proof."""
    rows = document["recovery"].get("rows", []) if "recovery" in document else []
    return float(rows[-1]["safe"]["value"]) if rows else 0.0


def _net_file(source: Path) -> Path:
    return source / NET_FILE if source.is_dir() else source


def integers_in(path: Path) -> IntNet:
    """The integer net of an artifact folder or a file. Raises UsageError if it holds none, and what opening raises."""
    if path.is_dir():
        return Artifact.open(path).net
    net = load(path) if path.suffix == ".onnx" and is_saved_net(path) else None
    if not isinstance(net, IntNet):
        what = "holds no integers: a certificate is about the net that the hardware computes"
        raise UsageError(Diagnostic("usage", what, str(path), "give an artifact folder or its net.onnx"))
    return net


def _recovery(net: IntNet, inputs: InputCodes, most: int, progress: Progress | None) -> RecoveryDocument:
    ticks = min(most, net.schedule.steps - 1)
    try:
        proved = recovery(net, inputs.codes, ticks=ticks, progress=progress)
    except NoBoundError as error:
        return {"samples": inputs.source, "reason": str(error)}
    document = _document(proved, inputs, sorted(clocks(net)))
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


def _theorem(rows: Sequence[RecoveryRow], counts: Sequence[str]) -> str:
    """What a user may tell others, from the row of ten ticks or the last one, and from when on rows say anything."""
    row = rows[min(_THEOREM_TICKS, len(rows)) - 1]
    first = next((r["ticks"] for r in rows if r["safe"]["value"] > 0.0), None)
    if first is None:
        return f"vacuous: of no sample is the label proved to stay after an upset of any size, within {len(rows)} ticks"
    but = f" but {', '.join(counts)}, which only counts ticks," if counts else ""
    share = f"{math.floor(row['safe']['value'] * 1e4) / 1e2:.2f} %"
    return (
        f"after {row['ticks']} ticks an upset of any size in any number of states{but} is within "
        f"{row['apart_most']['value']:.0f} codes of the run without it, and for {share} of these samples the label "
        "cannot change" + (f" (vacuous for labels before {first} ticks)" if first > 1 else "")
    )


def _document(proved: Recovery, inputs: InputCodes, counts: list[str]) -> RecoveryDocument:
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
    document: RecoveryDocument = {
        "theorem": _theorem(rows, counts),
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
    if counts:
        document["not_hit"] = counts
    return document
