"""Golden: the definition of right. `run` interprets an IntNet in NumPy int64 as `ir/SPEC.md` says, rule by rule."""

from .interpreter import Evaluation, Machine, Samples, Scope, clamped_codes, first_states, labels, run

__all__ = ["Evaluation", "Machine", "Samples", "Scope", "clamped_codes", "first_states", "labels", "run"]
