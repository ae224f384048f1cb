"""The `rtl` target: a synthesizable core, its bench and its vectors."""
