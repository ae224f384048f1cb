"""Fault campaigns: how many faults, which, what became of them, and how sure that is."""
