"""Files made to run code, to waste memory or to be read in two ways: refused before anything is made of them."""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import npy_of, npz_of, only, refusal, repacked, saved, state, written

from eqcompile.toolchain.importers.files import containers, pt
from eqcompile.toolchain.importers.files.load import load_file
from eqcompile.toolchain.importers.files.pickles import PickleError, survey


class Payload:
    """Unpickling this runs a shell command that creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def hostile_zip(pickled: bytes) -> bytes:
    return repacked(saved(state()), {"data.pkl": pickled})


def hostile_legacy(pickled: bytes) -> bytes:
    plain = saved({}, _use_new_zipfile_serialization=False)
    return plain.replace(b"\x80\x02}q\x00.\x80\x02]q\x00.", pickled + b"\x80\x02]q\x00.")


@pytest.mark.parametrize("wrap", [hostile_zip, hostile_legacy, bytes], ids=["zip", "legacy", "bare"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_pickle_is_named_and_not_run(tmp_path: Path, wrap: Callable[[bytes], bytes], protocol: int) -> None:
    """If it breaks, opening a stranger's checkpoint runs the stranger's code."""
    marker = tmp_path / "ran"
    payload = pickle.dumps({"W_in.weight": Payload(marker)}, protocol=protocol)
    pickle.loads(payload)
    assert marker.exists(), "the payload must work, else this test shows nothing"
    marker.unlink()
    data = wrap(payload)
    assert payload in data
    found = only(refusal(written(tmp_path, data)))
    assert not marker.exists()
    assert "posix.system" in found.what
    assert "nothing was executed" in found.what
    assert "state_dict" in found.hint


def test_no_unpickler_is_ever_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's and torch's unpicklers import and call: a good file loads without them, in both formats."""

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("an unpickler was asked")

    files = [
        written(tmp_path, saved(state(), _use_new_zipfile_serialization=new), f"{new}.pt") for new in (True, False)
    ]
    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)
    assert all(len(load_file(path).arrays) == 6 for path in files)


def test_the_survey_refuses_names_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of foreign names is one wall; behind it the survey's own must stand, also if the list were empty."""
    marker = tmp_path / "ran"
    data = hostile_zip(pickle.dumps({"w": Payload(marker)}, protocol=2))
    monkeypatch.setattr(pt, "foreign_globals", lambda text: [])
    fault = only(refusal(written(tmp_path, data)))
    assert fault.code == "pickle-malformed"
    assert "it names posix.system" in fault.what
    assert not marker.exists()


def test_all_refused_globals_are_listed_at_once(tmp_path: Path) -> None:
    """If it breaks, a user who removes one object from a checkpoint meets the next one."""
    path = written(tmp_path, saved({"args": Path("x"), "scaler": np.float32(1.0), "w": torch.zeros(1)}))
    found = only(refusal(path))
    assert found.code == "pickle-global"
    assert "pathlib.PosixPath" in found.what
    assert "scalar" in found.what


def test_a_whole_module_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """torch.save(model) pickles classes: the message must say so, not show torch's advice to trust the file."""
    found = only(refusal(written(tmp_path, saved(torch.nn.Linear(2, 3)))))
    assert "torch.nn.modules.linear.Linear" in found.what
    assert "model.state_dict()" in found.hint


def test_a_call_that_only_allocates_is_refused(tmp_path: Path) -> None:
    """torch's own allowed set lets a pickle make a bytearray of any length."""
    bomb = b"\x80\x02}X\x01\x00\x00\x00wcbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85Rs."
    found = only(refusal(written(tmp_path, hostile_zip(bomb))))
    assert "builtins.bytearray" in found.what


