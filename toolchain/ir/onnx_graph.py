"""A net as an executable ONNX graph: calls of the functions of its operations, inside loops over ticks and frames.

ONNX names are `<place>/<IR name>` with the places `frame` (an input of the current frame), `drive`, `step`, `readout`;
graph inputs and initializers (the parameters) bear their IR name alone, outputs theirs, final states `final/<state>`.
Everything else is glue in standard operations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .net import IntNet, Net
from .onnx_functions import DOMAIN, OPSET, attributes_of, function_of
from .onnx_write import Model, empty_tensor
from .ops import Op, Repeat
from .parts import Stop
from .types import ValueKind, ValueType, infer

if TYPE_CHECKING:
    from onnx import FunctionProto, NodeProto, ValueInfoProto

__all__ = ["BATCH", "IR_VERSION", "REPEAT", "TICKS", "GraphBuilder", "build_model", "output_names"]

IR_VERSION = 10
REPEAT = "repeat/"
"""Prefix of the name of a loop that is a `repeat`; its metadata holds the fields."""

BATCH = "batch"
TICKS = "schedule/ticks"


def output_names(net: Net) -> list[str]:
    """ONNX names of the results: the output's own name, `output/<name>` where another value of the graph bears it."""
    taken = {BATCH} | {i.name for i in net.inputs} | net.param_names
    names: list[str] = []
    for o in net.outputs:
        names.append(f"output/{o.name}" if o.name in taken else o.name)
        taken.add(o.name)
    return names


def build_model(net: Net, metadata: Mapping[str, str]) -> Model:
    """The model of a verified net, deterministic. Graph inputs are `[batch, (frame,) *shape]`, numbers in float64
    (EqNet) or int64 codes (IntNet); results are shaped as in `FloatRun`."""
    from onnx import helper

    builder = GraphBuilder(net)
    if net.schedule.frames:
        builder.framed()
    else:
        builder.plain()
    graph = helper.make_graph(
        builder.nodes,
        net.name or "net",
        [builder.value_info(i.name, ValueType(i.shape, i.kind), frame=net.schedule.frames) for i in net.inputs],
        builder.results,
        [empty_tensor(p.name, p.value) for p in net.params],
    )
    model = helper.make_model(
        graph,
        ir_version=IR_VERSION,
        producer_name="eqcompile",
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
        functions=builder.functions,
    )
    helper.set_model_props(model, dict(metadata))
    return Model(model, {p.name: p.value for p in net.params})


