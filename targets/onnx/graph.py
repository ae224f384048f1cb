"""An IntNet as a deployable ONNX model: standard operators only, encoding inside, settling per sample.

    x ──encode──► codes ──drive──► Loop(step, settle) ──readout──► <output>, labels, steps

The bodies of the operations are those of the serialisation (`toolchain.ir.onnx_functions`), inlined; only a linear map
whose operand and weights are proved to fit a byte becomes a MatMulInteger. The loop ends when every sample has settled;
a sample that settled keeps its codes, and its ticks are counted apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from ...toolchain.arrays import Array, Codes, row_reach
from ...toolchain.ir import Input, Interval, IntNet, Net, ValueType, ops
from ...toolchain.ir.onnx_functions import DOMAIN, OPSET
from ...toolchain.ir.onnx_graph import BATCH, IR_VERSION, GraphBuilder
from ...toolchain.ir.onnx_write import Model, empty_tensor
from ...toolchain.ir.ops import Op
from ...toolchain.passes import Analysis, label_keys, narrowest, output_keys

if TYPE_CHECKING:
    from onnx import NodeProto, ValueInfoProto

__all__ = ["STATE", "STEPS", "InputType", "input_names", "integer_model", "top_index"]

InputType = Literal["float32", "float64", "codes"]
STEPS = "steps"
STATE = "state."
"""Prefix of the outputs of a traced model: the codes of a state after every tick, `[ticks, batch, *shape]`."""
SIGNED, UNSIGNED = Interval(-128, 127), Interval(0, 255)
ZERO = 128
"""Code of 0 in a byte that holds signed codes. Both factors are unsigned bytes: on processors without VNNI, ONNX
Runtime (1.31) adds pairs of products of an unsigned with a signed byte in 16 bits, which saturates at 32,767."""


def input_names(net: Net) -> dict[str, str]:
    """Name of each input in a deployable graph: its own, or `input.<name>` where a result or the batch has it."""
    taken = {BATCH, STEPS, *output_keys(net).values(), *label_keys(net).values()}
    return {i.name: f"input.{i.name}" if i.name in taken else i.name for i in net.inputs}


def top_index(x: str, out: str) -> list[NodeProto]:
    """Nodes that set `out` to the index of the largest entry of `x` over its last axis, the lowest of equal ones."""
    from onnx import helper, numpy_helper

    one, last = numpy_helper.from_array(np.array([1])), numpy_helper.from_array(np.array([-1]))
    return [
        helper.make_node("Constant", [], [f"{out}/one"], value=one),
        helper.make_node("Constant", [], [f"{out}/axis"], value=last),
        helper.make_node("TopK", [x, f"{out}/one"], [f"{out}/largest", f"{out}/at"], axis=-1),
        helper.make_node("Squeeze", [f"{out}/at", f"{out}/axis"], [out]),
    ]


def integer_model(net: IntNet, *, input_type: InputType, trace: bool) -> Model:
    """The model of a verified net, deterministic. Inputs are `[batch, (frame,) *shape]`: real numbers in `input_type`,
    or int64 codes; indices are int64. Outputs are the codes of each output (int64), its labels, and `steps` `[batch]`;
    with `trace` also every state after every tick (then no loop ends early)."""
    builder = _Relaxation(net, input_type, trace)
    builder.encode()
    if net.schedule.frames:
        builder.framed()
    else:
        builder.plain()
    return builder.model()


class _Relaxation(GraphBuilder):
    """Values of the graph beside those of the base: `codes/<input>`, `made/...` (ticks of each sample, `[batch]`) and
    `moving/...` (whether a sample has not settled, `[batch]`)."""

    def __init__(self, net: IntNet, input_type: InputType, trace: bool) -> None:
        super().__init__(net)
        self.keys, self.input_names = output_keys(net), input_names(net)
        self.names |= self.input_names
        self.input_type = input_type
        self.trace = trace
        self.given: list[ValueInfoProto] = []
        self.stored: dict[str, Array] = {}
        ranges = Analysis.of(net).ranges
        self.byte_products = {
            op.out: ranges[op.x] for op in net.all_ops() if isinstance(op, ops.Linear) and self.fits(op, ranges[op.x])
        }

    def fits(self, op: ops.Linear, x: Interval) -> bool:
        """Whether a product of bytes with sums of 32 bits is exact for `op` on an operand in `x`."""
        weight = cast("Codes", self.params[op.weight])
        codes = Interval(int(weight.min()), int(weight.max()))
        reach = row_reach(weight) * x.magnitude
        held = x.within(SIGNED) or x.within(UNSIGNED)
        return op.x not in self.params and held and codes.within(SIGNED) and reach < 1 << 31

    def call(self, op: Op, place: str) -> None:
        if not isinstance(op, ops.Linear) or op.out not in self.byte_products:
            super().call(op, place)
            return
        from onnx import TensorProto

        name, x = f"{place}/{op.out}", self.names[op.x]
        zero = self.constant(np.uint8(ZERO), f"{name}/zero")
        if not self.byte_products[op.out].within(UNSIGNED):
            x = self.node("Add", [x, self.constant(ZERO, f"{name}/offset")], f"{name}/moved")
            zeros = [zero, zero]
        else:
            zeros = ["", zero]
        codes = self.node("Cast", [x], f"{name}/bytes", to=TensorProto.UINT8)
        product = self.node("MatMulInteger", [codes, f"bytes/{op.weight}", *zeros], f"{name}/product")
        wide = f"{name}/wide" if op.bias else name
        self.node("Cast", [product], wide, to=TensorProto.INT64)
        if op.bias:
            self.node("Add", [wide, self.names[op.bias]], name)
        self.names[op.out] = name

    def model(self) -> Model:
        import onnx.inliner
        from onnx import helper

        tensors = [empty_tensor(name, array) for name, array in self.stored.items()]
        graph = helper.make_graph(self.nodes, self.net.name or "net", self.given, self.results, tensors)
        whole = helper.make_model(
            graph,
            ir_version=IR_VERSION,
            producer_name="eqcompile",
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
            functions=self.functions,
        )
        inlined = onnx.inliner.inline_local_functions(whole)
        standard = [o for o in inlined.opset_import if o.domain != DOMAIN]
        del inlined.opset_import[:]
        inlined.opset_import.extend(standard)
        helper.set_model_props(inlined, {"eqcompile.ir_digest": self.net.digest})
        return Model(inlined, self.stored)

    # Parameters and inputs

    def encode(self) -> None:
        """Parameters in the narrowest type, cast to int64 once, weights of byte products as bytes; inputs as codes."""
        from onnx import TensorProto

        as_bytes: set[str] = set()
        read = {n for s in self.net.states for n in (s.init, s.update)} | {o.value for o in self.net.outputs}
        for op in self.net.all_ops():
            names = {*op.reads, *([op.result] if isinstance(op, ops.Repeat) else [])}
            if isinstance(op, ops.Linear) and op.out in self.byte_products:
                as_bytes.add(op.weight)
                names.remove(op.weight)
            read |= names
        for p in self.net.params:
            if p.name in as_bytes:
                # A code of eight bits is its own last byte, and so is that plus 128.
                self.stored[f"bytes/{p.name}"] = p.value.T.astype(np.uint8) + np.uint8(ZERO)
            if p.name not in read:
                continue
            stored = narrowest(np.asarray(p.value))
            name = self.names[p.name] = f"param/{p.name}"
            kept = name if stored.dtype == np.int64 else f"stored/{p.name}"
            self.stored[kept] = stored
            if kept != name:
                self.node("Cast", [kept], name, to=TensorProto.INT64)
        for i in self.net.inputs:
            if i.encoding is None or self.input_type == "codes":
                name = self.input_names[i.name]
                self.given.append(self.value_info(name, ValueType(i.shape, i.kind), frame=self.net.schedule.frames))
            else:
                self.names[i.name] = self.encoded(i)

    def encoded(self, i: Input) -> str:
        """`clip(rint(x / scale), lo, hi)` in double precision; ONNX rounds half to even."""
        from onnx import TensorProto, helper

        if i.encoding is None:
            raise TypeError(f"input {i.name} has no encoding")
        single = self.input_type == "float32"
        dims: list[str | int | None] = [BATCH, *(["frame"] if self.net.schedule.frames else []), *i.shape]
        kind = TensorProto.FLOAT if single else TensorProto.DOUBLE
        name = self.input_names[i.name]
        self.given.append(helper.make_tensor_value_info(name, kind, dims))
        mark = f"encode/{i.name}"
        x = self.node("Cast", [name], f"{mark}/double", to=TensorProto.DOUBLE) if single else name
        scale = self.constant(np.float64(i.encoding.scale), f"{mark}/scale")
        rounded = self.node("Round", [self.node("Div", [x, scale], f"{mark}/quotient")], f"{mark}/rounded")
        lowest = self.constant(np.float64(i.encoding.format.lo), f"{mark}/lowest")
        highest = self.constant(np.float64(i.encoding.format.hi), f"{mark}/highest")
        clipped = self.node("Clip", [rounded, lowest, highest], f"{mark}/clipped")
        return self.node("Cast", [clipped], f"codes/{i.name}", to=TensorProto.INT64)

    # Loops

    def info(self, name: str, shape: Sequence[int | str], kind: str = "number") -> ValueInfoProto:
        from onnx import TensorProto, helper

        return helper.make_tensor_value_info(
            name, TensorProto.BOOL if kind == "boolean" else TensorProto.INT64, list(shape)
        )

    def plain(self) -> None:
        self.node("Shape", [self.input_names[self.net.inputs[0].name]], self.batch, start=0, end=1)
        self.block(self.net.drive, "drive")
        starts = {s.name: self.start(s.name, f"start/{s.name}") for s in self.net.states}
        made = self.node("Expand", [self.constant(0, "schedule/none"), self.batch], "made/start")
        traced = [f"traced/{s.name}" for s in self.net.states] if self.trace else []
        self.settle(starts, made, STEPS, "final", traced)
        for s in self.net.states if self.trace else ():
            self.stacked(f"traced/{s.name}", s.shape, f"{STATE}{s.name}")
        self.names |= {s.name: f"final/{s.name}" for s in self.net.states}
        self.block(self.net.readout, "readout")
        for o in self.net.outputs:
            self.expand(o.value, self.types[o.value], self.keys[o.name])
        self.close(every=False)

    def framed(self) -> None:
        from onnx import helper

        first = self.input_names[self.net.inputs[0].name]
        self.node("Shape", [first], self.batch, start=0, end=1)
        none = self.constant(0, "schedule/none")
        count = self.node("Squeeze", [self.node("Shape", [first], "frames/shape", start=1, end=2)], "frames/count")
        zeros = [self.zeros(s.name, f"zero/{s.name}") for s in self.net.states]
        made = self.node("Expand", [none, self.batch], "made/start")
        names = [s.name for s in self.net.states]
        outer, self.nodes = self.nodes, []
        for i in self.net.inputs:
            self.names[i.name] = self.node("Gather", [self.names[i.name], "frames/at"], f"frame/{i.name}", axis=1)
        self.block(self.net.drive, "drive")
        self.node("Equal", ["frames/at", none], "frames/first")
        starts = {}
        for name in names:
            at_first = self.start(name, f"start/{name}")
            starts[name] = self.node("Where", ["frames/first", at_first, f"carried/{name}"], f"clamped/{name}")
        traced = [f"traced/{n}" for n in names] if self.trace else []
        self.settle(starts, "made/before", "made/after", "settled", traced)
        self.names |= {n: f"settled/{n}" for n in names}
        self.block(self.net.readout, "readout")
        emitted = []
        for k, o in enumerate(self.net.outputs):
            self.expand(o.value, self.types[o.value], f"emitted/{k}")
            emitted.append(self.value_info(f"emitted/{k}", self.types[o.value]))
        self.node("Identity", ["frames/go_in"], "frames/go")
        shapes: dict[str, list[int | str]] = {s.name: [BATCH, *s.shape] for s in self.net.states}
        steps = self.net.schedule.steps
        body = helper.make_graph(
            self.nodes,
            "frames",
            [
                self.info("frames/at", []),
                self.info("frames/go_in", [], "boolean"),
                self.info("made/before", [BATCH]),
                *(self.info(f"carried/{n}", shapes[n]) for n in names),
            ],
            [
                self.info("frames/go", [], "boolean"),
                self.info("made/after", [BATCH]),
                *(self.info(f"settled/{n}", shapes[n]) for n in names),
                *emitted,
                *(self.info(t, [steps, *shapes[n]]) for t, n in zip(traced, names, strict=False)),
            ],
        )
        self.nodes = outer
        scanned = [f"scanned/{k}" for k in range(len(emitted))]
        histories = [f"history/{n}" for n in names] if self.trace else []
        results = [STEPS, *(f"final/{n}" for n in names), *scanned, *histories]
        carried = [count, self.constant(True, "frames/true"), made, *zeros]
        self.nodes.append(helper.make_node("Loop", carried, results, name="frames", body=body))
        every = self.net.schedule.emit == "every"
        for k, o in enumerate(self.net.outputs):
            shape = self.types[o.value].shape
            frames = self.stacked(scanned[k], shape, f"stacked/{k}")
            if every:
                self.node("Transpose", [frames], self.keys[o.name], perm=[1, 0, *range(2, 2 + len(shape))])
            else:
                self.node("Gather", [frames, self.constant(-1, f"{frames}/last")], self.keys[o.name], axis=0)
        for s in self.net.states if self.trace else ():
            self.stacked(f"history/{s.name}", s.shape, f"{STATE}{s.name}")
        self.close(every=every)

    def settle(self, starts: Mapping[str, str], made: str, made_out: str, place: str, traced: Sequence[str]) -> None:
        """The loop over the ticks of one clamped input. Adds the ticks of each sample to `made`; final states are
        `<place>/<state>`, the states of every tick `traced`."""
        from onnx import TensorProto, helper

        net = self.net
        shapes: dict[str, list[int | str]] = {s.name: [BATCH, *s.shape] for s in net.states}
        true = self.constant(True, "relaxation/true")
        moving = self.node("Expand", [true, self.batch], "moving/start")
        outer, self.nodes = self.nodes, []
        before = dict(self.names)
        self.names |= {s.name: f"step/{s.name}" for s in net.states}
        self.block(net.step, "step")
        live = self.node("Cast", ["moving/in"], "made/tick", to=TensorProto.INT64)
        self.node("Add", ["made/in", live], "made/out")
        moved = self.constant(False, "relaxation/none_moved")
        for s in net.states:
            moved = self.latch(s.name, s.update, s.shape, moved)
        self.node("And", ["moving/in", moved], "moving/out")
        if self.trace:
            self.node("Identity", ["relaxation/go_in"], "relaxation/go")
        else:
            self.node("ReduceMax", ["moving/out"], "relaxation/go", keepdims=0)
        for s in net.states if self.trace else ():
            self.node("Identity", [f"latch/{s.name}"], f"scan/{s.name}")
        body = helper.make_graph(
            self.nodes,
            "relaxation",
            [
                self.info("relaxation/at", []),
                self.info("relaxation/go_in", [], "boolean"),
                self.info("made/in", [BATCH]),
                self.info("moving/in", [BATCH], "boolean"),
                *(self.info(f"step/{n}", shape) for n, shape in shapes.items()),
            ],
            [
                self.info("relaxation/go", [], "boolean"),
                self.info("made/out", [BATCH]),
                self.info("moving/out", [BATCH], "boolean"),
                *(self.info(f"latch/{n}", shape) for n, shape in shapes.items()),
                *(self.info(f"scan/{s.name}", shapes[s.name]) for s in net.states if self.trace),
            ],
        )
        self.nodes, self.names = outer, before
        count = self.constant(net.schedule.steps, "relaxation/steps")
        carried = [count, true, made, moving, *(starts[s.name] for s in net.states)]
        results = [made_out, "moving/final", *(f"{place}/{s.name}" for s in net.states), *traced]
        self.nodes.append(helper.make_node("Loop", carried, results, name="relaxation", body=body))

    def latch(self, state: str, update: str, shape: tuple[int, ...], moved: str) -> str:
        """The state after the tick, `latch/<state>`, and whether it or one before it moved: `[batch]`.

        A sample that moved by no more than a tolerance above 0 has to be kept; at 0 it keeps its codes by itself."""
        tolerance = self.net.schedule.tolerance
        mark = f"moved/{state}"
        new = self.expand(update, ValueType(shape), f"update/{state}")
        change = self.node("Abs", [self.node("Sub", [new, f"step/{state}"], f"{mark}/change")], f"{mark}/size")
        beyond = self.node("Greater", [change, self.constant(tolerance, f"{mark}/tolerance")], f"{mark}/beyond")
        flat = self.constant(np.array([-1, math.prod(shape)], np.int64), f"{mark}/flat")
        rows = self.node("Reshape", [beyond, flat], f"{mark}/rows")
        far = self.node("ReduceMax", [rows, self.constant([-1], f"{mark}/axis")], f"{mark}/far", keepdims=0)
        if tolerance:
            spread = self.constant(np.array([-1, *[1] * len(shape)], np.int64), f"{mark}/spread")
            mask = self.node("Reshape", ["moving/in", spread], f"{mark}/mask")
            self.node("Where", [mask, new, f"step/{state}"], f"latch/{state}")
        else:
            self.node("Identity", [new], f"latch/{state}")
        return self.node("Or", [moved, far], mark)

    # Results

    def close(self, *, every: bool) -> None:
        """Declare the outputs; labels are the largest code, ties to the lowest index."""
        for o in self.net.outputs:
            self.results.append(self.value_info(self.keys[o.name], self.types[o.value], frame=every))
        for name, key in label_keys(self.net).items():
            shape = next(self.types[o.value].shape for o in self.net.outputs if o.name == name)
            self.nodes += top_index(self.keys[name], key)
            self.results.append(self.value_info(key, ValueType(shape[:-1]), frame=every))
        self.results.append(self.info(STEPS, [BATCH]))
        if self.trace:
            ticks = "ticks" if self.net.schedule.frames else self.net.schedule.steps
            self.results += [self.info(f"{STATE}{s.name}", [ticks, BATCH, *s.shape]) for s in self.net.states]
