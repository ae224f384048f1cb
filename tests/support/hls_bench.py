"""Emitted hls4ml projects and their test bench, compiled with g++ as a vendor tool would, for the tests."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from emitting import emitted

from eqcompile.targets.hls4ml.target import Hls4mlTarget
from eqcompile.toolchain.ir import IntNet

FLAGS = ["-std=c++11", "-w", "-O0", '-DWEIGHTS_DIR="firmware/weights"', "-Ifirmware/ap_types", "-Ifirmware"]
COMMON = """
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>
#include "ap_fixed.h"
#include "ap_int.h"
#include "nnet_utils/nnet_code_gen.h"
#include "nnet_utils/nnet_helpers.h"
#include "nnet_utils/nnet_types.h"
"""


def compiled(net: IntNet, folder: Path, **options: Any) -> Path:
    """The artifact as the pipeline leaves it."""
    return emitted(Hls4mlTarget(**options), net, folder).folder


def headers(project: Path, folder: Path) -> Path:
    """The headers of hls4ml, the same in every project, compiled once: most of the time of a compilation."""
    path = folder / "common.h"
    path.write_text(COMMON, encoding="utf-8")
    argv = ["g++", *FLAGS, "-x", "c++-header", str(path), "-o", f"{path}.gch"]
    subprocess.run(argv, cwd=project, check=True)
    return path


def bench(project: Path, common: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Compile the test bench and run it; status 0 if every code is golden's."""
    files = ["relaxation_test.cpp", "firmware/relaxation.cpp"]
    argv = ["g++", *FLAGS, *flags, "-include", str(common), *files, "-o", "bench"]
    made = subprocess.run(argv, cwd=project, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return subprocess.run(["./bench"], cwd=project, capture_output=True, text=True, check=False)
