"""Weight files read one tensor at a time, and plain words for files that are not what they should be."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from kohyakit.errors import ConfigError, Problem
from kohyakit.formats.weights.header import ENDINGS, PICKLED


class WeightFile:
    """The tensors of one or more files under their names; a tensor is read when it is asked for.

    Raises ConfigError when a file is missing, incomplete, not a weight file, or would need unsafe unpickling.
    """

    def __init__(self, *paths: Path, mmap: bool = True) -> None:
        self.path = paths[0]
        self._readers: dict[str, Callable[[str], torch.Tensor]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for path in paths:
            _check_start(path)
            if path.suffix.lower() in PICKLED:
                self._hold(_unpickle(path))
            elif mmap:
                self._open(path)
            else:
                self._hold(_read_whole(path))

    def __contains__(self, key: object) -> bool:
        return key in self._readers

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def shape(self, key: str) -> tuple[int, ...]:
        return self._shapes[key]

    def tensor(self, key: str) -> torch.Tensor:
        return self._readers[key](key)

    def strip(self, prefix: str) -> WeightFile:
        """The same file seen from below a prefix; names without it are left out."""
        return self._renamed({key.removeprefix(prefix): key for key in self if key.startswith(prefix)})

    def add(self, prefix: str) -> WeightFile:
        """The same file with a prefix before every name."""
        return self._renamed({prefix + key: key for key in self})

    def rename(self, name: Callable[[str], str]) -> WeightFile:
        """The same file with every name changed by a function."""
        return self._renamed({name(key): key for key in self})

    def _renamed(self, names: dict[str, str]) -> WeightFile:
        seen = WeightFile.__new__(WeightFile)
        seen.path = self.path
        seen._readers = {new: self._reader(old) for new, old in names.items()}
        seen._shapes = {new: self._shapes[old] for new, old in names.items()}
        return seen

    def _reader(self, key: str) -> Callable[[str], torch.Tensor]:
        return lambda _: self._readers[key](key)

    def _open(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            file = safe_open(str(path), framework="pt", device="cpu")
        except (SafetensorError, OSError) as error:
            raise _broken(path, error) from error
        for key in file.keys():  # noqa: SIM118 (safe_open is not a mapping)
            self._readers[key] = file.get_tensor
            self._shapes[key] = tuple(file.get_slice(key).get_shape())

    def _hold(self, tensors: dict[str, torch.Tensor]) -> None:
        for key, tensor in tensors.items():
            self._readers[key] = tensors.__getitem__
            self._shapes[key] = tuple(tensor.shape)


def _read_whole(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except (SafetensorError, OSError) as error:
        raise _broken(path, error) from error


def _unpickle(path: Path) -> dict[str, torch.Tensor]:
    """A pickled checkpoint through torch's weights-only loader: nothing in the file is executed."""
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = "holds more than tensors, or is damaged, and is not opened because unpickling could run code"
        cure = "download it again, or take the .safetensors version"
        raise ConfigError(Problem(str(path), what, cure, "unsafe_pickle")) from error
    except Exception as error:  # a damaged pickle makes the reader stumble over nearly anything
        raise _broken(path, error) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}


def _broken(path: Path, error: Exception) -> ConfigError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    what = f"cannot be read as a weight file, it is incomplete or damaged ({reason})"
    return ConfigError(Problem(str(path), what, "download or copy it again", "broken_weight_file"))


def _check_start(path: Path) -> None:
    """Refuse what downloads leave behind in place of weights. Raises ConfigError."""
    if not path.is_file():
        raise ConfigError(Problem(str(path), "there is no such file", "check the path", "missing_file"))
    if path.suffix.lower() not in ENDINGS:
        what = f"'{path.suffix}' is not a weight file's ending"
        raise ConfigError(Problem(str(path), what, "give a .safetensors or .ckpt file", "not_a_weight_file"))
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if not start:
        raise ConfigError(Problem(str(path), "the file is empty", "download or copy it again", "broken_weight_file"))
    if start.startswith(b"version https://git-lfs"):
        cure = "run `git lfs pull` there, or download the file itself"
        raise ConfigError(Problem(str(path), "is a Git LFS pointer, not the weights", cure, "broken_weight_file"))
    if start.startswith((b"<!doctype", b"<html")):
        cure = "download it again while logged in to the site"
        raise ConfigError(Problem(str(path), "is a web page, not the weights", cure, "broken_weight_file"))


def missing_tensors(path: Path, part: str, missing: Iterable[str]) -> ConfigError:
    """The error for a file that lacks tensors of a part it should hold."""
    names = sorted(missing)
    shown = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
    what = f"{len(names)} tensors of the {part} are missing ({shown})"
    return ConfigError(Problem(str(path), what, "take the full model, or download it again", "incomplete_model"))
