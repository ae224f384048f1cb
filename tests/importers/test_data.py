"""Sample files: only what the net can read gets through, and codes are what the encoding says."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eqcompile.toolchain.data import encode, read_inputs
from eqcompile.toolchain.diagnostics import ImportFileError, UsageError
from eqcompile.toolchain.importers.files import containers
from eqcompile.toolchain.ir import Encoding, EqNet, Format, Input, IntNet, Output, Param, Schedule, State, ops


def net(*, name: str = "x", frames: bool = False, emit: Any = "last", kind: Any = "classes") -> EqNet:
    """Three numbers to four logits."""
    return EqNet(
        name="net",
        family="test",
        inputs=(Input(name, (3,)),),
        params=(Param("w", np.zeros((4, 3)), "test"),),
        states=(State("h", (4,), "new"),),
        drive=(ops.Linear(out="new", x=name, weight="w"),),
        step=(),
        readout=(),
        outputs=(Output("y", "h", kind),),
        schedule=Schedule(1, frames=frames, emit=emit),
    )


def tokens() -> EqNet:
    """Two inputs: five tokens of ten rows, and one number."""
    return EqNet(
        name="net",
        family="test",
        inputs=(Input("token", (5,), "index", 10), Input("gain", ())),
        params=(Param("table", np.zeros((10, 2)), "test"),),
        states=(State("h", (5, 2), "new"),),
        drive=(
            ops.Embedding(out="looked", x="token", table="table"),
            ops.Mul(out="new", a="looked", b="gain"),
        ),
        step=(),
        readout=(),
        outputs=(Output("y", "h", "classes"),),
        schedule=Schedule(1),
    )


def saved(tmp_path: Path, **content: Any) -> Path:
    path = tmp_path / "samples.npz"
    np.savez(path, **content)
    return path


def refusal(path: Path, target: EqNet, **options: Any) -> str:
    with pytest.raises(ImportFileError) as caught:
        read_inputs(path, target, **options)
    return str(caught.value)


def test_samples_and_labels_come_as_the_net_wants_them(tmp_path: Path) -> None:
    """Images as bytes become numbers; labels stay beside their samples; other keys are not even read."""
    x = np.arange(12, dtype=np.uint8).reshape(4, 3)
    found = read_inputs(saved(tmp_path, x=x, labels=np.array([0, 1, 2, 3], np.uint8), extra=np.zeros(0)), net())
    assert dict(found).keys() == {"x"}
    assert len(found) == 1
    assert found["x"].dtype == np.float64
    assert np.array_equal(found["x"], x)
    assert found.labels is not None
    assert (found.labels.dtype, found.labels.tolist()) == (np.dtype(np.int64), [0, 1, 2, 3])


def test_the_limit_takes_the_first_samples_and_their_labels(tmp_path: Path) -> None:
    """A limit must not part samples from labels."""
    path = saved(tmp_path, x=np.arange(12.0).reshape(4, 3), labels=np.arange(4))
    found = read_inputs(path, net(), limit=2)
    assert found["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1]
    assert read_inputs(path, net(), limit=99)["x"].shape == (4, 3)
    with pytest.raises(UsageError, match="limit is 0"):
        read_inputs(path, net(), limit=0)


def test_a_single_input_goes_by_x_or_its_name_or_npy(tmp_path: Path) -> None:
    """Users should not need to know what the importer called the only input."""
    x = np.ones((2, 3))
    np.save(tmp_path / "a.npy", x)
    for path in (saved(tmp_path, x=x), tmp_path / "a.npy"):
        assert np.array_equal(read_inputs(path, net(name="image"))["image"], x)
    assert np.array_equal(read_inputs(saved(tmp_path, image=x, x=x * 2), net(name="image"))["image"], x)
    assert "there is no array image (or x), the net reads it; there is none" in refusal(
        saved(tmp_path, y=x), net(name="image")
    )


def test_several_inputs_and_indices(tmp_path: Path) -> None:
    """Tokens stay integers; each fault of each input shows in one run."""
    good = {"token": np.full((2, 5), 9, np.int32), "gain": np.ones(2)}
    found = read_inputs(saved(tmp_path, **good), tokens())
    assert (found["token"].dtype, found["gain"].shape) == (np.dtype(np.int64), (2,))
    text = refusal(saved(tmp_path, token=np.full((2, 5), 10)), tokens())
    assert "token has indices 10 to 10, the net wants 0 to 9" in text
    assert "there is no array gain" in text
    assert "integer indices" in refusal(saved(tmp_path, token=np.ones((2, 5)), gain=np.ones(2)), tokens())
    assert "token has indices -1 to" in refusal(saved(tmp_path, token=np.full((2, 5), -1), gain=np.ones(2)), tokens())
    unequal = refusal(saved(tmp_path, token=good["token"], gain=np.ones(3)), tokens())
    assert "different numbers of samples: token [2], gain [3]" in unequal


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (np.zeros((64, 63)), "x has shape [64, 63], the net wants [batch, 3]"),
        (np.zeros(3), "x has shape [3], the net wants [batch, 3]"),
        (np.zeros(()), "x has shape [], the net wants [batch, 3]"),
        (np.zeros((0, 3)), "there are no samples in it"),
        (np.array([[np.nan, np.inf, -np.inf]]), "x has 1 NaN and 2 infinite of 3 entries"),
        (np.array([["a", "b", "c"]]), "elements of type <U1, the net wants numbers"),
        (np.array([[None, 1, 2]]), "holds Python objects"),
        (np.zeros((1, 3), complex), "elements of type complex128"),
    ],
)
def test_samples_that_the_net_cannot_read(tmp_path: Path, x: Any, text: str) -> None:
    """Both numbers in the message: what the file holds and what the net wants."""
    assert text in refusal(saved(tmp_path, x=x), net())


def test_frames_have_an_axis_of_their_own(tmp_path: Path) -> None:
    """A sequence without its frame axis would be read as a batch."""
    assert "the net wants [batch, frame, 3]" in refusal(saved(tmp_path, x=np.zeros((4, 3))), net(frames=True))
    found = read_inputs(
        saved(tmp_path, x=np.zeros((4, 7, 3)), labels=np.zeros((4, 7), int)), net(frames=True, emit="every")
    )
    assert found.labels is not None
    assert found.labels.shape == (4, 7)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (np.zeros(3, int), "labels has shape [3], these samples want [2]"),
        (np.zeros(2), "elements of type float64, must be integers"),
        (np.array([np.nan, 1.0]), "labels has 1 NaN and 0 infinite of 2 entries, must be integers"),
        (np.array([0, 4]), "labels go from 0 to 4, the net tells classes 0 to 3"),
        (np.array([-1, 0]), "labels go from -1 to 0"),
        (np.zeros((), int), "labels has shape []"),
    ],
)
def test_labels_are_checked(tmp_path: Path, labels: Any, text: str) -> None:
    """An accuracy against wrong labels is a wrong number that looks right."""
    assert text in refusal(saved(tmp_path, x=np.zeros((2, 3)), labels=labels), net())


def test_outputs_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    """Would break if an expected output of NaN were compared with, where every comparison is false."""
    logits = np.array([[np.nan, 0.0, np.inf, 1.0]] * 2)
    text = "logits has 2 NaN and 2 infinite of 8 entries, must be finite real numbers"
    assert text in refusal(saved(tmp_path, x=np.zeros((2, 3)), logits=logits), net())


def test_a_net_of_values_has_no_labels(tmp_path: Path) -> None:
    """Labels beside samples for a regression are not the net's."""
    assert read_inputs(saved(tmp_path, x=np.zeros((2, 3)), labels=np.zeros(9)), net(kind="values")).labels is None


