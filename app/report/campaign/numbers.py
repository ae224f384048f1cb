"""Rates as the page shows them, and as its CSV files hold them."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["interval", "raw"]


def interval(rate: Mapping[str, float]) -> list[str]:
    """Estimate, low and high end as percentages."""
    return [f"{rate[k]:.3%}" for k in ("estimate", "low", "high")]


def raw(rate: Mapping[str, float]) -> list[float]:
    """Estimate, low and high end."""
    return [rate[k] for k in ("estimate", "low", "high")]
