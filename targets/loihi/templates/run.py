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
import network  # type: ignore[import-not-found]  # noqa: E402
import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

USAGE_STATUS = 2


class InputError(ValueError):
    """x.npz is not what this network takes."""


def codes_of(net: Mapping[str, Any], given: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.int64]]:
    """Input codes `[batch, frames, *shape]` from the arrays of x.npz."""
    result = {}
    framed = net["schedule"]["frames"]
    for i in net["inputs"]:
        names = [f"codes.{i['name']}", i["name"], *(["codes.x", "x"] if len(net["inputs"]) == 1 else [])]
        name = next((n for n in names if n in given), None)
        if name is None:
            raise InputError(f"no array {i['name']!r} or {names[0]!r}; there are {sorted(given)}")
        value, rank = given[name], len(i["shape"]) + 1 + framed
        if value.ndim != rank or list(value.shape[1 + framed :]) != i["shape"] or 0 in value.shape:
            want = ["batch", *(["frames"] if framed else []), *i["shape"]]
            raise InputError(f"{name} has shape {list(value.shape)}, the network takes {want}")
        if not name.startswith("codes.") and i["kind"] == "number":
            value = encoded(name, value, i)
        if value.dtype.kind not in "iu":
            raise InputError(f"{name} is {value.dtype}, must be integers")
        if value.min() < i["lo"] or value.max() > i["hi"]:
            raise InputError(f"{name} has codes {value.min()} to {value.max()}, may have {i['lo']} to {i['hi']}")
        result[i["name"]] = (value if framed else value[:, np.newaxis]).astype(np.int64)
    if len({v.shape[:2] for v in result.values()}) != 1:
        raise InputError(f"inputs differ in batch or frames: { {n: v.shape for n, v in result.items()} }")
    return result


def encoded(name: str, value: NDArray[Any], i: Mapping[str, Any]) -> NDArray[np.int64]:
    """`clip(rint(value / scale), lo, hi)`, round half to even."""
    if value.dtype.kind not in "fiu":
        raise InputError(f"{name} is {value.dtype}, must be numbers")
    if not np.isfinite(value).all():
        raise InputError(f"{name} has {int((~np.isfinite(value)).sum())} entries that are not finite")
    codes: NDArray[np.int64] = np.clip(np.rint(value.astype(np.float64) / i["scale"]), i["lo"], i["hi"]).astype(
        np.int64
    )
    return codes


def main() -> int:
    parser = argparse.ArgumentParser(description="Run this network in Lava's Loihi simulation.")
    parser.add_argument("-i", "--input", required=True, type=Path, help="npz with the inputs")
    parser.add_argument("-o", "--output", required=True, type=Path, help="npz to write")
    parser.add_argument("--trace", action="store_true", help="write every state after each tick")
    parser.add_argument(
        "--sim-cfg", choices=("loihi1", "loihi2"), help="run configuration (default: the chip compiled for)"
    )
    parser.add_argument("--faults", type=Path, help="json with the faults to inject, as network.execute takes them")
    parser.add_argument("--timeout", type=float, help="end with status 4 after this many seconds")
    args = parser.parse_args()
    net = network.description()
    try:
        with np.load(args.input) as given:
            codes = codes_of(net, dict(given))
        faults = [] if args.faults is None else json.loads(args.faults.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{args.input}: {error}\n")
        return USAGE_STATUS
    configuration = args.sim_cfg or net["chip"]
    result = network.execute(net, codes, sim_cfg=configuration, trace=args.trace, timeout_s=args.timeout, faults=faults)
    mapping = json.loads((HERE / "mapping.json").read_text(encoding="utf-8"))
    report = energy.report(mapping["placements"], energy.counted(result))
    report["summary"] = energy.summary(report)
    np.savez(args.output, report=np.array(json.dumps(report)), **result)
    sys.stdout.write(energy.text(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
