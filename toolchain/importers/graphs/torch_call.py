"""One call of a live step: its arguments as plain tensors, and what of the result is a state and what an output."""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...diagnostics import Diagnostic, UsageError
from ..family import normalise

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Module

__all__ = ["Call", "Example", "Step", "place_of"]

Step: TypeAlias = Callable[..., Any]
"""A `torch.nn.Module` or a function of tensors."""
Example: TypeAlias = Sequence[Any] | Mapping[str, Any]
"""What a step is called with: its arguments in order, or by name; tensors or arrays."""
Structure: TypeAlias = Any
"""A tensor, or a tuple, list or dictionary of structures."""
_FORM = "write it as (h, x) -> h_next or (h, x) -> (h_next, outputs), h a tensor, tuple, list or dictionary of them"


@dataclass(frozen=True)
class Call:
    """A step and what it is called with. `tensors` `[samples, *shape]` are those of the arguments, in order, the first
    `states` of them the state; `names` are theirs and `outputs` those of the outputs. `modules` are those that the step
    and the readout are or use."""

    step: Step
    readout: Step | None
    label: str
    arguments: tuple[Structure, ...]
    tensors: tuple[Tensor, ...]
    names: tuple[str, ...]
    states: int
    outputs: tuple[str, ...]
    modules: Mapping[str, Module]

    @classmethod
    def of(cls, step: Step, readout: Step | None, example: Example) -> Call:
        """The call of a step with an example, made once to see what comes of it.

        Raises UsageError where they do not fit each other.
        """
        import torch

        label = _label(step)
        modules = {**_modules(step, "step"), **({} if readout is None else _modules(readout, "readout"))}
        dtypes = [p.dtype for m in modules.values() for p in m.parameters() if p.is_floating_point()]
        named = _bound(step, example, label)
        try:
            arguments = {name: _tensors(value, name, next(iter(dtypes), None)) for name, value in named.items()}
        except TypeError as error:
            raise UsageError(Diagnostic("torch-type", str(error), label, _FORM)) from error
        flat = {name: list(_flat(value, name)) for name, value in arguments.items()}
        names = _distinct([name for pairs in flat.values() for name, _ in pairs])
        tensors = tuple(tensor for pairs in flat.values() for _, tensor in pairs)
        counts = {len(t) if t.ndim else 0 for t in tensors}
        states = len(next(iter(flat.values()), ()))
        if not 0 < states < len(tensors) or len(counts) != 1 or min(t.ndim for t in tensors) < 2:
            shapes = ", ".join(f"{n} {list(t.shape)}" for n, t in zip(names, tensors, strict=True)) or "nothing"
            what = (
                f"the example holds {shapes}: it must hold a state and an input, each [samples, ...] of as many samples"
            )
            raise UsageError(Diagnostic("torch-example", what, label, _FORM))
        call = cls(step, readout, label, tuple(arguments.values()), tensors, names, states, (), modules)
        with call.in_eval_mode(), torch.no_grad():
            try:
                outputs = call._named(tensors)[1]
            except UsageError:
                raise
            except Exception as error:  # noqa: BLE001 - a user's code may raise anything
                what = f"the step fails on the example: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
                raise UsageError(Diagnostic("torch-call", what, place_of(error) or label, _FORM)) from error
        if not outputs:
            what = "the step returns a state alone, and there is no readout"
            hint = (
                "readout=head, a module or function of h, or return (h_next, head(h_next)); readout=lambda h: h reads h"
            )
            raise UsageError(Diagnostic("torch-output", what, label, hint))
        taken = _distinct([*names, *(name for name, _ in outputs)])[len(names) :]
        return cls(step, readout, label, call.arguments, tensors, names, states, taken, modules)

    def results(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The next states and the outputs of a call with other tensors, `[samples, *shape]` of their own dtype."""
        new, outputs = self._named(tensors)
        return (*new, *(tensor for _, tensor in outputs))

    def _named(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[tuple[str, Tensor]]]:
        rest = iter(tensors)
        state, *inputs = (_rebuilt(argument, rest) for argument in self.arguments)
        result = self.step(state, *inputs)
        new, more = self._divided(result, state)
        if self.readout is not None:
            read = self.readout(state, *inputs) if _takes_inputs(self.readout) else self.readout(state)
            more = (read,)
        try:
            outputs = [pair for part in more for pair in _flat(part, "logits" if len(more) == 1 else "output")]
        except TypeError as error:
            raise UsageError(Diagnostic("torch-type", str(error), self.label, _FORM)) from error
        return [tensor for _, tensor in _flat(new, "state")], outputs

    def _divided(self, result: Structure, state: Structure) -> tuple[Structure, tuple[Structure, ...]]:
        """The next state and the outputs."""
        if _alike(result, state):
            return result, ()
        if isinstance(result, (tuple, list)) and len(result) > 1 and _alike(result[0], state):
            return result[0], tuple(result[1:])
        what = f"the step returns {_shown(result)}, its state is {_shown(state)}"
        raise UsageError(Diagnostic("torch-state", what, self.label, _FORM))

    def starts(self) -> dict[str, NDArray[np.float64]]:
        """Where states start, `[*shape]`, those that start at 0 left out. Raises UsageError if samples differ."""
        starts = {}
        for name, tensor in zip(self.names[: self.states], self.tensors, strict=False):
            rows = tensor.detach().double().numpy()
            if (rows != rows[:1]).any():
                what = f"the state {name} of the example starts otherwise in each sample"
                raise UsageError(
                    Diagnostic("torch-start", what, self.label, "start from zeros, or from one value for all")
                )
            if rows.any():
                starts[name] = rows[0]
        return starts

    def shown(self, target: str) -> str:
        """What a parameter is called: by the module's own name if the step is that module."""
        name = target.removeprefix("step.")
        return normalise(name) or name

    @contextmanager
    def in_eval_mode(self) -> Iterator[None]:
        """Modules as they are used, and afterwards as they were, buffers included."""
        import torch

        training = {m: m.training for module in self.modules.values() for m in module.modules()}
        buffers = [(b, b.clone()) for module in self.modules.values() for b in module.buffers()]
        for module in training:
            module.training = False
        try:
            yield
        finally:
            for module, mode in training.items():
                module.training = mode
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


def place_of(error: BaseException) -> str:
    """The innermost line of the user's that an exception came from: neither PyTorch's nor of this package."""
    import torch

    own = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(own)]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}: {frames[-1].line}".rstrip(": ") if frames else ""


