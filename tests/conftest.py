"""What holds for every test of a process, whichever comes first."""

from __future__ import annotations

import importlib.util
import os

# Triton decides when it is imported whether its kernels are interpreted, and PyTorch imports it for other tests.
os.environ.setdefault("TRITON_INTERPRET", "1")

if importlib.util.find_spec("amaranth") is not None:
    from amaranth.hdl import Elaboratable

    # An engine that is asked for its figures alone is never elaborated; Amaranth says so whenever memory is freed, in
    # the middle of any other test.
    Elaboratable._MustUse__silence = True
