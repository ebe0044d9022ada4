"""Files that cannot be read: the cure names what stands at the place, and a file of another kind is named."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from pathlib import Path

import pytest

from kohyakit.errors import ConfigError
from kohyakit.formats import load, loads


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ('{\n  // base model\n  "a": 1}', "JSON has no comments; take // base model out"),
        ('{"a": 1, /* here */ "b": 2}', "JSON has no comments; take /* here */ out"),
        ('{"a": 1} # end', "JSON has no comments; take # end out"),
        ('{"a": True}', "write true"),
        ('{"a": None}', "write null"),
        ('{"a": 1,}', "take the comma"),
        ('{"a": [1, 2,]}', "take the comma"),
        ("{'a': 1}", "double quotes in place of the single quotes"),
        ("{a: 1}", "put the name a in double quotes"),
        ('{"a": rose}', "put the text rose in double quotes"),
        ('{"a": 1 "b": 2}', "a comma is missing just before"),
        ('{"a": "C:\\new\\x"}', "write a backslash"),
        ('{"a": "x', "a quote or a bracket is open"),
        ('{"a": "x\n", "b": 1}', "close the text on its line"),
        ('{"a": 1}}', "take out what stands behind the last }"),
        ('{"a": .5}', "write numbers like 0.5"),
        ('{"a" = 5}', "write : between name and value"),
        ('{“a”: 5}', 'write plain double quotes (") in place of those'),
    ],
)  # fmt: skip
def test_json(text: str, cure: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(text, "x.json")
    assert cure in str(caught.value)


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("xformers = True\n", "write true"),
        ("seed = None\n", "TOML has no null; take the line out"),
        ("output_name = rose # x\n", 'put the text in quotes: "rose"'),
        ("// note\nseed = 1\n", "a comment begins with #"),
        ("seed =\n", "the value is missing"),
        ("seed: 3\n", "write = between name and value"),
        ('train_data_dir = "C:\\new\\xyz"\n', "write a backslash"),
        ("seed = 1\nseed = 2\n", "stands there twice"),
    ],
)
def test_toml(text: str, cure: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(text, "x.toml")
    assert cure in str(caught.value)


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"ss_network_dim": "4"}}).encode()
    (tmp_path / "lora.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (tmp_path / "large.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(9_000_000))
    with zipfile.ZipFile(tmp_path / "model.ckpt", "w") as file:
        file.writestr("a", "b")
    (tmp_path / "old.pt").write_bytes(pickle.dumps([1], protocol=2))
    (tmp_path / "photo.json").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (tmp_path / "what.toml").write_bytes(b"\x01\x02\xfe\x00" * 50)
    for name, told in (
        ("lora.safetensors", "safetensors file"),
        ("large.safetensors", "safetensors file"),
        ("model.ckpt", "zip file or a .ckpt/.pt model"),
        ("old.pt", "pickle"),
        ("photo.json", "picture"),
        ("what.toml", "no text"),
    ):
        with pytest.raises(ConfigError, match=told) as caught:
            load(tmp_path / name)
        assert "UTF-8" not in str(caught.value)
