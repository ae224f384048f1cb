"""The Lava network of this folder: built from network.json and weights.npz, run over a batch."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lava_compat  # type: ignore[import-not-found]
import numpy as np
from numpy.typing import NDArray

__all__ = ["description", "execute"]

HERE = Path(__file__).resolve().parent
LANES = 64
CHANNEL_SLOTS = 4
"""Messages that a channel of Lava can hold; one is in flight at most, Lava's 64 would only cost shared memory."""

Array = NDArray[Any]


def description() -> dict[str, Any]:
    """network.json."""
    loaded: dict[str, Any] = json.loads((HERE / "network.json").read_text(encoding="utf-8"))
    return loaded


def plan_of(net: Mapping[str, Any], passes: int, frames: int) -> list[tuple[str, int, int]]:
    """`(block, pass, frame)` of every time step."""
    steps, every = net["schedule"]["steps"], net["schedule"]["emit"] == "every"
    plan = []
    for number in range(passes):
        for frame in range(frames):
            plan.append(("drive", number, frame))
            plan += [("step", number, frame)] * steps
            if every or frame == frames - 1:
                plan.append(("readout", number, frame))
    return plan


def execute(
    net: Mapping[str, Any],
    codes: Mapping[str, Array],
    *,
    sim_cfg: str,
    trace: bool,
    timeout_s: float | None,
    faults: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Array]:
    """Run input codes `[batch, frames, *shape]`; the arrays of the answer are those that run.py writes.

    A fault is an upset of a `state` (`sample`, `element`, the ticks `first` to `last` that read it, `flip`, `one`,
    `zero`, `add`; `bits` and `signed` of its word), or of the event that tells the `synapse` of a `unit` in `tick`: its
    `kind` is dropped, duplicated or delayed `until` a later tick. Ticks count from 0, all frames together.
    """
    batch, frames = next(iter(codes.values())).shape[:2]
    lanes = min(batch, LANES)
    passes = -(-batch // lanes)
    plan = plan_of(net, passes, frames)
    lava_compat.prepare()
    with tempfile.TemporaryDirectory(prefix="loihi-") as folder:
        shared = {"lanes": lanes, "plan": plan, "trace": trace, "batch": batch}
        processes = _build(net, _padded(net, codes, lanes * passes), shared, Path(folder), faults)
        _run(next(iter(processes.values())), sim_cfg, len(plan), timeout_s)
        probes = {path.stem: dict(np.load(path)) for path in sorted(Path(folder).glob("*.npz"))}
    return _collect(net, probes, plan, batch=batch, frames=frames, lanes=lanes, passes=passes)


def _padded(net: Mapping[str, Any], codes: Mapping[str, Array], total: int) -> dict[str, Array]:
    """Codes with samples of zeros up to whole passes; indices as one-hot."""
    result = {}
    for i in net["inputs"]:
        value = codes[i["name"]]
        value = np.concatenate([value, np.zeros((total - len(value), *value.shape[1:]), value.dtype)])
        if i["kind"] == "index":
            value = (value.reshape(*value.shape[:2], -1, 1) == np.arange(i["rows"])).reshape(*value.shape[:2], -1)
        result[i["name"]] = value.astype(np.int32)
    return result


def _build(
    net: Mapping[str, Any],
    codes: Mapping[str, Array],
    shared: Mapping[str, Any],
    folder: Path,
    faults: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    sparse = importlib.import_module("scipy.sparse")
    stored = np.load(HERE / "weights.npz")
    processes: dict[str, Any] = {}
    for p in net["processes"]:
        name, kind = p["name"], p["kind"]
        module = importlib.import_module(f"processes.{p['package']}.process")
        mine = [f for f in faults if f.get("state") in p.get("states", ()) or f.get("synapse") == p.get("weights", "")]
        common = {**shared, "probe": str(folder / f"{name}.npz"), "faults": mine, "injected": bool(faults)}
        common["tells"] = not processes
        if kind == "population":
            params = {q: stored[f"param.{q}"][np.newaxis] for q in p["params"]}
            clamped = {i: codes[i] for i in p["clamped"]}
            processes[name] = module.Population(**common, params=params, codes=clamped)
        elif kind == "synapse":
            key = f"synapse.{p['weights']}"
            entries = (stored[f"{key}.weight"], (stored[f"{key}.row"], stored[f"{key}.column"]))
            matrix = sparse.csr_matrix(entries, shape=tuple(p["shape"]), dtype=np.int32)
            weights = matrix.toarray() if p["storage"] == "dense" else matrix.tocsc()
            bias = stored[f"{key}.bias"]
            processes[name] = module.Synapse(**common, block=p["block"], weights=weights, bias=bias)
        else:
            processes[name] = module.Conductor(**common)
    for link in net["links"]:
        port = getattr(processes[link["from"][0]], link["from"][1])
        port.connect([getattr(processes[name], port_name) for name, port_name in link["to"]])
    return processes


def _run(process: Any, sim_cfg: str, steps: int, timeout_s: float | None) -> None:
    configs = importlib.import_module("lava.magma.core.run_configs")
    conditions = importlib.import_module("lava.magma.core.run_conditions")
    chosen = {"loihi1": configs.Loihi1SimCfg, "loihi2": configs.Loihi2SimCfg}[sim_cfg]
    try:
        process.create_runtime(
            run_cfg=chosen(select_tag="fixed_pt"), compile_config={"pypy_channel_size": CHANNEL_SLOTS}
        )
    except BaseException as error:  # noqa: BLE001 - Ctrl-C too: Lava would hang on the way out
        lava_compat.end(process.runtime, f"the network does not start: {type(error).__name__}: {error}", 3)
    with lava_compat.guard(process.runtime, timeout_s):
        process.run(condition=conditions.RunSteps(num_steps=steps))
    process.stop()


def _collect(
    net: Mapping[str, Any],
    probes: Mapping[str, Mapping[str, Array]],
    plan: list[tuple[str, int, int]],
    *,
    batch: int,
    frames: int,
    lanes: int,
    passes: int,
) -> dict[str, Array]:
    steps = net["schedule"]["steps"]

    def by_sample(rows: Array) -> Array:
        """`[time steps, lanes, ...]` to `[time steps of one pass, samples, ...]`."""
        parts = rows.reshape(passes, -1, *rows.shape[1:])
        return np.moveaxis(parts, 0, 1).reshape(parts.shape[1], passes * lanes, *rows.shape[2:])[:, :batch]

    found = {key: by_sample(rows) for probe in probes.values() for key, rows in probe.items() if key != "moved"}
    moved = [by_sample(p["moved"]) for p in probes.values() if "moved" in p]
    most = np.max(moved, axis=0) if moved else np.zeros((frames * steps, batch), np.int64)
    still = (most == 0).reshape(frames, steps, batch)
    made = np.where(still.any(axis=1), still.argmax(axis=1) + 1, steps)
    result: dict[str, Array] = {"steps": made.sum(axis=0).astype(np.int64)}
    for o in net["outputs"]:
        rows = np.moveaxis(found[f"output.{o['value']}"], 0, 1).astype(np.int64)
        rows = rows.reshape(batch, -1, *o["shape"])
        result[o["name"]] = rows if net["schedule"]["emit"] == "every" else rows[:, -1]
    classes = next((o["name"] for o in net["outputs"] if o["kind"] == "classes"), None)
    if classes is not None:
        result["labels"] = result[classes].argmax(axis=-1).astype(np.int64)
    for s in net["states"]:
        key = f"state.{s['name']}"
        if key in found:
            result[key] = found[key].reshape(frames * steps, batch, *s["shape"]).astype(np.int64)
    for key, rows in found.items():
        if key.startswith(("events.", "units.")):
            result[key] = rows.T.astype(np.int64)
    for name, probe in probes.items():
        if "synops" in probe:
            result[f"synops.{name.removeprefix('syn_')}"] = by_sample(probe["synops"]).T.astype(np.int64)
    return result
