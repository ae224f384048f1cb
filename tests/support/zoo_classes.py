"""Classes of the research code that no trained checkpoint shows: PyTorch modules with their keys and equations.

Each was written from its equations, apart from the importers. `forward` gives the outputs and the states that are left.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from holding import Holding
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

__all__ = ["CASES", "Case"]

Result = tuple[Tensor, dict[str, Tensor]]
STEPS = 4


def normed(layer: nn.Module, norm: bool) -> nn.Module:
    return spectral_norm(layer) if norm else layer


def linear(inputs: int, outputs: int, norm: bool = False) -> nn.Module:
    return normed(nn.Linear(inputs, outputs), norm)


class Stack(nn.Module):
    """`algorithms`: layers with the older spectral norm; settling recomputes the pass."""

    def __init__(self, widths: Sequence[int], *, norm: bool, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(a, b) for a, b in pairwise(widths)]
        if norm:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                layers = [nn.utils.spectral_norm(layer) for layer in layers]
        self.layers = nn.ModuleList(layers)
        self.activation = activation

    def settled(self, h: Tensor) -> Tensor:
        return h

    def forward(self, x: Tensor) -> Result:
        for _ in range(STEPS):
            h = x
            for layer in self.layers[:-1]:
                h = self.settled(self.activation(layer(h)))
            out = self.layers[-1](h)
        return out, {"h": h}


class Adaptive(Stack):
    def __init__(self, widths: Sequence[int], **more: Any) -> None:
        super().__init__(widths, **more)
        self.feedback_weights = nn.ParameterList(nn.Parameter(torch.randn(b, a)) for a, b in pairwise(widths))


class Predictive(Stack):
    def __init__(self, widths: Sequence[int], **more: Any) -> None:
        super().__init__(widths, **more)
        self.top_down = nn.ModuleList(nn.Linear(b, a) for a, b in pairwise(widths))


class Sparse(Stack):
    def settled(self, h: Tensor) -> Tensor:
        least = torch.topk(h.abs(), h.shape[1] // 2, dim=1).values[:, -1:]
        return h * (h.abs() >= least)


class Perceptron(nn.Module):
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for a, b in pairwise(widths):
            parts += [nn.Linear(a, b), nn.Tanh()]
        self.net = nn.Sequential(*parts[:-1])

    def forward(self, x: Tensor) -> Result:
        return self.net(x), {"h": self.net[:-1](x)}


class Modern(nn.Module):
    """`h <- (1-g) h + g (W2 tanh(W1 LN h) + e)` from h = e."""

    def __init__(self, inputs: int, hidden: int, outputs: int, *, norm: bool, embed: str = "embed_layer") -> None:
        super().__init__()
        self.add_module(embed, nn.Linear(inputs, hidden))
        self.embed_name = embed
        self.W1, self.W2 = linear(hidden, 4 * hidden, norm), linear(4 * hidden, hidden, norm)
        self.norm, self.Head = nn.LayerNorm(hidden), nn.Linear(hidden, outputs)
        self.g = 0.5

    def prepared(self, x: Tensor) -> Tensor:
        return x

    def ffn(self, h: Tensor) -> Tensor:
        return self.W2(torch.tanh(self.W1(self.norm(h))))

    def forward(self, x: Tensor) -> Result:
        e = self.get_submodule(self.embed_name)(self.prepared(x))
        h = e
        for _ in range(STEPS):
            h = (1 - self.g) * h + self.g * (self.ffn(h) + e)
        return self.Head(h), {"h": h}


class Scaled(Modern):
    def __init__(self, inputs: int, hidden: int, outputs: int, *, norm: bool, reference: int) -> None:
        super().__init__(inputs, hidden, outputs, norm=norm)
        self.g *= min(1.0, math.sqrt(reference / inputs))


class Compressed(Modern):
    def __init__(self, inputs: int, target: int, hidden: int, outputs: int, *, norm: bool) -> None:
        super().__init__(target, hidden, outputs, norm=norm)
        wide = 2 * target
        self.compressor = nn.Sequential(
            nn.Linear(inputs, wide),
            nn.LayerNorm(wide),
            nn.Tanh(),
            nn.Dropout(0.1),
            nn.Linear(wide, target),
            nn.LayerNorm(target),
        )

    def prepared(self, x: Tensor) -> Tensor:
        return self.compressor(x)


class Projected(Modern):
    def __init__(self, inputs: int, target: int, hidden: int, outputs: int, *, norm: bool) -> None:
        super().__init__(target, hidden, outputs, norm=norm)
        self.register_buffer("projection", torch.randn(inputs, target))

    def prepared(self, x: Tensor) -> Tensor:
        return x @ self.projection


class Guide(nn.Module):
    def __init__(self, fine: int, coarse: int) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(fine, fine), nn.Linear(coarse, fine), nn.Linear(coarse, fine)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        score = (self.query(fine) * self.key(coarse)).sum(-1, keepdim=True) / math.sqrt(fine.shape[-1])
        return torch.sigmoid(score) * self.value(coarse)


class ThreeScales(Modern):
    def __init__(self, inputs: int, hidden: int, outputs: int, *, norm: bool, adaptive: bool) -> None:
        super().__init__(inputs, hidden, outputs, norm=norm, embed="embed")
        medium, coarse = hidden // 2, hidden // 4
        self.down_fine_to_medium, self.down_medium_to_coarse = nn.Linear(hidden, medium), nn.Linear(medium, coarse)
        self.up_coarse_to_medium, self.up_medium_to_fine = nn.Linear(coarse, medium), nn.Linear(medium, hidden)

        def ffn(n: int) -> nn.Module:
            return nn.Sequential(nn.LayerNorm(n), nn.Linear(n, 4 * n), nn.Tanh(), nn.Dropout(0.1), nn.Linear(4 * n, n))

        self.coarse_ffn, self.medium_ffn = ffn(coarse), ffn(medium)
        self.medium_to_coarse_attn, self.fine_to_medium_attn = Guide(medium, coarse), Guide(hidden, medium)
        self.adaptive = adaptive
        if adaptive:
            self.coarse_gate, self.medium_gate = nn.Linear(coarse, 1), nn.Linear(medium, 1)

    def forward(self, x: Tensor) -> Result:
        g, k = self.g, 0.15
        e = self.get_submodule("embed")(x)
        to_medium = self.down_fine_to_medium(e)
        to_coarse = self.down_medium_to_coarse(to_medium)
        h, medium, coarse = e, to_medium, to_coarse
        for _ in range(STEPS):
            inner = self.coarse_ffn(coarse)
            if self.adaptive:
                inner = torch.sigmoid(self.coarse_gate(coarse)) * inner
            coarse = (1 - 1.8 * g) * coarse + 1.8 * g * (inner + to_coarse)
            inner = self.medium_ffn(medium)
            if self.adaptive:
                inner = torch.sigmoid(self.medium_gate(medium)) * inner
            target = inner + to_medium + k * self.medium_to_coarse_attn(medium, coarse)
            medium = (1 - 1.4 * g) * medium + 1.4 * g * target
            target = self.ffn(h) + e + k * self.fine_to_medium_attn(h, medium)
            h = (1 - g) * h + g * target
        return self.Head(h), {"h": h, "medium": medium, "coarse": coarse}


class ConvLoop(nn.Module):
    """`eqprop_torch.ConvEqProp`."""

    def __init__(self, channels: int, hidden: int, outputs: int, *, norm: bool) -> None:
        super().__init__()
        self.embed = normed(nn.Conv2d(channels, hidden, 3, padding=1), norm)
        self.W1 = normed(nn.Conv2d(hidden, 2 * hidden, 3, padding=1), norm)
        self.W2 = normed(nn.Conv2d(2 * hidden, hidden, 3, padding=1), norm)
        self.norm = nn.GroupNorm(8, hidden)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(hidden, outputs))

    def forward(self, x: Tensor) -> Result:
        e = self.embed(x)
        h = torch.zeros_like(e)
        for _ in range(STEPS):
            h = torch.lerp(h, self.W2(torch.tanh(self.W1(self.norm(h)))) + e, 0.5)
        return self.head(h), {"h": h}


class Cube(nn.Module):
    """`models.HebbianCube`: a hidden layer smaller than the lattice fills its first sites."""

    def __init__(self, inputs: int, hidden: int, outputs: int, *, side: int, layers: int, norm: bool) -> None:
        super().__init__()
        self.side, self.units, self.channels = side, min(hidden, side**3), max(1, hidden // side**3)
        self.input_proj = linear(inputs, self.units, norm)
        convolutions = [nn.Conv3d(self.channels, self.channels, 3, padding=1, bias=False) for _ in range(layers)]
        self.conv_layers = nn.ModuleList(normed(c, norm) for c in convolutions)
        self.head = linear(self.units, outputs, norm)

    def forward(self, x: Tensor) -> Result:
        h = torch.tanh(self.input_proj(x))
        h = functional.pad(h, (0, self.channels * self.side**3 - self.units))
        h = h.view(len(x), self.channels, self.side, self.side, self.side)
        for convolution in self.conv_layers:
            h = torch.tanh(convolution(h))
        return self.head(h.flatten(1)[:, : self.units]), {"h": h}


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.W_q, self.W_k, self.W_v, self.W_o = (linear(width, width, norm) for _ in range(4))

    def forward(self, h: Tensor) -> Tensor:
        batch, length, width = h.shape

        def split(layer: nn.Module) -> Tensor:
            return layer(h).view(batch, length, self.heads, width // self.heads).transpose(1, 2)

        q, k, v = split(self.W_q), split(self.W_k), split(self.W_v)
        scores = q @ k.transpose(-1, -2) / math.sqrt(width // self.heads)
        later = torch.ones(length, length).triu(1).bool()
        mixed = scores.masked_fill(later, -math.inf).softmax(-1) @ v
        return self.W_o(mixed.transpose(1, 2).reshape(batch, length, width))


class Embedded(nn.Module):
    def __init__(self, rows: int, width: int, length: int) -> None:
        super().__init__()
        self.token_emb, self.pos_emb = nn.Embedding(rows, width), nn.Embedding(length, width)
        self.lm_head = nn.Linear(width, rows)

    def embedded(self, x: Tensor) -> Tensor:
        return self.token_emb(x) + self.pos_emb(torch.arange(x.shape[1]))


def feed(width: int, hidden: int, middle: Sequence[nn.Module], norm: bool = False) -> nn.Sequential:
    return nn.Sequential(linear(width, hidden, norm), *middle, linear(hidden, width, norm))


class Hybrid(Embedded):
    def __init__(self, rows: int, width: int, length: int, *, layers: int, norm: bool) -> None:
        super().__init__(rows, width, length)

        def block() -> nn.Module:
            parts = {"attention": Attention(width, 2, False), "ffn": feed(width, 2 * width, [nn.GELU()])}
            return nn.ModuleDict({**parts, "norm1": nn.LayerNorm(width), "norm2": nn.LayerNorm(width)})

        self.standard_blocks = nn.ModuleList(block() for _ in range(layers - 1))
        self.eq_attention, self.eq_ffn = Attention(width, 2, norm), feed(width, 2 * width, [nn.ReLU()], norm)
        self.eq_norm1, self.eq_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Result:
        h = self.embedded(x)
        for block in self.standard_blocks:
            h = h + block["attention"](block["norm1"](h))
            h = h + block["ffn"](block["norm2"](h))
        source = h
        for _ in range(STEPS):
            h = h + self.eq_attention(self.eq_norm1(h))
            h = 0.5 * h + 0.5 * torch.tanh(h + self.eq_ffn(self.eq_norm2(h)) + source)
        return self.lm_head(h), {"h": h}


class LoopedText(Embedded):
    def __init__(self, rows: int, width: int, length: int, *, norm: bool) -> None:
        super().__init__(rows, width, length)
        self.W_in, self.W_rec = linear(width, width, norm), linear(width, width, norm)

    def forward(self, x: Tensor) -> Result:
        drive = self.W_in(self.embedded(x))
        h = torch.zeros_like(drive)
        for _ in range(STEPS):
            h = torch.tanh(drive + self.W_rec(h))
        return self.lm_head(h), {"h": h}


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention, self.norm1, self.norm2 = Attention(width, 2, False), nn.LayerNorm(width), nn.LayerNorm(width)
        self.ffn = feed(width, 2 * width, [nn.GELU(), nn.Dropout(0.1)])

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.attention(self.norm1(h))
        return h + self.ffn(self.norm2(h))


class Transformer(Embedded):
    def __init__(self, rows: int, width: int, length: int, *, layers: int) -> None:
        super().__init__(rows, width, length)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.norm_f = nn.LayerNorm(width)
        self.register_buffer("causal_mask", torch.ones(length, length).triu(1).bool())

    def forward(self, x: Tensor) -> Result:
        h = self.embedded(x)
        for block in self.blocks:
            h = block(h)
        return self.lm_head(self.norm_f(h)), {"h": h}


class Case(NamedTuple):
    """A module, the settings it was made with, and the shape of a sample; `rows` of a vocabulary for indices."""

    family: str
    make: Callable[[], nn.Module]
    settings: dict[str, Any]
    sample: tuple[int, ...] = (6,)
    rows: int | None = None


def _stacks(kind: type[Stack], family: str) -> dict[str, Case]:
    """A class of `algorithms` with each activation and with each form of its weights."""
    functions = {"silu": functional.silu, "relu": torch.relu, "tanh": torch.tanh, "gelu": functional.gelu}
    cases = {}
    for i, (name, function) in enumerate(functions.items()):

        def make(function: Any = function, i: int = i) -> nn.Module:
            return kind((6, 7, 9, 4)[: 3 + i % 2] + (3,), norm=i < 2, activation=function)

        cases[f"{kind.__name__}-{name}"] = Case(family, make, {"activation": name})
    return cases


STEP = {"steps": STEPS}
IMAGE, TEXT, ROWS = (2, 2, 3), (5,), 6
SPACE = STEP | {"height": IMAGE[1], "width": IMAGE[2]}
CASES: dict[str, Case] = {
    **_stacks(Stack, "algorithms.BackpropBaseline"),
    **_stacks(Adaptive, "algorithms.AdaptiveFeedbackAlignment"),
    **_stacks(Predictive, "algorithms.PredictiveCodingHybrid"),
    **_stacks(Sparse, "algorithms.SparseEquilibrium"),
    "perceptron-1": Case("archive.BackpropMLP", lambda: Perceptron((6, 8, 3)), {}),
    "perceptron-3": Case("archive.BackpropMLP", lambda: Perceptron((6, 8, 8, 8, 3)), {}),
    "scaled": Case(
        "archive.DimensionScaledEqProp", lambda: Scaled(6, 8, 3, norm=True, reference=4), STEP | {"reference_dim": 4}
    ),
    "scaled-few-inputs": Case("archive.AdaptiveBetaEqProp", lambda: Scaled(6, 8, 3, norm=False, reference=64), STEP),
    "embedding": Case("archive.EmbeddingEqProp", lambda: Compressed(6, 5, 8, 3, norm=True), STEP),
    "embedding-plain": Case("archive.EmbeddingEqProp", lambda: Compressed(6, 4, 8, 3, norm=False), STEP),
    "projected": Case("archive.ProjectedEqProp", lambda: Projected(6, 5, 8, 3, norm=True), STEP),
    "projected-plain": Case("archive.ProjectedEqProp", lambda: Projected(6, 4, 8, 3, norm=False), STEP),
    "scales": Case("archive.EnhancedMSTEP", lambda: ThreeScales(6, 16, 3, norm=True, adaptive=True), STEP),
    "scales-ungated": Case("archive.EnhancedMSTEP", lambda: ThreeScales(6, 12, 3, norm=False, adaptive=False), STEP),
    "conv": Case("eqprop_torch.ConvEqProp", lambda: ConvLoop(2, 16, 3, norm=True), SPACE, IMAGE),
    "conv-plain": Case("eqprop_torch.ConvEqProp", lambda: ConvLoop(2, 8, 3, norm=False), SPACE, IMAGE),
    "holding": Case("examples.LazyLoop", lambda: Holding(6, 8, 3, steps=STEPS), STEP),
    "cube": Case("models.HebbianCube", lambda: Cube(6, 27, 4, side=3, layers=2, norm=True), {"cube_size": 3}),
    "cube-few": Case("models.HebbianCube", lambda: Cube(6, 11, 4, side=3, layers=2, norm=False), {"cube_size": 3}),
    "cube-channels": Case("models.HebbianCube", lambda: Cube(6, 17, 4, side=2, layers=1, norm=True), {"cube_size": 2}),
    "hybrid": Case(
        "models.HybridEqPropLM", lambda: Hybrid(ROWS, 8, 5, layers=2, norm=True), STEP | {"num_heads": 2}, TEXT, ROWS
    ),
    "hybrid-one": Case(
        "eqprop_torch.HybridEqPropLM",
        lambda: Hybrid(ROWS, 8, 7, layers=1, norm=False),
        STEP | {"num_heads": 2, "length": 5},
        TEXT,
        ROWS,
    ),
    "looped-text": Case("models.LoopedMLPForLM", lambda: LoopedText(ROWS, 8, 5, norm=True), STEP, TEXT, ROWS),
    "looped-text-plain": Case(
        "eqprop_torch.LoopedMLPForLM", lambda: LoopedText(ROWS, 8, 5, norm=False), STEP, TEXT, ROWS
    ),
    "transformer": Case(
        "models.BackpropTransformerLM", lambda: Transformer(ROWS, 8, 5, layers=2), {"num_heads": 2}, TEXT, ROWS
    ),
}
