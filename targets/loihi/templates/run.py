"""Run this network in Lava's Loihi simulation.

    python run.py -i x.npz -o y.npz [--trace] [--sim-cfg loihi1|loihi2] [--timeout SECONDS] [--faults faults.json]

x.npz holds each input `[batch, *shape]` (`[batch, frames, *shape]` for a net with frames): integer codes under
`codes.NAME`, or under NAME real numbers, which are encoded as network.json says, or indices. With a single input the
name may also be `x`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Each process of the network is an operating-system process; threads inside them would only fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

HERE = Path(__file__).resolve().parent
# An isolated interpreter (python -I) does not look beside the script by itself.
sys.path.insert(0, str(HERE))

import energy  # type: ignore[import-not-found]  # noqa: E402
import inputs  # type: ignore[import-not-found]  # noqa: E402
import network  # type: ignore[import-not-found]  # noqa: E402
import numpy as np  # noqa: E402


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sim-cfg", choices=("loihi1", "loihi2"), help="run configuration (default: the chip compiled for)"
    )
    parser.add_argument("--faults", type=Path, help="json with the faults to inject, as network.execute takes them")
    parser.add_argument("--timeout", type=float, help="end with status 4 after this many seconds")


def run(net: Mapping[str, Any], codes: Mapping[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    faults = [] if args.faults is None else json.loads(args.faults.read_text(encoding="utf-8"))
    configuration = args.sim_cfg or net["chip"]
    results = network.execute(
        net, codes, sim_cfg=configuration, trace=args.trace, timeout_s=args.timeout, faults=faults
    )
    mapping = json.loads((HERE / "mapping.json").read_text(encoding="utf-8"))
    report = energy.report(mapping["placements"], energy.counted(results))
    report |= {"summary": energy.summary(report), "sim_cfg": configuration}
    sys.stdout.write(energy.text(report))
    return {inputs.DETAILS: np.array(json.dumps(report)), **results}


def main() -> int:
    net = network.description()
    described = {i["name"]: (i["shape"], i["lo"], i["hi"], i["scale"]) for i in net["inputs"]}
    status: int = inputs.command(
        lambda codes, args: run(net, codes, args),
        described,
        framed=net["schedule"]["frames"],
        about="Run this network in Lava's Loihi simulation.",
        options=options,
    )
    return status


if __name__ == "__main__":
    sys.exit(main())