class GraphBuilder:
    """Collects the nodes of one (sub)graph at a time; `names` maps IR names to ONNX names where the graph stands."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.types = infer(net)
        self.params = {p.name: p.value for p in net.params}
        self.number = np.dtype(np.int64 if isinstance(net, IntNet) else np.float64)
        self.nodes: list[NodeProto] = []
        self.results: list[ValueInfoProto] = []
        self.names: dict[str, str] = {i.name: i.name for i in net.inputs} | {p: p for p in self.params}
        self.batch = f"schedule/{BATCH}" if BATCH in self.names else BATCH
        self._functions: dict[bytes, FunctionProto] = {}

    @property
    def functions(self) -> list[FunctionProto]:
        return list(self._functions.values())

    # Nodes and types

    def node(self, kind: str, inputs: Sequence[str], out: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def constant(self, value: ArrayLike, out: str) -> str:
        from onnx import numpy_helper

        return self.node("Constant", [], out, value=numpy_helper.from_array(np.asarray(value)))

    def element(self, kind: ValueKind) -> int:
        from onnx import helper

        dtype = {"number": self.number, "index": np.dtype(np.int64), "boolean": np.dtype(np.bool_)}[kind]
        return int(helper.np_dtype_to_tensor_dtype(dtype))

    def value_info(self, name: str, value: ValueType, *, frame: bool = False) -> ValueInfoProto:
        from onnx import helper

        dims: list[str | int | None] = [BATCH, *(["frame"] if frame else []), *value.shape]
        return helper.make_tensor_value_info(name, self.element(value.kind), dims)

    def expand(self, source: str, value: ValueType, out: str) -> str:
        """The ONNX value of IR value `source`, repeated to the batch and to the shape of `value`."""
        missing = len(value.shape) - len(self.types[source].shape)
        name = self.names[source]
        if missing and source not in self.params:
            axes = self.constant(list(range(1, 1 + missing)), f"{out}/axes")
            name = self.node("Unsqueeze", [name, axes], f"{out}/aligned")
        return self.node("Expand", [name, self.shape(value.shape, f"{out}/shape")], out)

    def shape(self, dims: tuple[int, ...], out: str) -> str:
        tail = self.constant(np.array(dims, np.int64), f"{out}/tail")
        return self.node("Concat", [self.batch, tail], out, axis=0)

    def stacked(self, scanned: str, dims: tuple[int, ...], out: str) -> str:
        """What a loop scanned as `[iterations, batch, *dims]`. ONNX stacks it along a new axis; onnx's own evaluator
        joins it along the first one, and in this shape both are the same."""
        iterations = self.constant([-1], f"{out}/iterations")
        shape = self.node("Concat", [iterations, self.shape(dims, f"{out}/each")], f"{out}/shape", axis=0)
        return self.node("Reshape", [scanned, shape], out)

    # Operations

    def block(self, block: Iterable[Op], place: str) -> None:
        for op in block:
            if isinstance(op, Repeat):
                self.repeat(op, place)
            else:
                self.call(op, place)

    def call(self, op: Op, place: str) -> None:
        from onnx import AttributeProto, helper, numpy_helper

        function = function_of(op, self.types, self.params, integer=isinstance(self.net, IntNet))
        key = function.SerializeToString(deterministic=True)
        if key not in self._functions:
            same = sum(f.name.rstrip("0123456789").rstrip("_") == op.mnemonic for f in self._functions.values())
            function.name = f"{op.mnemonic}_{same + 1}" if same else op.mnemonic
            self._functions[key] = function
        node = helper.make_node(
            self._functions[key].name, [self.names[r] for r in op.reads], [f"{place}/{op.out}"], domain=DOMAIN
        )
        for name, value in attributes_of(op).items():
            if isinstance(value, float):
                # A float attribute of ONNX has single precision.
                tensor = numpy_helper.from_array(np.float64(value))  # type: ignore[arg-type]
                node.attribute.append(helper.make_attribute(name, tensor))
            elif isinstance(value, tuple):
                node.attribute.append(helper.make_attribute(name, value, attr_type=AttributeProto.INTS))
            else:
                node.attribute.append(helper.make_attribute(name, value))
        self.nodes.append(node)
        self.names[op.out] = f"{place}/{op.out}"

    def repeat(self, op: Repeat, place: str) -> None:
        from onnx import helper

        carried = self.types[op.carry]
        mark = REPEAT + op.out
        count = self.constant(op.count, f"{mark}/count")
        start = self.expand(op.init, carried, f"{mark}/init")
        outer, self.nodes = self.nodes, []
        before = dict(self.names)
        self.names[op.carry] = f"{place}/{op.carry}"
        self.block(op.body, place)
        self.node("Identity", [f"{mark}/go_in"], f"{mark}/go")
        self.expand(op.result, carried, f"{mark}/next")
        body = helper.make_graph(
            self.nodes,
            mark,
            [*_loop_inputs(mark), self.value_info(self.names[op.carry], carried)],
            [_scalar(f"{mark}/go", bool), self.value_info(f"{mark}/next", carried)],
        )
        self.nodes, self.names = outer, before
        loop = helper.make_node(
            "Loop", [count, self.constant(True, f"{mark}/true"), start], [f"{place}/{op.out}"], name=mark, body=body
        )
        fields = {"init": op.init, "count": str(op.count), "carry": op.carry, "result": op.result}
        for key, value in fields.items():
            loop.metadata_props.add(key=key, value=value)
        self.nodes.append(loop)
        self.names[op.out] = f"{place}/{op.out}"

    # Loops over ticks and frames

    def plain(self) -> None:
        self.node("Shape", [self.net.inputs[0].name], self.batch, start=0, end=1)
        self.constant(0, "schedule/none")
        self.block(self.net.drive, "drive")
        starts = [self.start(s.name, f"start/{s.name}") for s in self.net.states]
        self.relax(["schedule/none", *starts], [TICKS, *(f"final/{s.name}" for s in self.net.states)])
        self.names |= {s.name: f"final/{s.name}" for s in self.net.states}
        self.block(self.net.readout, "readout")
        for o, name in zip(self.net.outputs, output_names(self.net), strict=True):
            self.expand(o.value, self.types[o.value], name)
            self.results.append(self.value_info(name, self.types[o.value]))
        self.final_results()

    def framed(self) -> None:
        from onnx import helper

        first = self.net.inputs[0].name
        self.node("Shape", [first], self.batch, start=0, end=1)
        self.constant(0, "schedule/none")
        count = self.node("Squeeze", [self.node("Shape", [first], "frames/shape", start=1, end=2)], "frames/count")
        zeros = [self.zeros(s.name, f"zero/{s.name}") for s in self.net.states]
        states = [ValueType(s.shape) for s in self.net.states]
        names = [s.name for s in self.net.states]
        emitted = [self.types[o.value] for o in self.net.outputs]
        outer, self.nodes = self.nodes, []
        for i in self.net.inputs:
            self.names[i.name] = self.node("Gather", [i.name, "frames/iteration"], f"frame/{i.name}", axis=1)
        self.block(self.net.drive, "drive")
        self.node("Equal", ["frames/iteration", "schedule/none"], "frames/first")
        for name in names:
            at_first = self.start(name, f"start/{name}")
            self.node("Where", ["frames/first", at_first, f"carried/{name}"], f"clamped/{name}")
        self.relax(
            ["frames/ticks_in", *(f"clamped/{n}" for n in names)], ["frames/ticks", *(f"settled/{n}" for n in names)]
        )
        self.names |= {n: f"settled/{n}" for n in names}
        self.block(self.net.readout, "readout")
        for k, o in enumerate(self.net.outputs):
            self.expand(o.value, emitted[k], f"emitted/{k}")
        self.node("Identity", ["frames/go_in"], "frames/go")
        body = helper.make_graph(
            self.nodes,
            "frames",
            [
                *_loop_inputs("frames"),
                _scalar("frames/ticks_in", int),
                *(self.value_info(f"carried/{n}", t) for n, t in zip(names, states, strict=True)),
            ],
            [
                _scalar("frames/go", bool),
                _scalar("frames/ticks", int),
                *(self.value_info(f"settled/{n}", t) for n, t in zip(names, states, strict=True)),
                *(self.value_info(f"emitted/{k}", t) for k, t in enumerate(emitted)),
            ],
        )
        self.nodes = outer
        scanned = [f"scanned/{k}" for k in range(len(emitted))]
        self.nodes.append(
            helper.make_node(
                "Loop",
                [count, self.constant(True, "frames/true"), "schedule/none", *zeros],
                [TICKS, *(f"final/{n}" for n in names), *scanned],
                name="frames",
                body=body,
            )
        )
        every = self.net.schedule.emit == "every"
        for k, name in enumerate(output_names(self.net)):
            frames = self.stacked(scanned[k], emitted[k].shape, f"stacked/{k}")
            if every:
                order = [1, 0, *range(2, 2 + len(emitted[k].shape))]
                self.node("Transpose", [frames], name, perm=order)
            else:
                self.node("Gather", [frames, self.constant(-1, f"{frames}/last")], name, axis=0)
            self.results.append(self.value_info(name, emitted[k], frame=every))
        self.final_results()

    def final_results(self) -> None:
        self.results += [self.value_info(f"final/{s.name}", ValueType(s.shape)) for s in self.net.states]
        self.results.append(_scalar(TICKS, int))

    def zeros(self, state: str, out: str) -> str:
        zero = self.constant(np.zeros((), self.number), f"{out}/value")
        return self.node("Expand", [zero, self.shape(self.types[state].shape, f"{out}/shape")], out)

    def start(self, state: str, out: str) -> str:
        source = next(s.init for s in self.net.states if s.name == state)
        return self.zeros(state, out) if source is None else self.expand(source, self.types[state], out)

    def relax(self, starts: Sequence[str], finals: Sequence[str]) -> None:
        """The loop over the ticks of one clamped input; the first carried value counts them."""
        from onnx import helper

        net, tolerance = self.net, self.net.schedule.tolerance
        carried = [self.value_info(f"step/{s.name}", ValueType(s.shape)) for s in net.states]
        latched = [self.value_info(f"latch/{s.name}", ValueType(s.shape)) for s in net.states]
        inputs = [*_loop_inputs("relaxation"), _scalar("relaxation/ticks_in", int), *carried]
        outputs = [_scalar("relaxation/go", bool), _scalar("relaxation/ticks", int), *latched]
        starts, finals = list(starts), list(finals)
        count = self.constant(net.schedule.steps, "schedule/steps")
        true = self.constant(True, "schedule/true")
        if tolerance:
            starts.append(self.node("Expand", [true, self.batch], "start/relaxation/moving"))
            finals.append("final/relaxation/moving")
            inputs.append(self.value_info("relaxation/moving_in", ValueType((), "boolean")))
            outputs.append(self.value_info("relaxation/moving", ValueType((), "boolean")))
        outer, self.nodes = self.nodes, []
        before = dict(self.names)
        self.names |= {s.name: f"step/{s.name}" for s in net.states}
        self.node("Add", ["relaxation/ticks_in", self.constant(1, "relaxation/one")], "relaxation/ticks")
        self.block(net.step, "step")
        for s in net.states:
            self.expand(s.update, ValueType(s.shape), f"update/{s.name}" if tolerance else f"latch/{s.name}")
        if tolerance:
            self.freeze(tolerance)
        if net.schedule.stop is None:
            self.node("Identity", ["relaxation/go_in"], "relaxation/go")
        else:
            self.stop(net.schedule.stop)
        body = helper.make_graph(self.nodes, "relaxation", inputs, outputs)
        self.nodes, self.names = outer, before
        self.nodes.append(helper.make_node("Loop", [count, true, *starts], finals, name="relaxation", body=body))

    def freeze(self, tolerance: int) -> None:
        """A sample of which no code moved by more than `tolerance` keeps its codes from then on."""
        still = self.constant(False, "relaxation/none_moved")
        limit = self.constant(tolerance, "relaxation/tolerance")
        for s in self.net.states:
            mark = f"moved/{s.name}"
            size = self.constant(np.array([-1, math.prod(s.shape)], np.int64), f"{mark}/flat")
            change = self.node("Sub", [f"update/{s.name}", f"step/{s.name}"], f"{mark}/change")
            beyond = self.node("Greater", [self.node("Abs", [change], f"{mark}/size"), limit], f"{mark}/beyond")
            rows = self.node("Reshape", [beyond, size], f"{mark}/rows")
            far = self.node("ReduceMax", [rows, self.constant([-1], f"{mark}/axis")], f"{mark}/far", keepdims=0)
            still = self.node("Or", [still, far], mark)
            spread = self.constant(np.array([-1, *[1] * len(s.shape)], np.int64), f"{mark}/spread")
            moving = self.node("Reshape", ["relaxation/moving_in", spread], f"{mark}/mask")
            self.node("Where", [moving, f"update/{s.name}", f"step/{s.name}"], f"latch/{s.name}")
        self.node("And", ["relaxation/moving_in", still], "relaxation/moving")

    def stop(self, rule: Stop) -> None:
        change = self.node("Sub", [f"latch/{rule.state}", f"step/{rule.state}"], "stop/change")
        shape = self.types[rule.state].shape
        flat = self.constant(np.array([-1, math.prod(shape)], np.int64), "stop/flat")
        rows = self.node("Reshape", [self.node("Mul", [change, change], "stop/square"), flat], "stop/rows")
        total = self.node("ReduceSum", [rows, self.constant([-1], "stop/axis")], "stop/total", keepdims=0)
        most = self.node("ReduceMax", [self.node("Sqrt", [total], "stop/norm")], "stop/most", keepdims=0)
        # The loop's own counter: ticks of this frame made before this one.
        late = self.node(
            "GreaterOrEqual", ["relaxation/iteration", self.constant(rule.loose_after, "stop/after")], "stop/late"
        )
        loose = self.constant(rule.epsilon * rule.loose, "stop/loose")
        bound = self.node("Where", [late, loose, self.constant(rule.epsilon, "stop/epsilon")], "stop/bound")
        self.node("Not", [self.node("Less", [most, bound], "stop/below")], "relaxation/go")


def _scalar(name: str, kind: type) -> ValueInfoProto:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.BOOL if kind is bool else TensorProto.INT64, [])


def _loop_inputs(mark: str) -> list[ValueInfoProto]:
    return [_scalar(f"{mark}/iteration", int), _scalar(f"{mark}/go_in", bool)]
