"""`torch.export` of a step for one sample: its graph, with constants computed and the user's lines beside nodes."""

from __future__ import annotations

import io
import linecache
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...arrays import Array
from ...diagnostics import Diagnostic, MissingToolError, UnsupportedError
from .step import StepGraph, StepNode
from .torch_call import Call, place_of

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node

__all__ = ["trace"]

_KEPT = (
    "group_norm",
    "instance_norm",
    "layer_norm",
    "lerp",
    "linear",
    "matmul",
    "scaled_dot_product_attention",
    "silu",
    "softmax",
)
"""Operations that are read as they are; `torch.export` takes others apart."""
_PLACE = "eqcompile_place"


def trace(call: Call) -> StepGraph:
    """The graph of a step for one sample.

    Raises UnsupportedError for a step whose operations hang on values, or that changes a buffer, and MissingToolError
    if PyTorch is too old.
    """
    program = _export(call)
    signature = program.graph_signature
    if signature.buffers_to_mutate:
        changed = ", ".join(map(call.shown, signature.buffers_to_mutate.values()))
        what = f"the step changes the buffers {changed}: what it keeps from call to call must be a state"
        hint = "hand it over with the first argument, and return its next value"
        raise UnsupportedError(Diagnostic("torch-buffer", what, call.label, hint))
    held = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    stored = {**program.constants, **program.state_dict}
    names = dict(zip(signature.user_inputs, call.names, strict=True))
    names |= {key: call.shown(target) for key, target in held.items()}
    graph = _Graph(names, {names[key]: stored[target] for key, target in held.items()})
    for node in program.graph.nodes:
        graph.add(node)
    shapes = {name: (1, *tensor.shape[1:]) for name, tensor in zip(call.names, call.tensors, strict=True)}
    states, outputs = call.names[: call.states], [graph.name(n) for n in signature.user_outputs]
    return StepGraph(
        inputs={name: shapes[name] for name in call.names[call.states :]},
        states={name: shapes[name] for name in states},
        next=dict(zip(states, outputs, strict=False)),
        outputs=dict(zip(call.outputs, outputs[call.states :], strict=True)),
        nodes=graph.nodes,
        constants=graph.constants,
        starts=call.starts(),
        origins=graph.origins,
    )


