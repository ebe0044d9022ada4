"""Pickled weights read without torch: what torch wrote is read as torch reads it, and nothing in a file is run."""

from __future__ import annotations

import os
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest

from kohyakit.errors import KohyakitError
from kohyakit.formats.weights import pickle_header


def told(path: Path) -> str:
    """What is said against a file; nothing where it reads."""
    try:
        pickle_header.read(path)
    except KohyakitError as error:
        return str(error)
    return ""


def zipped(path: Path, pickled: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    return path


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("made-by-a-pickle",))


@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    monkeypatch.chdir(tmp_path)
    path = zipped(tmp_path / "evil.pt", pickle.dumps({"state_dict": Evil()}, protocol))
    with pytest.raises(KohyakitError, match="could run code; it is not opened"):
        pickle_header.read(path)
    assert not (tmp_path / "made-by-a-pickle").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"<!doctype html><p>Log in", "begins like a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"PK\x03\x04 cut", "incomplete or damaged"),
        (b"\x80\x02K\x01.", "it is no PyTorch file"),
        (os.urandom(3000), "is"),
    ],
)
def test_what_is_no_weight_file(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(KohyakitError, match=said) as caught:
        pickle_header.read(tmp_path / "a.ckpt")
    assert len(caught.value.problems) == 1
    assert "\n" not in str(caught.value)


def test_a_length_beyond_reason_is_not_believed(tmp_path: Path) -> None:
    path = zipped(tmp_path / "long.pt", b"\x80\x02X\xff\xff\xff\x7fabc.")
    with pytest.raises(KohyakitError, match="beyond reason"):
        pickle_header.read(path)


def states() -> dict[str, object]:
    torch = pytest.importorskip("torch")
    kinds = (torch.float32, torch.float16, torch.bfloat16, torch.int64)
    tensors = {f"a.{number}": torch.zeros(number + 1, 4, dtype=kind) for number, kind in enumerate(kinds)}
    tensors |= {"scalar": torch.tensor(2.0), "parameter": torch.nn.Parameter(torch.zeros(2, 3, 1, 1))}
    lightning = {"state_dict": OrderedDict(tensors), "global_step": 3, "more": [1, "a", None, (1, 2, 3, 4), 2**70, -5]}
    return {"plain": tensors, "lightning": lightning, "module": torch.nn.Linear(3, 4).state_dict()}


@pytest.mark.parametrize("name", ["plain", "lightning", "module"])
@pytest.mark.parametrize("new", [True, False], ids=["zip", "older layout"])
def test_what_torch_wrote(tmp_path: Path, name: str, new: bool) -> None:
    state = states()[name]
    import torch

    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    there = torch.load(tmp_path / "a.pt", weights_only=True)
    there = there.get("state_dict", there)
    found = pickle_header.read(tmp_path / "a.pt").shapes
    assert found == {key: tuple(tensor.shape) for key, tensor in there.items()}
    data = (tmp_path / "a.pt").read_bytes()
    for length in (len(data) // 3, len(data) - 9):
        (tmp_path / "cut.pt").write_bytes(data[:length])
        with pytest.raises(KohyakitError, match="incomplete or damaged"):
            pickle_header.read(tmp_path / "cut.pt")


@pytest.mark.parametrize("new", [True, False], ids=["zip", "older layout"])
def test_damage_gives_one_sentence(tmp_path: Path, new: bool) -> None:
    torch = pytest.importorskip("torch")
    torch.save(states()["lightning"], tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    whole = (tmp_path / "a.pt").read_bytes()
    chance = random.Random(5)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(min(len(data), 1500))] = chance.randrange(256)
        (tmp_path / "b.pt").write_bytes(data)
        assert len(told(tmp_path / "b.pt").splitlines()) <= 1
