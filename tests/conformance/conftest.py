"""What of this folder is about a package that is not built in."""

from __future__ import annotations

from plugged import PACKAGE

# The file names targets and simulators that are built in: no plug-in takes part in it.
collect_ignore = [] if PACKAGE is None else ["test_published_nets.py"]
