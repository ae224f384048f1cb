"""What golden says of an artifact's own bench."""

from __future__ import annotations

from .golden import run as run_golden
from .interfaces import Plan, Vectors

__all__ = ["bench_vectors"]


def bench_vectors(plan: Plan) -> Vectors | None:
    """Golden's runs of what the plan's bench runs; None if it has no bench."""
    inputs = plan.bench_inputs
    if not inputs:
        return None
    run = run_golden(plan.net, inputs, trace=True)
    variants = plan.bench_variants(run)
    return Vectors(inputs, run, {name: (net, run_golden(net, inputs, trace=True)) for name, net in variants.items()})
