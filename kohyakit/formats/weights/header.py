"""The names and shapes in a weight file of any kind that trainers read, without torch and without its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kohyakit.errors import KohyakitError, Problem
from kohyakit.formats.weights import pickle_header, safetensors_header

PICKLED = (".ckpt", ".pt", ".pth", ".bin")
ENDINGS = (".safetensors", *PICKLED)

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class WeightHeader:
    """shapes: of every tensor by name. metadata: a .safetensors file's own texts."""

    shapes: Shapes
    metadata: Mapping[str, str] = field(default_factory=dict)


def read(path: Path) -> WeightHeader:
    """What a file holds. Raises KohyakitError, in one sentence, for what no trainer could load."""
    if path.is_dir():
        raise KohyakitError(Problem(path.name, "is a folder; a file was wanted", "name the file in it"))
    if not path.is_file():
        raise KohyakitError(Problem(path.name, "is no file", "name a file", "bad_weights"))
    if path.suffix.lower() not in ENDINGS:
        what = f"'{path.suffix}' is not a weight file's ending"
        raise KohyakitError(Problem(path.name, what, "give a .safetensors, .ckpt or .pt file", "bad_weights"))
    if path.suffix.lower() in PICKLED:
        return WeightHeader(pickle_header.read(path).shapes)
    header = safetensors_header.read(path)
    return WeightHeader({name: tensor.shape for name, tensor in header.tensors.items()}, header.metadata)


def below(shapes: Shapes, prefix: str) -> dict[str, tuple[int, ...]]:
    """The tensors below a prefix, under their names without it."""
    return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
