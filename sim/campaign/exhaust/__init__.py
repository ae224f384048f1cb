"""Every fault of a population, with a byte for what became of each."""

from .blocks import Block, blocks_of
from .document import ExhaustDocument, document_of
from .run import begin, exhaust, is_exhaustive
from .store import ids, totals_of
from .totals import SiteTotals, Totals

__all__ = [
    "Block",
    "ExhaustDocument",
    "SiteTotals",
    "Totals",
    "begin",
    "blocks_of",
    "document_of",
    "exhaust",
    "ids",
    "is_exhaustive",
    "totals_of",
]
