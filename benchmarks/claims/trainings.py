"""Train what the claims of `run.py` are judged by, several nets, rules and seeds, and record each in trainings.json.

    python benchmarks/claims/trainings.py --data mnist.npz --device cuda --jobs 16

Nets and settings are those of examples/bounded.py: one net by equilibrium propagation and by backpropagation, with the
same symmetric and bounded recurrence. Chains are `h_0 = tanh(W_in x + b)`, `h_i = tanh(W_i h_{i-1})`, each W_i divided
by its spectral norm, trained by backpropagation. Accuracies are measured on the test sets, after the last epoch.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "examples"))

from bounded import SETTINGS, train  # noqa: E402
from train_contracting import load, measure  # noqa: E402
from train_mnist import exit_status  # noqa: E402

RECORD = HERE / "trainings.json"
SEEDS = (0, 1, 2)
DEPTHS = (5, 20, 100)
CHAIN_EPOCHS, CHAIN_UNITS, CHAIN_BATCH, CHAIN_RATE = 60, 64, 64, 2e-3


@dataclass(frozen=True)
class Job:
    """One training: `net` of examples/bounded.py or `chain`, whose `depth` is its number of layers."""

    net: str
    rule: str
    seed: int
    depth: int = 0


def jobs() -> list[Job]:
    looped = [Job(net, rule, seed) for net in SETTINGS for rule in ("eqprop", "bptt") for seed in SEEDS]
    return looped + [Job("chain", "bptt", seed, depth) for depth in DEPTHS for seed in SEEDS]


class Chain(nn.Module):
    """Layers of a chain; `signals` are their states [batch, units], the first that of the input layer."""

    def __init__(self, inputs: int, depth: int) -> None:
        super().__init__()
        self.first = spectral_norm(nn.Linear(inputs, CHAIN_UNITS))
        layers = (nn.Linear(CHAIN_UNITS, CHAIN_UNITS, bias=False) for _ in range(depth))
        self.layers = nn.ModuleList(spectral_norm(layer) for layer in layers)
        self.head = nn.Linear(CHAIN_UNITS, 10)

    def signals(self, x: Tensor) -> list[Tensor]:
        states = [torch.tanh(self.first(x))]
        for layer in self.layers:
            states.append(torch.tanh(layer(states[-1])))
        return states


def chain(job: Job, data: Path | None, device: str) -> dict[str, float]:
    """Accuracy; the share of the signal, and of the gradient, that is left between the first and the last layer."""
    images, _, test = load("digits", data, device, held=False)
    torch.manual_seed(job.seed)
    net = Chain(images.x[0].numel(), job.depth).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=CHAIN_RATE)
    for _ in range(CHAIN_EPOCHS):
        for chosen in torch.randperm(len(images.y), device=device).split(CHAIN_BATCH):
            optimizer.zero_grad()
            logits = net.head(net.signals(images.x[chosen].flatten(1))[-1])
            functional.cross_entropy(logits, images.y[chosen]).backward()
            optimizer.step()
    net.eval()
    states = net.signals(test.x.flatten(1))
    for state in states:
        state.retain_grad()
    logits = net.head(states[-1])
    functional.cross_entropy(logits, test.y).backward()
    credit = [float(state.grad.norm()) for state in states if state.grad is not None]
    return {
        "accuracy": float((logits.argmax(dim=1) == test.y).double().mean()),
        "signal_left": float(states[-1].detach().norm() / states[0].detach().norm()),
        "credit_left": credit[0] / max(credit[-1], 1e-300),
    }


def run_job(job: Job, data: Path | None, device: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    start = time.monotonic()
    if job.net == "chain":
        measured = chain(job, data, device)
    else:
        images, _, test = load(job.net, data, device, held=False)
        measured = measure(train(images, SETTINGS[job.net], seed=job.seed, rule=job.rule, progress=False), test)
    return {**vars(job), **measured, "seconds": round(time.monotonic() - start, 1)}


def _run(options: argparse.Namespace) -> None:
    chosen = [job for job in jobs() if options.data or not job.net.startswith("mnist")]
    rows = []
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        waiting = [pool.submit(run_job, job, options.data, options.device) for job in chosen]
        for done in as_completed(waiting):
            row = done.result()
            rows.append(row)
            sys.stderr.write(f"{len(rows)}/{len(chosen)} {json.dumps(row)}\n")
    order = {tuple(vars(job).values()): number for number, job in enumerate(jobs())}
    rows.sort(key=lambda row: order[row["net"], row["rule"], row["seed"], row["depth"]])
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    document = {"date": time.strftime("%Y-%m-%d"), "torch": torch.__version__, "device": name, "trainings": rows}
    options.output.write_text(json.dumps(document, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="mnist.npz (default: the MNIST nets are left out)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side")
    parser.add_argument("-o", "--output", type=Path, default=RECORD)
    return exit_status(_run, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
