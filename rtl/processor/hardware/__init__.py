"""The processor in Amaranth: sequencer, loop nests, pipeline, appliers, memories."""

from .engine import ProcessorEngine

__all__ = ["ProcessorEngine"]