def _label(step: Step) -> str:
    import torch

    name = type(step).__name__ if isinstance(step, torch.nn.Module) else getattr(step, "__name__", type(step).__name__)
    return name if name.isidentifier() else "step"


def _modules(function: Step, own: str) -> dict[str, Module]:
    """Modules that a function is, belongs to or names, by name."""
    import torch

    if isinstance(function, functools.partial):
        parts = [function.func, *function.args, *function.keywords.values()]
        return {f"{n}{i or ''}": m for i, p in enumerate(parts) if callable(p) for n, m in _modules(p, own).items()}
    owner = function if isinstance(function, torch.nn.Module) else getattr(function, "__self__", None)
    if isinstance(owner, torch.nn.Module):
        return {own: owner}
    try:
        closure = inspect.getclosurevars(function)
    except TypeError:
        return {}
    variables = {**closure.globals, **closure.nonlocals}
    return {name: value for name, value in variables.items() if isinstance(value, torch.nn.Module)}


def _bound(step: Step, example: Example, label: str) -> dict[str, Structure]:
    """The arguments of a call by name."""
    import torch

    signature = inspect.signature(step.forward if isinstance(step, torch.nn.Module) else step)
    try:
        bound = signature.bind(**example) if isinstance(example, Mapping) else signature.bind(*example)
    except TypeError as error:
        what = f"the step takes {signature}, the example does not fit: {error}"
        raise UsageError(
            Diagnostic("torch-arguments", what, label, "example=(h, x), or a dictionary by name")
        ) from error
    named: dict[str, Structure] = {}
    for name, value in bound.arguments.items():
        several = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
        named |= {f"{name}{i}": v for i, v in enumerate(value)} if several else {name: value}
    return named


def _takes_inputs(readout: Step) -> bool:
    import torch

    parameters = inspect.signature(readout.forward if isinstance(readout, torch.nn.Module) else readout).parameters
    plain = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return sum(p.default is p.empty for p in plain) > 1


def _tensors(value: Structure, name: str, dtype: torch.dtype | None) -> Structure:
    """A structure with tensors in place of arrays, floats in the dtype of the modules. Raises TypeError."""
    import torch

    if isinstance(value, Mapping):
        return {key: _tensors(part, f"{name}[{key!r}]", dtype) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        parts = [_tensors(part, f"{name}[{i}]", dtype) for i, part in enumerate(value)]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        value = torch.from_numpy(np.ascontiguousarray(value))
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        kind = str(value.dtype) if isinstance(value, torch.Tensor) else type(value).__name__
        raise TypeError(f"{name} is a {kind}, must be a tensor of floats, or a tuple, list or dictionary of them")
    return value.detach().to(device="cpu", dtype=dtype or value.dtype)


def _flat(value: Structure, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a structure, with names made of that of the whole and of keys or numbers. Raises TypeError."""
    import torch

    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(part, str(key))
    elif isinstance(value, (tuple, list)):
        for i, part in enumerate(value):
            yield from _flat(part, f"{name}{i}")
    else:
        raise TypeError(f"{name} is a {type(value).__name__}, must be a tensor, or a tuple, list or dictionary of them")


def _rebuilt(like: Structure, tensors: Iterator[Tensor]) -> Structure:
    """The structure of `like` with these tensors in it, in order."""
    if isinstance(like, Mapping):
        return {key: _rebuilt(part, tensors) for key, part in like.items()}
    if isinstance(like, (tuple, list)):
        parts = [_rebuilt(part, tensors) for part in like]
        return type(like)(*parts) if hasattr(like, "_fields") else type(like)(parts)
    return next(tensors)


def _alike(a: Structure, b: Structure) -> bool:
    """Whether two structures have the same form, of the same shapes; a tuple is as good as a list."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return list(a) == list(b) and all(_alike(a[key], b[key]) for key in a)
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(_alike(x, y) for x, y in zip(a, b, strict=True))
    return hasattr(a, "shape") and hasattr(b, "shape") and a.shape == b.shape


def _shown(value: Structure) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_shown(part)}' for key, part in value.items())}}}"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(_shown(part) for part in value)})"
    return str(list(value.shape)) if hasattr(value, "shape") else f"a {type(value).__name__}"


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names, with a number behind those that were there before."""
    distinct: list[str] = []
    for name in names:
        count, unique = 1, name
        while unique in distinct:
            count += 1
            unique = f"{name}_{count}"
        distinct.append(unique)
    return tuple(distinct)
