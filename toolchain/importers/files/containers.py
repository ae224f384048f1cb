"""Files and zip archives of unknown origin: what they claim is held against their size before anything is read."""

from __future__ import annotations

import stat
import struct
import tokenize
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from ...diagnostics import Diagnostic, ImportFileError

__all__ = [
    "READ_ERRORS",
    "UNPACK_FREE",
    "UNPACK_RATIO",
    "ZIP_MAGIC",
    "damaged",
    "open_zip",
    "regular_file",
    "zip_names",
]

ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
"""First bytes of a zip archive, or of an empty one."""

READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    RuntimeError,
    TypeError,
    AttributeError,
    ArithmeticError,
    SyntaxError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    tokenize.TokenError,
)
"""What the standard readers (zipfile, NumPy's header parser, json) raise on damaged bytes."""

UNPACK_FREE = 256 << 20
"""Bytes that any compressed file may unpack to."""
UNPACK_RATIO = 100
"""Above `UNPACK_FREE`, the largest ratio of unpacked to packed bytes. Images compress 2 to 20 times, DEFLATE reaches
1032 on zeros."""
_MAX_MEMBERS = 100_000
_END_BYTES = 22
"""Length of the record that ends an archive without a comment."""


def regular_file(path: Path) -> int:
    """Size in bytes of the regular file at `path`; ImportFileError if there is none or it is empty."""
    where = str(path)
    try:
        status = path.stat()
    except OSError as error:
        raise ImportFileError(Diagnostic("file-not-readable", f"cannot read: {error.strerror}", where)) from error
    except ValueError as error:
        raise ImportFileError(Diagnostic("file-not-readable", f"cannot read: {error}", where)) from error
    if stat.S_ISDIR(status.st_mode):
        raise ImportFileError(Diagnostic("file-is-folder", "this is a folder, a file is wanted", where))
    if not stat.S_ISREG(status.st_mode):
        raise ImportFileError(Diagnostic("file-not-regular", "this is a device or a pipe, a file is wanted", where))
    if status.st_size == 0:
        raise ImportFileError(Diagnostic("file-empty", "the file is empty (0 bytes)", where, "copy or save it again"))
    return status.st_size


def damaged(where: str, size: int, reason: object) -> ImportFileError:
    """The error for a file that is cut short or altered; `reason` is the reader's own message."""
    text = " ".join(str(reason).split())[:200]
    return ImportFileError(
        Diagnostic(
            "file-damaged",
            f"the file ({size} bytes) is cut short or damaged: {text}",
            where,
            "copy or save it again and compare the sizes",
        )
    )


def zip_names(data: bytes) -> list[str]:
    """Names of the members of a zip archive; none if the bytes are no archive, or a damaged one."""
    if not data.startswith(ZIP_MAGIC):
        return []
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            return archive.namelist()
    except READ_ERRORS:
        return []


def open_zip(handle: BinaryIO, where: str, size: int, *, compressed: bool) -> zipfile.ZipFile:
    """The archive, once its directory is shown to be plausible; with `compressed=False` only stored members may occur.

    Raises ImportFileError for a damaged directory, overlapping or repeated members and compression bombs.
    """
    try:
        archive = zipfile.ZipFile(handle)
    except READ_ERRORS as error:
        raise damaged(where, size, error) from error
    members = archive.infolist()
    handle.seek(size - _END_BYTES)
    ends = handle.read(4) == b"PK\x05\x06"
    # Two readers may see two archives in one file when bytes stand before the first member or behind the directory.
    if not ends or (members and min(m.header_offset for m in members) != 0):
        raise damaged(where, size, "bytes before the first member or behind the directory of the archive")
    if len(members) > _MAX_MEMBERS:
        what = f"the archive has {len(members)} members, more than {_MAX_MEMBERS}"
        raise ImportFileError(Diagnostic("archive-members", what, where))
    if len({m.filename.lower() for m in members}) != len(members):
        raise ImportFileError(Diagnostic("archive-members", "the archive holds a member's name twice", where))
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) if compressed else (zipfile.ZIP_STORED,)
    for m in members:
        if m.compress_type not in methods or m.flag_bits & 0x1:
            what = f"member {m.filename[:80]!r} is compressed or encrypted in a way that this kind of file never is"
            raise ImportFileError(Diagnostic("archive-method", what, where, "save the file again without compression"))
    unpacked = sum(m.file_size for m in members)
    allowed = max(UNPACK_FREE, UNPACK_RATIO * size) if compressed else size
    if unpacked > allowed or sum(m.compress_size for m in members) > size:
        what = f"the archive of {size} bytes claims to unpack to {unpacked} bytes, at most {allowed} are allowed"
        raise ImportFileError(Diagnostic("archive-bomb", what, where, "do not use a file from this source"))
    return archive
