"""Headers of real files, and of files that lie."""

from __future__ import annotations

import contextlib
import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kohyakit.errors import KohyakitError
from kohyakit.formats.weights import safetensors_header
from kohyakit.formats.weights.safetensors_header import TensorInfo

ENTRY = {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}


def made(tmp_path: Path, header: Any, data: bytes = bytes(12), length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "file.safetensors"
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path


def test_what_a_file_holds(tmp_path: Path) -> None:
    path = made(tmp_path, {"__metadata__": {"ss_network_dim": "16"}, "a": ENTRY})
    header = safetensors_header.read(path)
    assert header.metadata == {"ss_network_dim": "16"}
    assert header.tensors == {"a": TensorInfo("F16", (2, 3), (0, 12))}
    assert (header.tensors["a"].bytes, header.tensors["a"].elements) == (12, 6)
    assert path.read_bytes()[header.data_start :] == bytes(12)


def test_a_file_written_by_safetensors_itself(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    writer = pytest.importorskip("safetensors.numpy")
    tensors = {"b": numpy.zeros((3, 0, 2), "float32"), "a": numpy.arange(6, dtype="int64"), "c": numpy.array(1.5)}
    path = tmp_path / "x.safetensors"
    writer.save_file(tensors, path, {"größe": "ja"})
    header = safetensors_header.read(path)
    assert header.metadata == {"größe": "ja"}
    assert {name: info.shape for name, info in header.tensors.items()} == {"b": (3, 0, 2), "a": (6,), "c": ()}
    raw = path.read_bytes()[header.data_start :]
    begin, end = header.tensors["a"].offsets
    assert numpy.frombuffer(raw[begin:end], "<i8").tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.shared
def test_a_lora_of_sd_scripts(goldens: Path) -> None:
    folder = goldens / "training" / "basic"
    for name, metadata in json.loads((folder / "metadata.json").read_text(encoding="utf-8")).items():
        header = safetensors_header.read(folder / "output" / name)
        assert header.metadata == metadata
        assert header.tensors


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"abc", "only 3 bytes"),
        (b"PK\x03\x04" + bytes(40), "PyTorch pickle"),
        (b"<!DOCTYPE html><html>" + bytes(40), "like a web page"),
        (b'{"error": "no such file"}', "like a web page or a text"),
        (b"version https://git-lfs.github.com/spec/v1\n" + b"oid sha256:0", "Git LFS pointer"),
        (struct.pack("<Q", 2**63) + b"{}", "is no safetensors file"),
        (struct.pack("<Q", 200_000_000) + b"{}", "is no safetensors file"),
        (struct.pack("<Q", 500) + b'{"a":', "is cut off: its header has 500 bytes"),
        (struct.pack("<Q", 0) + b"{}", "is no safetensors file"),
    ],
)
def test_other_files_are_told_in_one_sentence(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)
    with pytest.raises(KohyakitError) as caught:
        safetensors_header.read(path)
    assert told in str(caught.value)
    assert str(caught.value).startswith("file.safetensors: ")
    assert caught.value.problems[0].cure


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ({"a": {**ENTRY, "data_offsets": [0, 40]}}, "is cut off: the tensor 'a' ends 28 bytes behind"),
        ({"a": {**ENTRY, "shape": [2, 4]}}, "broken entry for the tensor 'a'"),
        ({"a": {**ENTRY, "shape": [-2, -3]}}, "broken entry"),
        ({"a": {**ENTRY, "shape": [True, 6]}}, "broken entry"),
        ({"a": {**ENTRY, "data_offsets": [12, 0]}}, "broken entry"),
        ({"a": {**ENTRY, "data_offsets": [0]}}, "broken entry"),
        ({"a": {"dtype": "F16"}}, "broken entry"),
        ({"a": 3}, "broken entry"),
        ({"__metadata__": {"x": 3}, "a": ENTRY}, "metadata that are not texts"),
        ({"__metadata__": [], "a": ENTRY}, "metadata that are not texts"),
        ({"a": ENTRY, "b": ENTRY}, "tensors that overlap at byte 0"),
        ({}, "12 bytes behind its last tensor"),
        ({"a": {"dtype": "U8", "shape": [4], "data_offsets": [8, 12]}}, "leave a gap at byte 8"),
        ([1, 2], "no list of tensors"),
        (b'{"a": 1, "a": 2}', "a name stands in it twice"),
        (b'{"a": ', "it is no JSON"),
        (b"\xff\xfe{}", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
    ],
)
def test_headers_that_lie(tmp_path: Path, header: Any, told: str) -> None:
    with pytest.raises(KohyakitError) as caught:
        safetensors_header.read(made(tmp_path, header))
    assert told in str(caught.value)


def test_a_file_cut_off_while_copying(tmp_path: Path) -> None:
    path = made(tmp_path, {"a": ENTRY})
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(KohyakitError):
            safetensors_header.read(path)


def test_a_huge_claim_costs_no_memory_or_time(tmp_path: Path) -> None:
    path = made(tmp_path, b"{}", length=99_999_999)
    before = time.perf_counter()
    with pytest.raises(KohyakitError, match="is cut off"):
        safetensors_header.read(path)
    assert time.perf_counter() - before < 1


def test_types_of_tomorrow_are_let_through(tmp_path: Path) -> None:
    header = safetensors_header.read(made(tmp_path, {"a": {**ENTRY, "dtype": "F2_NEW"}}))
    assert header.tensors["a"].dtype == "F2_NEW"


@given(st.binary(max_size=200))
@settings(max_examples=3 * settings().max_examples)
def test_no_bytes_raise_anything_else(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(struct.pack("<Q", max(0, len(content) - 20)) + content)
    with contextlib.suppress(KohyakitError):
        safetensors_header.read(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(KohyakitError, match="cannot be read"):
        safetensors_header.read(tmp_path / "none.safetensors")
