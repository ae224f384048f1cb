"""Backends: each checks whether it can take an IntNet, then emits a self-contained folder."""
