"""Canonical text and digest of a net."""

from __future__ import annotations

import hashlib
import random
import struct
import textwrap
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import int_nets, random_net, small_net, with_formats

from eqcompile.toolchain.ir import (
    Encoding,
    EqNet,
    Format,
    Input,
    IntNet,
    Output,
    Param,
    Schedule,
    State,
    Stop,
    ops,
)
from eqcompile.toolchain.ir.text import param_digest


def int_net() -> IntNet:
    """Every construct of the text once: index input, init, repeat, boolean, frames."""
    net = IntNet(
        name="text",
        family="test.Text",
        inputs=(
            Input("x", (2,), encoding=Encoding(Format(4, False), 0.5)),
            Input("t", (), "index", rows=2),
        ),
        params=(
            Param("E", np.array([[1, -1], [2, -2]]), "file.pt:embed"),
            Param("W", np.array([[1, 0], [-1, 1]]), "file.pt:W"),
            Param("m", np.array(3), "chosen"),
            Param("T", np.arange(-8, 8), "tanh"),
        ),
        states=(State("h", (2,), "z", init="d", frac=3), State("n", (), "m")),
        drive=(ops.Embedding(out="e", x="t", table="E"), ops.Rescale(out="d", x="e", multiplier="m", shift=1)),
        step=(
            ops.Linear(out="w", x="h", weight="W"),
            ops.Repeat(
                out="r",
                init="h",
                count=2,
                carry="g",
                body=(ops.Add(out="s", a="g", b="w"), ops.Lookup(out="k", x="s", table="T", first=-8)),
                result="k",
            ),
            ops.Greater(out="c", a="r", b="x"),
            ops.Select(out="z", condition="c", a="r", b="h"),
        ),
        readout=(ops.Reduce(out="y", x="h", kind="sum", axes=(-1,), keep=True),),
        outputs=(Output("o", "y", "classes", 0.25),),
        schedule=Schedule(6, frames=True, emit="every", tolerance=1),
        formats={"h": Format(4, True), "n": Format(2, False), "g": Format(4, True)},
    )
    return with_formats(net)


EXPECT_INT = """
intnet "text" family "test.Text" {
  input x: number[2] code=u4 scale=0.5
  input t: index[] rows=2
  param E: int64[2, 2] sha256:<E> from 'file.pt:embed'
  param W: int64[2, 2] sha256:<W> from 'file.pt:W'
  param m: int64[] sha256:<m> from 'chosen'
  param T: int64[16] sha256:<T> from 'tanh'
  state h: i4[2] frac=3 = d
  state n: u2[] = 0
  drive {
    e: i3[2] = embedding(x=t, table=E)
    d: i3[2] = rescale(x=e, multiplier=m, shift=1)
  }
  step {
    w: i5[2] = linear(x=h, weight=W)
    r: i4[2] = repeat 2 g = h {
      s: i6[2] = add(a=g, b=w)
      k: i4[2] = lookup(x=s, table=T, first=-8)
      g <- k
    }
    c: boolean[2] = greater(a=r, b=x)
    z: i4[2] = select(condition=c, a=r, b=h)
    h <- z
    n <- m
  }
  readout {
    y: i5[1] = reduce(x=h, kind=sum, axes=[-1], keep=True)
  }
  output o: classes = y scale=0.25
  schedule steps=6 tolerance=1 frames=True emit=every
}
"""

EXPECT_EQ = """
eqnet "float" family "test.Float" {
  input x: number[2]
  param W: float64[2, 2] sha256:<W> from 'file.pt:W'
  state h: [2] = 0
  step {
    w: [2] = linear(x=h, weight=W)
    a: [2] = add(a=w, b=x)
    y: [2] = activation(x=a, kind=tanh)
    z: [2] = damp(old=h, new=y, alpha=0.5)
    h <- z
  }
  output o: values = h
  schedule steps=30 stop=Stop(state='h', epsilon=0.001, loose_after=5, loose=2.0)
}
"""


def eq_net() -> EqNet:
    return EqNet(
        name="float",
        family="test.Float",
        inputs=(Input("x", (2,)),),
        params=(Param("W", np.eye(2), "file.pt:W"),),
        states=(State("h", (2,), "z"),),
        drive=(),
        step=(
            ops.Linear(out="w", x="h", weight="W"),
            ops.Add(out="a", a="w", b="x"),
            ops.Activation(out="y", x="a", kind="tanh"),
            ops.Damp(out="z", old="h", new="y", alpha=0.5),
        ),
        readout=(),
        outputs=(Output("o", "h", "values"),),
        schedule=Schedule(30, stop=Stop("h", 1e-3, 5, 2.0)),
    )