def test_files_that_are_no_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Foreign, damaged and oversized files are refused before anything is allocated."""
    path = tmp_path / "x"
    path.write_bytes(b"a,b,c\n")
    assert "not an .npz or .npy file" in refusal(path, net())
    assert "No such file" in refusal(tmp_path / "absent", net())
    np.savez_compressed(path.with_suffix(".npz"), x=np.zeros((100_000, 3)))
    monkeypatch.setattr(containers, "UNPACK_FREE", 1 << 20)
    assert "claims to unpack to 2400128 bytes" in refusal(path.with_suffix(".npz"), net())
    huge = io.BytesIO()
    np.save(huge, np.zeros((1, 3)))
    path.write_bytes(huge.getvalue().replace(b"(1, 3), }            ", b"(999999999999, 3), } "))
    assert "claims shape [999999999999, 3] of float64 (23999999999976 bytes), 24 bytes are stored" in refusal(
        path, net()
    )


def seeds() -> dict[str, bytes]:
    plain, packed, single = io.BytesIO(), io.BytesIO(), io.BytesIO()
    content = {"x": np.arange(6.0).reshape(2, 3), "labels": np.array([0, 3])}
    np.savez(plain, **content)
    np.savez_compressed(packed, **content)
    np.save(single, content["x"])
    return {"npz": plain.getvalue(), "packed": packed.getvalue(), "npy": single.getvalue()}


SEEDS = seeds()
BOUNDED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def tried(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        read_inputs(path, net())
    except ImportFileError:
        return False
    return True


@pytest.mark.parametrize("form", sorted(SEEDS))
@BOUNDED
@given(data=st.data())
def test_damage_never_ends_in_a_traceback(tmp_path: Path, form: str, data: st.DataObject) -> None:
    """Cut anywhere a file never reads; with bytes flipped it reads or ends in an ImportFileError."""
    whole = bytearray(SEEDS[form])
    path = tmp_path / "samples"
    assert tried(path, bytes(whole))
    assert not tried(path, bytes(whole[: data.draw(st.integers(0, len(whole) - 1))]))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    tried(path, bytes(whole))


@BOUNDED
@given(data=st.data())
def test_a_crafted_header_never_ends_in_a_traceback(tmp_path: Path, data: st.DataObject) -> None:
    """With right checksums the header's text is what an attacker chooses."""
    text = bytearray(SEEDS["npy"])
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x.npy", bytes(text))
    tried(tmp_path / "samples", out.getvalue())


