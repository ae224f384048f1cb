"""What provokes each diagnostic: a table for each room, code to a function that fails with it.

tests/toolchain/test_diagnostic_texts.py compares the texts with the golden ones.
"""
