"""Faults in a compiled network: what is disturbed, when, and what became of it."""
