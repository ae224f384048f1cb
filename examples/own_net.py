"""A PyTorch step of one's own to an artifact that is proved equal to it: `python examples/own_net.py`."""

import torch

import eqcompile as eq

torch.manual_seed(0)
inner, outer, head = torch.nn.Linear(32, 32), torch.nn.Linear(8, 32), torch.nn.Linear(32, 4)


def step(h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return 0.5 * h + 0.5 * torch.tanh(inner(h) + outer(x))


model = eq.load(step, example=(torch.zeros(2, 32), torch.randn(2, 8)), steps=30, readout=head)
eq.compile(eq.quantize(model), target="numpy", out="own_net")
