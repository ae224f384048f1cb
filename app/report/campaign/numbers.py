"""Rates as the page shows them, and as its CSV files hold them."""

from __future__ import annotations

from markupsafe import Markup

from eqcompile.sim.campaign.statistics import IntervalDocument

from ..kit import kind

__all__ = ["interval", "marked", "raw", "remark"]


def interval(rate: IntervalDocument) -> list[str]:
    """Estimate, low and high end as percentages."""
    return [f"{value:.3%}" for value in raw(rate)]


def raw(rate: IntervalDocument) -> list[float]:
    """Estimate, low and high end."""
    return [rate["estimate"], rate["low"], rate["high"]]


def remark(text: str) -> Markup:
    """A line below a figure; text is escaped unless it is Markup."""
    return Markup('<p class="note">{}</p>').format(text)


def marked(text: str, name: str) -> Markup:
    """Text with the mark of its kind."""
    return Markup("{}{}").format(text, kind(name))