def integer_net(encoding: Encoding) -> IntNet:
    return IntNet(
        name="net",
        family="test",
        inputs=(Input("x", (3,), encoding=encoding),),
        params=(),
        states=(),
        drive=(),
        step=(),
        readout=(),
        outputs=(),
        schedule=Schedule(1),
    )


def test_encoding_rounds_half_to_even_and_counts_what_it_clips() -> None:
    """The codes are the contract with every host driver: worked by hand from `clip(rint(x / scale), lo, hi)`."""
    target = integer_net(Encoding(Format(4, True), 0.5))
    codes, saturated = encode(target, {"x": np.array([[0.25, 0.75, 1.25], [3.5, 3.76, -4.3], [9.0, -1e308, -4.0]])})
    assert codes["x"].tolist() == [[0, 2, 2], [7, 7, -8], [7, -8, -8]]
    assert codes["x"].dtype == np.int64
    assert saturated == 4


@given(x=arrays(np.float64, (2, 3), elements=st.floats(-1e300, 1e300)), scale=st.floats(1e-12, 1e6))
def test_encoding_matches_exact_arithmetic(x: Any, scale: float) -> None:
    """Entry by entry in Python's own numbers, whose round is half to even too."""
    form = Format(8, True)
    codes, saturated = encode(integer_net(Encoding(form, scale)), {"x": x})
    exact = [round(v / scale) if abs(v / scale) < 1e18 else (v > 0) * 2**70 - 2**69 for v in x.ravel().tolist()]
    assert codes["x"].ravel().tolist() == [min(max(e, form.lo), form.hi) for e in exact]
    assert saturated == sum(not form.lo <= e <= form.hi for e in exact)


def test_encode_checks_its_samples() -> None:
    """A NaN would become an arbitrary code; a wrong shape would broadcast."""
    target = integer_net(Encoding(Format(8, True), 1.0))
    with pytest.raises(ImportFileError, match="1 NaN"):
        encode(target, {"x": np.array([[0.0, np.nan, 0.0]])})
    with pytest.raises(ImportFileError, match=r"\[2\], the net wants \[batch, 3\]"):
        encode(target, {"x": np.zeros(2)})
