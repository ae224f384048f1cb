"""A bound of the contraction that the integers keep throughout a training."""

from __future__ import annotations

from ...toolchain.certificate import Block, recurrent_weights
from ..contract import ROUNDS, certificate_of, no_contraction, weight_free_bound
from .learner import Learner

__all__ = ["ContractionConstraint"]

_MARGIN = 1.0 - 2.0**-14
"""Below the factor that would just do: a scale in training has 16 significant bits."""


class ContractionConstraint:
    """Holds every recurrent block of a learner's integers at a proved bound of at most `limit` a step."""

    def __init__(self, learner: Learner, limit: float) -> None:
        self.learner = learner
        self.limit = limit
        self._floors: dict[tuple[str, ...], float] = {}

    def enforce(self) -> float:
        """Shrink the scales of recurrent weights until the bound holds, codes unchanged; the bound that is proved.

        Raises UsageError where it cannot hold: an operation without a bound, a gate, damping that alone exceeds
        `limit`, or a weight whose scale is not trained.
        """
        net = self.learner.source
        bound = 0.0
        for _ in range(ROUNDS):
            certificate = certificate_of(self.learner.lowered(), net)
            bound = certificate.bound
            loose = [block for block in certificate.blocks if block.bound > self.limit]
            if not loose:
                return bound
            for block in loose:
                self._shrink(block)
        what = f"after {ROUNDS} rounds the bound is {bound:.6g}, asked for is {self.limit:g}"
        raise no_contraction(what, net)

    def _shrink(self, block: Block) -> None:
        learner = self.learner
        names = recurrent_weights(learner.source, block.states)
        fixed = [name for name in names if not learner.scalable(name)]
        if fixed:
            what = f"the bound is {block.bound:.6g}, asked for is {self.limit:g}, and the scale of "
            raise no_contraction(f"{what}{', '.join(fixed)} is not trained", learner.source)
        if block.states not in self._floors:
            self._floors[block.states] = weight_free_bound(learner.source, names, block, self.limit)
        floor = self._floors[block.states]
        for name in names:
            learner.shrink(name, (self.limit - floor) / (block.bound - floor) * _MARGIN)
