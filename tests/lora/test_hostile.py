"""Broken and hostile headers through every command: one sentence each, exit code 2, and nothing written."""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")

from click.testing import CliRunner

from kohyakit.cli import group
from kohyakit.errors import KohyakitError

NAME = "lora_unet_up_blocks_1_attentions_0_proj_in"
COMMANDS = (
    ["check", "{f}"], ["check", "{f}", "--json", "--layers"],
    ["convert", "{f}", "--to", "kohya", "-o", "{o}"], ["convert", "{f}", "--to", "diffusers", "-o", "{o}"],
    ["convert", "{f}", "--to", "peft", "-o", "{o}"], ["convert", "{f}", "--to", "kohya", "--fold-alpha", "-o", "{o}"],
    ["merge", "{f}", "{g}", "-o", "{o}"], ["merge", "{g}", "{f}:0.5", "-o", "{o}", "--rank", "2"],
    ["merge", "{f}", "-o", "{o}", "--as-sd-scripts"], ["merge", "{f}", "--into", "{g}", "-o", "{o}"],
    ["merge", "{g}", "--into", "{f}", "-o", "{o}"],
    ["resize", "{f}", "--rank", "2", "-o", "{o}"], ["resize", "{f}", "--keep", "0.9", "-o", "{o}"],
    ["resize", "{f}", "--size", "1kb", "-o", "{o}"], ["extract", "{f}", "{g}", "-o", "{o}"],
    ["strip", "{f}", "-o", "{o}"], ["set", "{f}", "a=b", "-o", "{o}"], ["diff", "{f}", "{g}"], ["diff", "{g}", "{f}"],
    ["pair", "{f}", "{g}"],
)  # fmt: skip


def entry(dtype: str = "F32", shape: object = (2, 3), offsets: object = (0, 24)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def blob(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def whole(tensors: dict[str, tuple[str, list[int], bytes]], metadata: object = None) -> bytes:
    """A file whose header is in order, whatever its tensors mean."""
    header: dict[str, object] = {} if metadata is None else {"__metadata__": metadata}
    data = b""
    for name, (dtype, shape, own) in tensors.items():
        header[name] = entry(dtype, shape, [len(data), len(data) + len(own)])
        data += own
    return blob(header, data)


def good() -> bytes:
    numbers = struct.pack("<24f", *range(24))
    return whole({
        f"{NAME}.alpha": ("F32", [], struct.pack("<f", 4.0)), f"{NAME}.lora_down.weight": ("F32", [4, 6], numbers),
        f"{NAME}.lora_up.weight": ("F32", [6, 4], numbers),
    }, {"ss_network_dim": "4"})  # fmt: skip


def _json_of(data: bytes) -> dict[str, object]:
    return json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])


def _mutated(rng: random.Random) -> bytes:
    """The header of a good file with one entry spoilt."""
    data = good()
    header, tail = _json_of(data), data[8 + struct.unpack("<Q", data[:8])[0] :]
    key = rng.choice([key for key in header if key != "__metadata__"])
    part = rng.choice(["dtype", "shape", "data_offsets"])
    spoilt = [None, -1, 0, 2**70, "x", [], [-1, 2], [1, 2, 3, 4], [2**63, 2**63], {"a": 1}, True, 1.5, [0, 10**12],
              ["0", "24"], "F33", [24, 0], [[0], [24]], float("inf")]  # fmt: skip
    value = rng.choice(spoilt)
    header[key] = rng.choice([{**header[key], part: value}, {k: v for k, v in header[key].items() if k != part}, value])
    return blob(header, tail)


def _bytes(rng: random.Random) -> bytes:
    """Bytes of the good file's length and header changed, cut or added."""
    data = bytearray(good())
    for _ in range(rng.choice([1, 2, 8])):
        data[rng.randrange(min(len(data), 300))] = rng.choice([0, 255, 34, 123, 125, rng.randrange(256)])
    return bytes(data[: rng.choice([len(data), 4, 8, 9, len(data) - 1, rng.randrange(1, len(data))])]) + b"x"


