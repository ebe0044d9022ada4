"""The metadata of a LoRA file removed or changed; its weights stay byte for byte where they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from kohyakit import files
from kohyakit.errors import ConfigError, Problem
from kohyakit.formats.weights import safetensors_header
from kohyakit.networks.file import unwritable
from kohyakit.networks.weights.file import check_free

# What a program needs to load a file and a person to know what it is: neither folders nor captions nor settings.
NEEDED = (
    "ss_v2", "ss_base_model_version", "ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_network_args",
    "modelspec.sai_model_spec", "modelspec.architecture", "modelspec.implementation", "modelspec.title",
    "modelspec.resolution", "modelspec.prediction_type", "modelspec.trigger_phrase", "lora_adapter_metadata", "format",
)  # fmt: skip
_BLOCK = 1 << 22


def strip(path: Path, target: Path, *, everything: bool = False, overwrite: bool = False) -> tuple[str, ...]:
    """Write the file without what its metadata tell of the training; returns the names that went.

    everything: also what says which network it is. Raises ConfigError for a target that is there already.
    """
    metadata = safetensors_header.read(path).metadata
    kept = {} if everything else {name: metadata[name] for name in NEEDED if name in metadata}
    relabel(path, target, kept, overwrite=overwrite)
    return tuple(name for name in metadata if name not in kept and not name.startswith("sshs_"))


def set_metadata(
    path: Path, target: Path, changes: Mapping[str, str | None], *, overwrite: bool = False
) -> dict[str, str]:
    """Write the file with entries changed (None removes one); returns all its metadata but the hashes."""
    found = {
        name: text for name, text in safetensors_header.read(path).metadata.items() if not name.startswith("sshs_")
    }
    for name, text in changes.items():
        if text is None:
            found.pop(name, None)
        else:
            found[name] = text
    relabel(path, target, found, overwrite=overwrite)
    return found


def relabel(path: Path, target: Path, metadata: Mapping[str, str], *, overwrite: bool = False) -> None:
    """Write a .safetensors file again under other metadata, with Kohya's hashes made true.

    Raises ConfigError for a target that is there already, RunError where the disk refuses.
    """
    if path.suffix.lower() != ".safetensors":
        raise ConfigError(Problem(str(path), "has no metadata, as it is no .safetensors file", "convert it first"))
    if not (overwrite and target.resolve() == path.resolve()):
        check_free(target, overwrite=overwrite)
    header = safetensors_header.read(path)
    entries = entries_of(path)
    own = {name: text for name, text in metadata.items() if not name.startswith("sshs_")}
    hashes = {"sshs_model_hash": _sha256(path, header.data_start), "sshs_legacy_hash": _legacy(path, entries, own)}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with files.writing(target, draft=files.part_of(target)) as out:
            out.write(header_bytes(entries, own | (hashes if own else {})))
            for block in _data(path, header.data_start):
                out.write(block)
    except OSError as error:
        raise unwritable(target, error) from error


def entries_of(path: Path) -> dict[str, object]:
    """The header's tensors as they are written."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        found = json.loads(file.read(length))
    found.pop("__metadata__", None)
    return found


def header_bytes(entries: Mapping[str, object], metadata: Mapping[str, str]) -> bytes:
    """Length and header, padded with blanks to whole 8 bytes as safetensors does."""
    whole = ({"__metadata__": dict(metadata)} if metadata else {}) | dict(entries)
    text = json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _data(path: Path, start: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        yield from iter(lambda: file.read(_BLOCK), b"")


def _sha256(path: Path, start: int) -> str:
    """Kohya's new hash: of all bytes behind the header."""
    digest = hashlib.sha256()
    for block in _data(path, start):
        digest.update(block)
    return digest.hexdigest()


def _legacy(path: Path, entries: Mapping[str, object], metadata: Mapping[str, str]) -> str:
    """A1111's old hash: 64 KiB from 1 MiB on, of the file as it is with its ss_ entries alone."""
    header = header_bytes(entries, {name: text for name, text in metadata.items() if name.startswith("ss_")})
    data_start = safetensors_header.read(path).data_start
    begin = 0x100000
    before = header[begin : begin + 0x10000]
    with path.open("rb") as file:
        file.seek(data_start + max(0, begin - len(header)))
        return hashlib.sha256(before + file.read(0x10000 - len(before))).hexdigest()[:8]
