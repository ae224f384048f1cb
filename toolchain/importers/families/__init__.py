"""The families: one `Family` for each class of network, found by the entry points of group `eqcompile.families`.

A family composes general operations of the IR; the tensors that it reads on
the way are the layout of its files. Where two packages have a class of the same name, the key's first part
tells them apart: they are different networks more often than not.
"""

from ..family import Family, Setting
from .build import ALPHA, GAMMA, Builder, family, steps

__all__ = ["ALPHA", "GAMMA", "Builder", "Family", "Setting", "family", "steps"]
