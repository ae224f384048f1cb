"""The whole certificate: that it is what was written, about this net, and that each claim follows."""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Any

from .claims import block_claims
from .reading import Net, RefusalError, demand
from .samples import sample_claims

__all__ = ["check"]

_SAMPLES = {
    *("theorem", "samples", "count", "settled", "never", "rows", "harmless_from", "proof", "local", "counterexamples"),
    *("reason", "not_hit"),
}
_KEYS = {"source", "ir_digest", "certificate", "lines", "recovery", "net_sha256", "sha256"}


def check(certificate: bytes, net: bytes) -> list[str]:
    """What was replayed, for people. Texts (`verdict`, `lines`, `how`) are no claims: the digest alone covers them.

    Raises RefusalError where a claim does not follow, and UnknownError where the net holds an unknown operation.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        document = json.loads(certificate)
        return _check(document, net)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, zlib.error, DecodeError) as error:
        raise RefusalError(f"the certificate or the net is damaged: {error!r}") from error


def _check(document: dict[str, Any], content: bytes) -> list[str]:
    demand(set(document) <= _KEYS, f"unknown keys {sorted(set(document) - _KEYS)}")
    rest = {key: value for key, value in document.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    demand(document["sha256"] == hashlib.sha256(text.encode()).hexdigest(), "the certificate was changed")
    demand(document["net_sha256"] == hashlib.sha256(content).hexdigest(), "this is another net, or it was changed")
    net = Net(content)
    demand(document["ir_digest"] == net.meta["digest"], "the digest of the net")
    claims = document["certificate"]
    demand(claims["kind"] == "proved", "the kind of the certificate")
    for block in claims["blocks"]:
        block_claims(net, block)
    demand(claims.get("counts", {}) == net.counts(), "the states that count ticks")
    certified = not claims["reason"] and all(b["certified"] for b in claims["blocks"])
    demand(claims["certified"] == certified, "certified")
    lines = [f"{', '.join(b['states'])}: contraction, {len(b['norms'])} norms" for b in claims["blocks"]]
    samples = document.get("recovery", {})
    demand(set(samples) <= _SAMPLES, f"unknown keys {sorted(set(samples) - _SAMPLES)}")
    if "proof" in samples:
        sample_claims(net, samples, claims["blocks"])
        lines.append(f"{samples['count']} samples: labels and codes after any upset, {samples['proof']['ticks']} ticks")
    else:
        demand("rows" not in samples, "samples without a proof")
    return lines
