"""Verilog that reads like a person's, from what Amaranth elaborates: hierarchy kept, speaking names."""

from .emit import BlockMemory, Verilog, convert, emit_verilog

__all__ = ["BlockMemory", "Verilog", "convert", "emit_verilog"]