def _export(call: Call) -> ExportedProgram:
    import torch

    try:
        from torch.export import default_decompositions
        from torch.fx.traceback import annotate, preserve_node_meta
    except ImportError as error:
        what = f"a live step needs PyTorch 2.9 or newer, {torch.__version__} is installed"
        raise MissingToolError(Diagnostic("missing-tool", what, hint="pip install -U 'eqcompile[torch]'")) from error

    class Places(torch.overrides.TorchFunctionMode):
        """Notes for each operation in which line of the user's source it is called."""

        def __torch_function__(
            self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            with annotate({_PLACE: _line()}):
                return func(*args, **(kwargs or {}))

    class Flat(torch.nn.Module):
        """The step as a function of plain tensors."""

        def __init__(self) -> None:
            super().__init__()
            for name, module in call.modules.items():
                self.add_module(name, module)

        def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
            with Places():
                return call.results(tensors)

    with _quiet(), call.in_eval_mode(), preserve_node_meta():
        try:
            program = torch.export.export(Flat(), tuple(t[:1] for t in call.tensors), strict=False)
        except Exception as error:  # noqa: BLE001 - the exceptions of a tracer are many, and none of them is documented
            what = f"torch.export cannot trace the step: {_first_line(error)}"
            hint = "write it without decisions on values (`if`, `while`, `.item()`), which differ between samples"
            raise UnsupportedError(Diagnostic("torch-export", what, place_of(error) or call.label, hint)) from error
        table = default_decompositions()
        for operation in list(table):
            if str(operation).split(".")[1] in _KEPT:
                del table[operation]
        taken_apart: ExportedProgram = program.run_decompositions(table)
        return taken_apart


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings, logs and prints of a tracer."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]


def _line() -> str:
    """The innermost line that is being run and is neither PyTorch's nor of this module."""
    import torch

    own = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(own):
        frame = frame.f_back
    path, line = frame.f_code.co_filename, frame.f_lineno
    return f"{Path(path).name}:{line}: {linecache.getline(path, line).strip()}".rstrip(": ")


class _Graph:
    """Nodes that hang on inputs or states, and the values of those that do not, in the making."""

    def __init__(self, names: Mapping[str, str], held: Mapping[str, Tensor]) -> None:
        self.names = dict(names)
        self.nodes: dict[str, StepNode] = {}
        self.constants: dict[str, Array] = {}
        self._folded: dict[str, Any] = {name: _wide(tensor.detach()) for name, tensor in held.items()}
        self._tuples: dict[str, StepNode] = {}
        self.origins: dict[str, str] = {}
        for name, value in self._folded.items():
            self.constants[name] = value.numpy()

    def name(self, key: str) -> str:
        """What a node is called here: not as another input or parameter."""
        return self.names[key]

    def add(self, node: Node) -> None:
        """Read one node of the program. Constants are computed in float64."""
        import operator

        import torch

        if node.op != "call_function":
            return
        name, target = node.name, node.target
        assert not isinstance(target, str)
        while name in self.names.values():
            name += "_op"
        self.names[node.name] = name
        reads = {self.names[n.name] for n in node.all_input_nodes}
        value: Any = node.meta.get("val")
        kind = str(target).removeprefix("aten.").partition(".")[0]
        if reads <= set(self._folded) or kind.endswith("_like") or kind.startswith("new_"):
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), self._constant)
            with torch.no_grad():
                self._folded[name] = _wide(target(*args, **kwargs))
            if isinstance(self._folded[name], torch.Tensor):
                self.constants[name] = self._folded[name].numpy()
                made = [self.origins.get(r, r) for r in sorted(reads) if r in self.constants and self.constants[r].ndim]
                if made:
                    self.origins[name] = max(made, key=lambda r: self.constants[r].size)
            return
        if target is operator.getitem:
            item = node.args[1]
            producer = self._tuples[self.names[node.all_input_nodes[0].name]]
            options = {**producer.options, "item": item, "shape_of_value": list(value.shape)}
            self.nodes[name] = StepNode(producer.kind, producer.reads, options, producer.place, tuple(value.shape))
            return
        operands, options = _arguments(node, self.names)
        place = str(node.meta.get("custom", {}).get(_PLACE, "")) or _last_frame(node.meta.get("stack_trace") or "")
        if isinstance(value, torch.Tensor):
            shape = tuple(value.shape)
            self.nodes[name] = StepNode(kind, operands, {**options, "shape_of_value": list(shape)}, place, shape)
        elif isinstance(value, (tuple, list)):
            self._tuples[name] = StepNode(kind, operands, options, place)

    def _constant(self, node: Node) -> Any:
        """The value of a constant node; zeros of its shape for one of which only the shape is read."""
        import torch

        name = self.names[node.name]
        return self._folded[name] if name in self._folded else torch.zeros(node.meta["val"].shape, dtype=torch.float64)


def _wide(value: Any) -> Any:
    """The same in float64, where it is of floats."""
    import torch

    if isinstance(value, (tuple, list)):
        return type(value)(_wide(v) for v in value)
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _arguments(node: Node, names: Mapping[str, str]) -> tuple[dict[str, str | tuple[str, ...]], dict[str, object]]:
    """Operands and options of an operation by the names of its schema."""
    from torch.fx import Node as AnyNode

    reads: dict[str, str | tuple[str, ...]] = {}
    options: dict[str, object] = {}
    schema = getattr(node.target, "_schema", None)
    for i, argument in enumerate(schema.arguments if schema is not None else ()):
        default = argument.default_value if argument.has_default_value() else None
        value = node.args[i] if i < len(node.args) else node.kwargs.get(argument.name, default)
        if isinstance(value, AnyNode):
            reads[argument.name] = names[value.name]
        elif isinstance(value, (tuple, list)) and any(isinstance(v, AnyNode) for v in value):
            reads[argument.name] = tuple(names[v.name] for v in value if isinstance(v, AnyNode))
        elif value is not None:
            options[argument.name] = value
    return reads, options


def _last_frame(trace: str) -> str:
    """The line of a stack trace that is the user's: the last that is not PyTorch's."""
    import torch

    own = str(Path(torch.__file__).parent)
    frames = [part.splitlines() for part in trace.split('File "')[1:]]
    for lines in reversed(frames):
        path, _, rest = lines[0].partition('", line ')
        if not path.startswith(own):
            code = lines[1].strip() if len(lines) > 1 else ""
            return f"{Path(path).name}:{rest.partition(',')[0]}: {code}".rstrip(": ")
    return ""