def _tensors(rng: random.Random) -> bytes:
    """A header in order with layers that are none: sizes that do not fit, odd types and axes, wide alphas."""
    kinds = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "BOOL": 1, "F64": 8, "U8": 1}
    ends = [
        "alpha", "lora_down.weight", "lora_up.weight", "lora_mid.weight", "dora_scale", "hada_w1_a", "hada_w1_b",
        "hada_w2_a", "hada_w2_b", "lokr_w1", "lokr_w2_a", "lokr_w2_b", "lokr_t2", "oft_blocks", "diff", "w_norm",
        "weight", "on_input", "a1.weight", "a2.weight", "b1.weight", "b2.weight", "..", "lora_A.weight",
    ]  # fmt: skip
    names = [NAME, "lora_te_x", "lora_", "unet.a.b", "lora_te1_text_model_encoder_layers_0_mlp_fc1", "", "x"]
    found = {}
    if rng.random() < 0.3:  # a pair in order, of another size than the good file's
        rank, out, inputs = (rng.randrange(1, 6) for _ in range(3))
        found = {f"{NAME}.lora_up.weight": ("F32", [out, rank], bytes(4 * out * rank)),
                 f"{NAME}.lora_down.weight": ("F32", [rank, inputs], bytes(4 * rank * inputs))}  # fmt: skip
    for _ in range(rng.randrange(1, 7)):
        shape = [rng.choice([0, 1, 2, 3, 5]) for _ in range(rng.randrange(0, 6))]
        dtype = rng.choice(list(kinds))
        count = kinds[dtype]
        for side in shape:
            count *= side
        found[f"{rng.choice(names[:1] * 4 + names)}.{rng.choice(ends)}"] = (dtype, shape, bytes(count))
    metadata = [
        None, {}, {"ss_network_dim": "nan", "ss_network_alpha": "0"}, {"ss_tag_frequency": "[1"},
        {"lora_adapter_metadata": "[]"}, {"ss_tag_frequency": '{"a": {"b": "c"}}'},
    ]  # fmt: skip
    return whole(found, rng.choice(metadata))


FIXED = (
    b"", b"x", b"\0" * 8, b"\xff" * 64, blob({}), blob([]), blob(b"null"), blob(b"{"), blob(b"[" * 100_000),
    blob({"a": entry()}), blob({"a": entry()}, bytes(24), length=2**62), blob({"__metadata__": {"a": 1}}),
    blob({"__metadata__": []}), blob(b'{"a":1,"a":1}'), blob({"a": entry("F4")}, bytes(24)), b"PK\x03\x04" + bytes(60),
    b"<html>" + bytes(60), b"version https://git-lfs.github.com/spec/v1\n", blob(b'{"\xff":1}'),
    blob({f"{NAME}.alpha": entry(shape=[10**9, 10**9])}, bytes(24)), good()[:-1], good() + b"x",
)  # fmt: skip

KINDS: tuple[Callable[[random.Random], bytes], ...] = (_mutated, _bytes, _tensors)


def files(count: int) -> list[bytes]:
    rng = random.Random(16)
    return [*FIXED, *(rng.choice(KINDS)(rng) for _ in range(count - len(FIXED)))]


def outcome(folder: Path, command: list[str]) -> tuple[int, str]:
    """Exit code and what was said, as `main` turns an error into them."""
    places = {"f": folder / "f.safetensors", "g": folder / "g.safetensors", "o": folder / "out.safetensors"}
    result = CliRunner().invoke(group, ["lora", *(part.format(**places) for part in command)])
    if isinstance(result.exception, KohyakitError):
        return 2, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), (command, result.exception)
    return result.exit_code, result.output


@pytest.mark.filterwarnings("ignore")
def test_500_files_a_sentence_each(tmp_path: Path) -> None:
    """Each goes through one reading and two further commands, in turn through all of them."""
    (tmp_path / "g.safetensors").write_bytes(good())
    refused = 0
    for number, data in enumerate(files(500)):
        (tmp_path / "f.safetensors").write_bytes(data)
        turn = [COMMANDS[0], *(COMMANDS[1 + (2 * number + offset) % (len(COMMANDS) - 1)] for offset in (0, 1))]
        for command in turn:
            code, said = outcome(tmp_path, command)
            left = {path.name for path in tmp_path.iterdir()} - {"f.safetensors", "g.safetensors"}
            where = f"file {number}, {command}: {said[:300]}"
            assert code in (0, 1, 2), where
            if code == 2:
                refused += 1
                assert not left, where
                assert 10 < len(said) < 1500, where
                assert "Traceback" not in said, where
                assert all(len(line) < 600 for line in said.splitlines()), where
            for name in left:
                assert name == "out.safetensors", where
                place = tmp_path / name
                if place.is_dir():
                    shutil.rmtree(place)
                else:
                    place.unlink()
            assert (tmp_path / "f.safetensors").read_bytes() == data, where
    assert refused > 500


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("data", FIXED[:4] + FIXED[7:10] + FIXED[-2:], ids=range(9))
def test_every_command_refuses_what_is_no_file(tmp_path: Path, command: list[str], data: bytes) -> None:
    (tmp_path / "g.safetensors").write_bytes(good())
    (tmp_path / "f.safetensors").write_bytes(data)
    code, said = outcome(tmp_path, command)
    assert code == 2, said
    assert not (tmp_path / "out.safetensors").exists()