@pytest.mark.parametrize(("net", "expect"), [(int_net(), EXPECT_INT), (eq_net(), EXPECT_EQ)], ids=["intnet", "eqnet"])
def test_text_is_as_written(net: IntNet | EqNet, expect: str) -> None:
    """A change of the canonical text changes every digest: it must be seen."""
    want = textwrap.dedent(expect).lstrip("\n")
    for p in net.params:
        want = want.replace(f"<{p.name}>", param_digest(p)[:12])
    assert str(net) == want
    assert repr(net) == want


BARE = """
intnet {
  input x: number[1] code=i8 scale=1.0
  param W: int64[1, 1] sha256:<W>
  param T: int64[2] sha256:<T>
  state h: i8[1] frac=7 = 0
  step {
    w: i10[1] = linear(x=h, weight=W)
    a: i10[1] = add(a=w, b=x)
    y: u1[1] = lookup(x=a, table=T, first=0)
    h <- y
  }
  output o: values = h scale=1.0
  schedule steps=3
}
"""


def test_digest_is_a_hash_of_the_text_and_of_little_endian_codes() -> None:
    """Artifacts name their net by this digest: the same net must have it on every machine and in every version."""
    hashes = {
        "W": hashlib.sha256(b"int64[1, 1]" + struct.pack("<q", -3)).hexdigest(),
        "T": hashlib.sha256(b"int64[2]" + struct.pack("<qq", 0, 1)).hexdigest(),
    }
    assert param_digest(Param("W", np.array([[-3]], dtype=">i8"), "a big-endian file")) == hashes["W"]
    text = BARE.lstrip("\n")
    for name, value in hashes.items():
        text = text.replace(f"<{name}>", value)
    assert small_net([[-3]], table=[0, 1], first=0, steps=3).digest == hashlib.sha256(text.encode()).hexdigest()


@settings(max_examples=40, deadline=None)
@given(int_nets())
def test_digest_ignores_provenance_and_sees_every_code(net: IntNet) -> None:
    """Two nets that compute differently under one digest, or one net under two."""
    moved = replace(net, name="n", family="f", params=tuple(replace(p, source="elsewhere") for p in net.params))
    assert moved == net
    assert hash(moved) == hash(net)
    for i, p in enumerate(net.params):
        value = p.value.copy()
        value.flat[-1] += 1
        assert replace(net, params=(*net.params[:i], replace(p, value=value), *net.params[i + 1 :])) != net


def test_digest_sees_every_field() -> None:
    """A field that does not enter the text could change bits unnoticed."""
    net = int_net()
    x, t = net.inputs
    h, n = net.states
    (o,) = net.outputs
    linear, repeat, greater, select = net.step
    assert isinstance(repeat, ops.Repeat)
    changed = [
        replace(net, inputs=(replace(x, encoding=Encoding(Format(4, False), 0.25)), t)),
        replace(net, inputs=(replace(x, encoding=Encoding(Format(5, False), 0.5)), t)),
        replace(net, inputs=(x, replace(t, rows=1))),
        replace(net, states=(replace(h, frac=4), n)),
        replace(net, states=(replace(h, init="x"), n)),
        replace(net, states=(replace(h, update="r"), n)),
        replace(net, states=(n, h)),
        replace(net, step=(replace(linear, bias="m"), repeat, greater, select)),
        replace(net, step=(linear, replace(repeat, count=3), greater, select)),
        replace(net, step=(linear, replace(repeat, body=repeat.body[:1], result="s"), greater, select)),
        replace(net, step=(linear, repeat, greater, replace(select, a="h", b="r"))),
        replace(net, step=net.step + net.readout, readout=()),
        replace(net, outputs=(replace(o, scale=0.5),)),
        replace(net, outputs=(replace(o, kind="values"),)),
        replace(net, schedule=replace(net.schedule, steps=7)),
        replace(net, schedule=replace(net.schedule, tolerance=0)),
        replace(net, schedule=replace(net.schedule, emit="last")),
        replace(net, formats={**net.formats, "w": Format(9, True)}),
    ]
    digests = [other.digest for other in changed]
    assert net.digest not in digests
    assert len(set(digests)) == len(digests)


def test_levels_are_different_nets() -> None:
    """An EqNet equal to an IntNet would let a float pass for an integer."""
    assert eq_net() != int_net()
    assert eq_net() != "eqnet"
    assert random_net(random.Random(1)) == random_net(random.Random(1))


def test_text_of_a_broken_net_is_still_readable() -> None:
    """An error message prints the net it is about; that must not fail in turn."""
    net = int_net()
    broken = replace(net, step=(ops.Linear(out="w", x="nowhere", weight="W"),), formats={})
    assert "w: [?] = linear(x=nowhere, weight=W)" in str(broken)
