"""The header of a .safetensors file: its metadata and what tensors it holds, read without torch and without the data.

A header is a length (8 bytes, little-endian), then that many bytes of JSON, then the tensors' bytes.
Source: the format's description at github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard

from kohyakit.errors import KohyakitError, Problem
from kohyakit.files import open_regular

HEADER_LIMIT = 100_000_000  # bytes; safetensors itself refuses longer ones

_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
    "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor. dtype: safetensors' own name (F16, BF16, F32 …). offsets: first and past-last byte of its data,
    counted from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    offsets: tuple[int, int]

    @property
    def bytes(self) -> int:
        return self.offsets[1] - self.offsets[0]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """metadata: the file's own texts, {} without any. tensors: by name. data_start: where their bytes begin."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorInfo]
    data_start: int = 0


def read(path: Path | str) -> Header:
    """The header of a file, checked against the file's size.

    Raises KohyakitError, in one sentence, for a file that is missing, cut off, or no safetensors file.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            length = _length(path, file.read(8), size)
            raw = file.read(length)
    except OSError as error:
        raise _wrong(path, f"cannot be read ({error.strerror or error})", "look at the path") from error
    data = _parse(path, raw)
    metadata = _metadata(path, data.pop("__metadata__", None))
    room = size - 8 - length
    tensors = {name: _tensor(path, name, about, room) for name, about in data.items()}
    _check_layout(path, tensors, room)
    return Header(MappingProxyType(metadata), MappingProxyType(tensors), 8 + length)


def _wrong(path: Path, what: str, cure: str) -> KohyakitError:
    return KohyakitError(Problem(path.name, what, cure, name="bad_safetensors"))


def _length(path: Path, head: bytes, size: int) -> int:
    if size == 0:
        raise _wrong(path, "is empty", "the copy or download failed; fetch it again")
    if len(head) < 8:
        raise _wrong(path, f"is no safetensors file: it has only {size} bytes", "fetch it again")
    length = int.from_bytes(head, "little")
    if head[:2] == b"PK" or head[:2] == b"\x80\x02":
        raise _wrong(path, "is a PyTorch pickle (.ckpt, .pt), no safetensors file", "give it its own ending back")
    if head.lstrip()[:1] in (b"<", b"{"):
        raise _wrong(path, "is no safetensors file: it begins like a web page or a text", "download the file itself")
    if head.startswith(b"version "):
        raise _wrong(path, "is a Git LFS pointer, not the file it stands for", "run git lfs pull")
    if length < 2 or length > HEADER_LIMIT:
        raise _wrong(path, f"is no safetensors file: its header would have {length} bytes", "fetch it again")
    if length > size - 8:
        what = f"is cut off: its header has {length} bytes, the file only {size}"
        raise _wrong(path, what, "the copy or download stopped early; fetch it again")
    return length


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name stands in it twice")
        return found

    try:
        data = json.loads(raw.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        reason = str(error) if type(error) is ValueError else "it is no JSON"
        what = f"has a header that cannot be read: {reason}"
        raise _wrong(path, what, "the file is damaged; fetch it again") from None
    if not isinstance(data, dict):
        raise _wrong(path, "has a header that is no list of tensors", "the file is damaged; fetch it again")
    return data


def _metadata(path: Path, data: Any) -> dict[str, str]:
    if data is None:
        return {}
    if not isinstance(data, dict) or not all(isinstance(text, str) for text in data.values()):
        raise _wrong(path, "has metadata that are not texts", "the program that wrote it does not keep to the format")
    return data


def _tensor(path: Path, name: str, about: Any, room: int) -> TensorInfo:
    """One entry of the header, checked by itself."""
    broken = _wrong(path, f"has a broken entry for the tensor {name[:80]!r}", "the file is damaged; fetch it again")
    if not isinstance(about, dict):
        raise broken
    dtype, shape, offsets = about.get("dtype"), about.get("shape"), about.get("data_offsets")
    if not isinstance(dtype, str) or not _is_counts(shape) or not _is_counts(offsets) or len(offsets) != 2:
        raise broken
    begin, end = offsets
    if begin > end:
        raise broken
    if end > room:
        what = f"is cut off: the tensor {name[:80]!r} ends {end - room} bytes behind the file's end"
        raise _wrong(path, what, "the copy or download stopped early; fetch it again")
    if dtype in _BITS and math.prod(shape) * _BITS[dtype] != (end - begin) * 8:
        raise broken
    return TensorInfo(dtype, tuple(shape), (begin, end))


def _is_counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_layout(path: Path, tensors: Mapping[str, TensorInfo], room: int) -> None:
    """The tensors must lie one after the other and fill the file: no byte twice, none unaccounted for."""
    at = 0
    for begin, end in sorted(tensor.offsets for tensor in tensors.values()):
        if begin != at:
            what = f"has tensors that {'overlap' if begin < at else 'leave a gap'} at byte {begin} of the data"
            raise _wrong(path, what, "the file is damaged; fetch it again")
        at = end
    if at != room:
        what = f"has {room - at} bytes behind its last tensor"
        raise _wrong(path, what, "the file is damaged, or something was appended; fetch it again")
