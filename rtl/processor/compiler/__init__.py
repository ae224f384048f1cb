"""From an IntNet to an image of the processor: views, chains of stages, maps, then banks and addresses."""

from .assemble import Program, compile_net

__all__ = ["Program", "compile_net"]
