"""CartPole balanced by compiled RTL cores under upsets: two equilibrium nets and a feed-forward net side by side.

    python examples/cartpole.py --out build/cartpole
    python examples/cartpole.py --out build/cartpole --quick

The controllers of `cartpole_train.py` are compiled for the serial core, and the core, in Verilator, closes the loop:
in every control step it is sent the codes of what it observes and its label is the push. One
equilibrium net was trained to contract; beside the pushes of a net that is proved to contract stands how many the
certificate allows upsets of states to change. Upsets flip one bit:

- of a state register, at most one in an inference, in a tick at random, by the core's saboteurs: the next inference
  starts anew;
- of a weight, in any number, by the load port: it stays until the end of the episode. Nothing scrubs.

Episodes of all rates run side by side, one sample each in every call of the simulator, from the same starts for all
cores. Every push without an upset is compared with golden, and so is a sample of those with upsets. Writes
`cartpole.json` and `cartpole.png`; ends with 1 if a core differed from golden.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cartpole_plot import plot
from cartpole_train import CALIBRATION, CHECKPOINTS, Floats, network_input, regulator, teacher
from numpy.typing import NDArray
from tqdm import tqdm
from train import write

from eqcompile.app import compile as pipeline
from eqcompile.sim.campaign.statistics import wilson
from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.models.seu import SeuModel
from eqcompile.sim.faults.rtl.loop import ClosedLoop
from eqcompile.sim.faults.table import Fault, FaultTable, Place, Upset
from eqcompile.toolchain import data, golden, registry
from eqcompile.toolchain.certificate import certify, recovery
from eqcompile.toolchain.diagnostics import EqcompileError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.reference import run_reference

Codes = NDArray[np.int64]
CORES = {"looped.pt": "equilibrium net", "certified.npz": "contracting net", "mlp.pt": "feed-forward net"}
RATES = {"state": (0.1, 1.0), "weight": (0.03, 0.1, 0.3, 1.0)}
QUICK = {"state": (1.0,), "weight": (1.0,)}
PUSHES = 500
CHECKED = 2
"""Pushes with upsets that are compared with golden, of each core in each control step."""
PROVED = 200
"""Observations of undisturbed episodes, at most, for which it is proved what an upset can change."""


@dataclass(frozen=True)
class Setting:
    """Upsets of an inference, in the mean, and what they are in."""

    site: str
    rate: float


@dataclass
class Count:
    """What was seen of a setting: pushes of each episode, and how many of all were another than without any upset."""

    pushes: Codes
    wrong: int = 0


@dataclass
class Memory:
    """The upsets that stand in the weights of an episode: bits by name and element."""

    bits: dict[tuple[str, int], int] = field(default_factory=dict)

    def add(self, upset: Upset) -> None:
        key = upset.name, upset.index
        self.bits[key] = self.bits.get(key, 0) ^ upset.flip

    def upsets(self, ticks: int) -> tuple[Upset, ...]:
        kept = sorted((key, flip) for key, flip in self.bits.items() if flip)
        return tuple(Upset(Place.PARAM, name, index, 0, ticks, flip=flip) for (name, index), flip in kept)


def episodes(policy: Callable[[Floats, Codes], Codes], starts: Floats, limit: int, told: str) -> Codes:
    """Pushes until each episode [episodes, 4] ended, at most `limit`; `policy` is given what is observed and the
    numbers of the episodes that still run."""
    from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

    env: Any = CartPoleVectorEnv(num_envs=len(starts), max_episode_steps=PUSHES)
    env.reset(seed=0)
    env.state = starts.T.copy()
    running, pushes = np.arange(len(starts)), np.zeros(len(starts), np.int64)
    with tqdm(total=limit, desc=told, unit="push", leave=False, disable=not sys.stderr.isatty()) as bar:
        while len(running) and pushes.max() < limit:
            chosen = np.zeros(len(starts), np.int64)
            chosen[running] = policy(env.state.T[running], running)
            _, _, fallen, _, _ = env.step(chosen)
            pushes[running] += 1
            running = running[~fallen[running]]
            bar.update()
    return pushes


class Core:
    """A compiled controller in the loop, and golden beside it."""

    def __init__(self, net: IntNet, loop: ClosedLoop, settings: Sequence[Setting], each: int, seed: int) -> None:
        self.net, self.loop, self.each, self.settings = net, loop, each, settings
        self.ticks, self.draw = net.schedule.steps, np.random.default_rng(seed)
        self.memory = [Memory() for _ in range(each * len(settings))]
        self.wrong = np.zeros(len(settings), np.int64)
        self.compared, self.differing, self.clocks = 0, 0, 0
        self.seen: list[tuple[Codes, tuple[Upset, ...], int]] = []
        self.quiet: list[Codes] = []

    def push(self, observed: Floats, running: Codes) -> Codes:
        """The pushes of the episodes `running`."""
        codes, _ = data.encode(self.net, {"x": network_input(observed)})
        setting = running // self.each
        upsets = self._upsets(codes, running, setting)
        round_ = self.loop.run(codes, upsets)
        logits = round_.outputs["logits"]
        want = golden.run(self.net, codes).outputs["logits"]
        found, right = golden.labels(logits).reshape(-1), golden.labels(want).reshape(-1)
        clean = np.array([not u for u in upsets])
        self.quiet.append(codes["x"][np.array([self.settings[i].site == "none" for i in setting], bool)])
        self.compared += int(clean.sum())
        self.differing += int((logits != want)[clean].any(axis=1).sum())
        self.clocks = max(self.clocks, int(round_.latency.max()))
        np.add.at(self.wrong, setting, found != right)
        self._keep(codes["x"], upsets, found)
        return found

    def _upsets(self, codes: Mapping[str, Codes], running: Codes, setting: Codes) -> list[tuple[Upset, ...]]:
        found: list[tuple[Upset, ...]] = [()] * len(running)
        for site in RATES:
            rates = np.array([s.rate if s.site == site else 0.0 for s in self.settings])[setting]
            draws = self.draw.poisson(rates) if site == "weight" else self.draw.random(len(rates)) < rates
            owners = np.repeat(np.arange(len(running)), draws.astype(np.int64))
            drawn = SeuModel(sites=site).draw(self.net, len(owners), self.draw, codes) if len(owners) else ()
            for row, fault in zip(owners, drawn, strict=True):
                if site == "state":
                    found[row] = fault.upsets
                else:
                    self.memory[running[row]].add(*fault.upsets)
        return [state or self.memory[e].upsets(self.ticks) for state, e in zip(found, running, strict=True)]

    def _keep(self, x: Codes, upsets: Sequence[tuple[Upset, ...]], found: Codes) -> None:
        """A few of the pushes with upsets, for golden to judge."""
        hit = [i for i, u in enumerate(upsets) if u]
        if hit:
            for i in self.draw.choice(hit, size=min(CHECKED, len(hit)), replace=False):
                self.seen.append((x[i], upsets[i], int(found[i])))

    def judged(self) -> tuple[int, int]:
        """Pushes with upsets that golden was given too, and how many differ."""
        if not self.seen:
            return 0, 0
        session = GoldenEngine().open(self.net, {"x": np.array([x for x, _, _ in self.seen])}, near=0)
        faults = FaultTable.of([Fault(i, "loop", 0, -1, upsets) for i, (_, upsets, _) in enumerate(self.seen)])
        labels = session.run(faults)["label"]
        return len(labels), int((labels != np.array([label for _, _, label in self.seen])).sum())

    def allowed(self) -> float | None:
        """The largest share of pushes that an upset of one state in each inference can change: for observations of the
        undisturbed episodes, in the mean over the times of the upset; None where nothing is proved.

        An upset leaves 0 to `ticks` ticks, one as often as the other. What is not proved is taken as changed.
        """
        if not certify(self.net).certified or not certify(self.net).blocks:
            return None
        observed = np.unique(np.concatenate(self.quiet), axis=0)
        some = np.random.default_rng(0).permutation(len(observed))[:PROVED]
        proved = recovery(self.net, {"x": observed[some]}, ticks=self.ticks - 1)
        return 1.0 - float(proved.safe.sum(axis=1).mean()) / (self.ticks + 1)


def rows(
    name: str,
    settings: Sequence[Setting],
    pushes: Codes,
    wrong: Codes | None,
    limit: int,
    allowed: float | None = None,
) -> list[dict[str, Any]]:
    """Results of a controller by setting, as JSON values; `allowed` as `Core.allowed` has it."""
    found = []
    for number, (setting, lasted) in enumerate(zip(settings, np.split(pushes, len(settings)), strict=True)):
        balanced = int((lasted >= limit).sum())
        found.append(
            {
                "controller": name,
                "site": setting.site,
                "upsets_per_inference": setting.rate,
                "episodes": len(lasted),
                "balanced": {"episodes": balanced, **wilson(balanced, len(lasted), confidence=0.95).to_json()},
                "pushes_mean": float(lasted.mean()),
                "wrong_pushes": None if wrong is None else int(wrong[number]) / int(lasted.sum()),
                "kind": "simulated",
            }
        )
        if allowed is not None and setting.site == "state":
            found[-1]["wrong_pushes_at_most"] = {"value": allowed * setting.rate, "kind": "proved"}
    return found


def verdict(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """In words, for each site: where an equilibrium net and the feed-forward net differ in the share of episodes
    balanced, and in wrong pushes."""
    said = []
    *nets, control = CORES.values()
    sites = dict.fromkeys(r["site"] for r in results if r["upsets_per_inference"] and r["wrong_pushes"] is not None)
    for site, net in ((site, net) for site in sites for net in nets):
        ours, theirs = (
            [r for r in results if r["controller"] == name and r["site"] == site] for name in (net, control)
        )
        better, worse = [], []
        for a, b in zip(ours, theirs, strict=True):
            if a["balanced"]["low"] > b["balanced"]["high"]:
                better.append(a["upsets_per_inference"])
            if a["balanced"]["high"] < b["balanced"]["low"]:
                worse.append(a["upsets_per_inference"])
        if better or worse:
            parts = [
                f"{word} at {', '.join(map(str, at))} upsets"
                for word, at in (("better", better), ("worse", worse))
                if at
            ]
            text = f"{site}: the {net} balances {' and '.join(parts)} an inference than the {control}"
        else:
            text = f"{site}: {net} and {control} balance alike (intervals overlap at every rate)"
        more = sum(a["wrong_pushes"] > b["wrong_pushes"] for a, b in zip(ours, theirs, strict=True))
        said.append(f"{text}, with more wrong pushes at {more} of {len(ours)} rates")
    return said


def compiled(name: str, out: Path) -> IntNet:
    """The net that the serial core of `out` computes."""
    request = pipeline.CompileRequest(
        model=CHECKPOINTS / name,
        target=registry.target_class("rtl").of(arch="serial", saboteurs=True),
        output=out / Path(name).stem,
        calibration=CALIBRATION,
        verify=False,
        force=True,
    )
    return pipeline.compile_model(request).net


def run(out: Path, *, each: int, limit: int, rates: Mapping[str, Sequence[float]], seed: int) -> dict[str, Any]:
    """All controllers; what `cartpole.json` holds."""
    settings = [Setting("none", 0.0), *(Setting(site, rate) for site, held in rates.items() for rate in held)]
    starts = np.random.default_rng(seed).uniform(-0.05, 0.05, (each, 4))
    results, checks = [], {}
    gain = teacher(regulator())
    floats = {"linear regulator": lambda seen, running: gain(seen)}
    for name, told in CORES.items():
        net = import_model(CHECKPOINTS / name).net
        floats[f"{told}, float"] = lambda seen, running, net=net: (
            run_reference(net, {"x": network_input(seen)}).outputs["logits"].argmax(axis=1)
        )
    for told, policy in floats.items():
        results += rows(told, settings[:1], episodes(policy, starts, limit, told), None, limit)
    for name, told in CORES.items():
        net = compiled(name, out)
        with ClosedLoop(net, out / Path(name).stem) as loop:
            core = Core(net, loop, settings, each, seed)
            pushes = episodes(core.push, np.tile(starts, (len(settings), 1)), limit, told)
        judged, differing = core.judged()
        results += rows(told, settings, pushes, core.wrong, limit, core.allowed())
        checks[told] = {
            "clocks_most": core.clocks,
            "logits_compared": core.compared,
            "logits_differing": core.differing,
            "upset_pushes_compared": judged,
            "upset_pushes_differing": differing,
            "kind": "simulated",
        }
    verdicts = verdict(results)
    return {"pushes": limit, "seed": seed, "results": results, "checks": checks, "verdict": verdicts}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the story; 1 if a core differed from golden."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/cartpole"), help="folder (default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=20, help="at each rate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="4 episodes of 60 pushes, one rate")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    each, limit = (4, 60) if options.quick else (options.episodes, PUSHES)
    try:
        found = run(options.out, each=each, limit=limit, rates=QUICK if options.quick else RATES, seed=options.seed)
    except EqcompileError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    write(options.out / "cartpole.json", lambda f: f.write((json.dumps(found, indent=1) + "\n").encode()))
    plot(found, options.out / "cartpole.png")
    for line in table(found):
        sys.stdout.write(line + "\n")
    return 1 if any(c["logits_differing"] or c["upset_pushes_differing"] for c in found["checks"].values()) else 0


def table(found: Mapping[str, Any]) -> list[str]:
    """The results in words."""
    lines = [
        "| controller | upsets in | an inference | balanced | 95 % | mean pushes | wrong pushes | proved: at most |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in found["results"]:
        b = r["balanced"]
        wrong = "" if r["wrong_pushes"] is None else f"{r['wrong_pushes']:.4f}"
        most = f"{r['wrong_pushes_at_most']['value']:.4f}" if "wrong_pushes_at_most" in r else ""
        lines.append(
            f"| {r['controller']} | {r['site']} | {r['upsets_per_inference']:g} | {b['episodes']}/{r['episodes']} "
            f"| {b['low']:.2f}-{b['high']:.2f} | {r['pushes_mean']:.1f} | {wrong} | {most} |"
        )
    for told, c in found["checks"].items():
        lines.append(
            f"{told}: {c['logits_differing']} of {c['logits_compared']} pushes without upset and "
            f"{c['upset_pushes_differing']} of {c['upset_pushes_compared']} with upsets differ from golden (simulated)"
        )
    return lines + list(found["verdict"])


if __name__ == "__main__":
    sys.exit(main())