@pytest.mark.parametrize("legacy", [False, True])
def test_a_huge_view_of_a_tiny_storage_is_refused(tmp_path: Path, legacy: bool) -> None:
    """A 40 GB shape in a file of 2 kB must not become a 40 GB array."""
    data = saved({"w": torch.zeros(1).expand(100_000, 100_000)}, _use_new_zipfile_serialization=not legacy)
    tracemalloc.start()
    found = only(refusal(written(tmp_path, data)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.code == "tensor-larger-than-storage"
    assert "[100000, 100000] (40000000000 bytes) over 4 stored bytes" in found.what
    assert found.where == "net.pt:w"
    # The legacy reader's windows are 8 MiB at most.
    assert peak < 32 << 20


def test_many_views_of_one_storage_are_refused(tmp_path: Path) -> None:
    """Tied weights are fine; a thousand names for one storage would copy it a thousand times."""
    block = torch.zeros(4096)
    tied = load_file(written(tmp_path, saved({f"w{i}": block for i in range(3)})))
    assert len(tied.arrays) == 3
    found = only(refusal(written(tmp_path, saved({f"w{i}": block.view(64, 64) for i in range(1000)}))))
    assert "1000 tensors claim 16384000 bytes" in found.what


def test_one_tensor_under_many_names_is_one_array(tmp_path: Path) -> None:
    """A pickle can name a tensor again for a few bytes: widening bfloat16 anew each time would be a bomb."""
    block = torch.zeros(4096, dtype=torch.bfloat16)
    arrays = load_file(written(tmp_path, saved({f"w{i}": block for i in range(1000)}))).arrays
    assert len({id(array) for array in arrays.values()}) == 1


def test_a_storage_shorter_than_its_tensor_is_refused(tmp_path: Path) -> None:
    """A short member would be read past its end by a reader that trusts the pickle."""
    data = repacked(saved({"w": torch.arange(1000.0)}), {"data/0": b"\0" * 16})
    found = only(refusal(written(tmp_path, data)))
    assert "has 16 bytes, its tensors need 4000" in found.what
    gone = only(refusal(written(tmp_path, repacked(saved({"w": torch.arange(9.0)}), {"data/0": None}))))
    assert "is missing, its tensors need 36" in gone.what


def test_a_view_past_the_end_of_its_storage_is_refused(tmp_path: Path) -> None:
    """Offset and strides are the file's claims too."""
    data = saved({"w": torch.arange(16.0)[4:8]})
    text = zipfile.ZipFile(io.BytesIO(data)).read("archive/data.pkl")
    moved = text.replace(b"QK\x04K\x04\x85", b"QK\x0dK\x04\x85")
    assert moved != text
    found = only(refusal(written(tmp_path, repacked(data, {"data.pkl": moved}))))
    assert found.code == "tensor-larger-than-storage"


def test_legacy_storages_beyond_the_file_are_refused(tmp_path: Path) -> None:
    """The old format allocates each storage before it reads it."""
    data = saved({"w": torch.arange(8.0)}, _use_new_zipfile_serialization=False)
    text = data.replace(b"cpuq\x06K\x08", b"cpuq\x06J\x00\x00\x00\x40").replace(b"QK\x00K\x08\x85", b"QK\x00K\x01\x85")
    assert text != data
    found = only(refusal(written(tmp_path, text)))
    assert "tensors need 4294967304 bytes" in found.what


def test_a_stride_that_no_entry_takes_is_harmless(tmp_path: Path) -> None:
    """An axis of one entry may have any stride; in bytes it must not overflow into a step outside the storage."""
    huge = torch.arange(3.0).as_strided((1, 3), (2**61, 1))
    np.testing.assert_array_equal(load_file(written(tmp_path, saved({"w": huge}))).arrays["w"], [[0.0, 1.0, 2.0]])


def test_arrays_cannot_be_written_past_their_view(tmp_path: Path) -> None:
    """Views share the file's bytes: a write through one would change another tensor."""
    block = torch.arange(6.0)
    arrays = load_file(written(tmp_path, saved({"a": block[:3], "b": block[1:5]}))).arrays
    with pytest.raises(ValueError, match="read-only"):
        arrays["a"][1] = 7.0


def test_compressed_torch_archives_are_refused(tmp_path: Path) -> None:
    """torch never compresses: a deflated member is a bomb in the making."""
    data = repacked(saved({"w": torch.zeros(100_000)}), {}, method=zipfile.ZIP_DEFLATED)
    assert only(refusal(written(tmp_path, data))).code == "archive-method"


def test_an_npz_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file that unpacks to gigabytes must be refused from its directory alone."""
    path = tmp_path / "net.npz"
    np.savez_compressed(path, w=np.zeros(2_000_000))
    assert load_file(path).arrays["w"].shape == (2_000_000,)
    monkeypatch.setattr(containers, "UNPACK_FREE", 1 << 20)
    found = only(refusal(path))
    assert found.code == "archive-bomb"
    assert "16000128 bytes" in found.what


def test_an_npz_header_that_claims_more_than_is_stored(tmp_path: Path) -> None:
    """The header's shape must not decide what is allocated."""
    claimed = npz_of("w.npy", npy_of(np.zeros(888)).replace(b"(888,)", b"(999,)"))
    found = only(refusal(written(tmp_path, claimed, "net.npz")))
    assert "claims shape [999] of float64 (7992 bytes), 7104 bytes are stored" in found.what
    assert found.where == "net.npz:w.npy"


def test_pickled_objects_in_an_npz_are_not_unpickled(tmp_path: Path) -> None:
    """An object array is a pickle: reading it would run code."""
    marker = tmp_path / "ran"
    path = tmp_path / "net.npz"
    np.savez(path, a=np.array([Payload(marker)], dtype=object), b=np.zeros(2, np.complex64), c=np.array(["x"]))
    codes = [d.code for d in refusal(path).diagnostics]
    assert codes == ["array-objects", "array-dtype"]
    assert not marker.exists()
    np.savez(path, c=np.array(["x"]))
    assert "c holds text" in only(refusal(path)).what


def test_a_flipped_weight_is_noticed(tmp_path: Path) -> None:
    """torch does not check the checksums of an archive: one flipped bit would be another network."""
    data = bytearray(saved({"w": torch.arange(64.0)}))
    at = bytes(data).index(struct.pack("<3f", 1.0, 2.0, 3.0))
    data[at + 1] ^= 0x10
    found = only(refusal(written(tmp_path, bytes(data))))
    assert "checksum of archive/data/0 does not match" in found.what


def test_bytes_around_an_archive_are_refused(tmp_path: Path) -> None:
    """Two readers may find two archives in such a file: what was judged would not be what is loaded."""
    data = saved(state())
    assert only(refusal(written(tmp_path, data + b"x" * 30))).code == "file-damaged"
    twice = repacked(data, {"DATA/0": b"\0" * 96})
    assert only(refusal(written(tmp_path, twice))).code == "archive-members"


STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\x00K\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
)


def test_the_survey_takes_what_torch_writes() -> None:
    """The next test's pickles differ from a good one in one thing each."""
    found = survey(b"\x80\x02}X\x01\x00\x00\x00w" + TENSOR + b"s.")
    assert [t.shape for t in found.tensors] == [(2,)]
    assert found.name_of(found.tensors[0]) == "w"
    assert found.storages["0"].elements == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\x80\x02" + TENSOR + b"}b.", "attributes of something that is not a dictionary"),
        (b"\x80\x02}K\x01K\x02\x86K\x03s.", "key of type tuple"),
        (b"\x80\x02ctorch\nSize\n)\x81.", "opcode NEWOBJ"),
        (b"\x80\x04\x8c\x01ws.", "opcode SHORT_BINUNICODE"),
        (b"\x80\x02X\x01\x00\x00\x00wQ.", "not a plain tensor storage"),
        (b"\x80\x02]" + STORAGE + b"a" + STORAGE.replace(b"K\x04", b"K\x05") + b"a.", "two sizes"),
        (b"\x80\x02" + TENSOR.replace(b"K\x02\x85K\x01", b"K\x02\x85J\xff\xff\xff\xff") + b".", "not write"),
        (b"\x80\x02K\x01)R.", "something that has no name"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "torch.FloatStorage with arguments"),
        (b"\x80\x02K\x01K\x02a.", "not a list"),
        (b"\x80\x02K\x01K\x02K\x03s.", "not a dictionary"),
        (b"\x80\x02cposix\nsystem\n.", "posix.system"),
        (b"\x80\x02\x85.", "its stack is empty"),
        (b"\x80\x02h\x07.", "is damaged"),
        (b"\x80\x02S'\\o'\n.", "opcode STRING"),
        (b"\x80\x02}", "is damaged"),
    ],
)
def test_the_survey_refuses_what_torch_does_not_write(text: bytes, message: str) -> None:
    """Each of these would let the pickle make something other than the survey has judged."""
    with pytest.raises(PickleError, match=re.escape(message)):
        survey(text)
