"""Radiation environments and parts: data files whose every constant is cited, and the rates that follow."""
