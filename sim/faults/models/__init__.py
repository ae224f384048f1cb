"""Fault models, one a file; found by entry point (`eqcompile.faults`)."""
