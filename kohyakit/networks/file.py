"""Writing LoRA files: Kohya's names, keys and metadata, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from kohyakit import files
from kohyakit.errors import Problem, RunError


def to_file_tensors(state: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """A network's state dict as it is written: on the CPU, contiguous, in the file's dtype (None keeps each)."""
    return {name: tensor.detach().to("cpu", dtype or tensor.dtype).contiguous() for name, tensor in state.items()}


def save_lora(
    path: Path,
    state: Mapping[str, Tensor],
    dtype: torch.dtype | None,
    metadata: Mapping[str, str],
    *,
    legacy_hash: bool = True,
) -> int:
    """Write a .safetensors (or .ckpt, .pt) file with Kohya's hashes added to the metadata; returns its bytes.

    legacy_hash: with the short one too, which LyCORIS does not write.
    Written beside its place first and then renamed, so a full disk or a crash leaves no half file.
    Raises RunError naming the file and the cause.
    """
    tensors = to_file_tensors(state, dtype)
    if path.suffix == ".safetensors":
        from safetensors.torch import save

        hashed = {name: value for name, value in metadata.items() if name.startswith("ss_")}
        blob = save(tensors, hashed)
        start = 8 + int.from_bytes(blob[:8], "little")
        hashes = {
            "sshs_model_hash": hashlib.sha256(memoryview(blob)[start:]).hexdigest(),
        }
        if legacy_hash:
            hashes["sshs_legacy_hash"] = hashlib.sha256(blob[0x100000 : 0x100000 + 0x10000]).hexdigest()[:8]
        return write_whole(path, save(tensors, {**metadata, **hashes}))
    import io

    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return write_whole(path, buffer.getbuffer())


def write_whole(path: Path, data: bytes | memoryview) -> int:
    """All of a file or nothing, forced to disk; NAME.part in between. Raises RunError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, data, draft=files.part_of(path))
    except OSError as error:
        raise unwritable(path, error) from error
    return len(data)


def unwritable(path: Path, error: OSError) -> RunError:
    """The sentence for a file that could not be written."""
    if error.errno == errno.ENOSPC:
        return RunError(Problem(str(path), "the disk is full, nothing was written", "free some space and resume"))
    return RunError(Problem(str(path), f"it could not be written ({error.strerror or error})", "check output_dir"))
