"""What tensors a PyTorch pickle (.ckpt, .pt, .pth, .bin) holds, told from its opcodes: without torch, running nothing.

The opcodes and names are those that torch's own weights-only loader takes; a file that asks for any other is refused
here as there. Nothing is imported or called: a name stays a name, a tensor becomes its shape.
Two layouts: a zip with data.pkl and one record a storage, and the older one, four pickles in a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from kohyakit.errors import KohyakitError, Problem

_LONGEST_PICKLE = 200_000_000  # bytes; that of a checkpoint of 2,500 tensors has one million
_MOST_OPCODES = 20_000_000
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_AGAIN = "the copy or download failed; fetch it again"

_ALLOWED = re.compile(
    r"collections (OrderedDict|Counter)|_codecs encode|(builtins|__builtin__) (set|bytearray|complex)"
    r"|torch (Size|Tensor|device|[A-Z][a-z0-9A-Z]*(Storage|Tensor)|per_\w+|u?int\d+|q?u?int\d+(x\d)?|b?float\d+\w*"
    r"|complex\d+|half|float|double|long|short|int|bool)"
    r"|torch\.(cuda|sparse) [A-Z][A-Za-z0-9]*(Storage|Tensor)|torch\.nn\.parameter Parameter"
    r"|torch\.serialization _get_layout|torch\.storage (Typed|Untyped)Storage|torch\._utils _rebuild_\w+"
    r"|torch\._tensor _rebuild_from_type_v2"
)
_BYTES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1, "UntypedStorage": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PickleHeader:
    """shapes: of the tensors at the top level, or below `state_dict` where there is one. keys: all top-level names."""

    shapes: Mapping[str, tuple[int, ...]]
    keys: frozenset[str] = frozenset()


def read(path: Path | str) -> PickleHeader:
    """The tensors of a file. Raises KohyakitError, in one sentence, for one that torch would not open either."""
    path = Path(path)
    state = values(path)
    keys = frozenset(key for key in state if isinstance(key, str))
    inner = state.get("state_dict", state)
    tensors = inner.items() if isinstance(inner, dict) else ()
    shapes = {key: value.shape for key, value in tensors if isinstance(key, str) and isinstance(value, _Tensor)}
    return PickleHeader(shapes, keys)


def values(path: Path) -> dict[Any, Any]:
    """The table that a file holds: its plain numbers, texts and lists as they are. Raises as `read` does."""
    try:
        state = _state(path)
    except OSError as error:
        raise _wrong(path, f"cannot be read ({error.strerror or error})", "look at the path") from error
    except _Refused as error:
        what = f"asks for {error}, and unpickling that could run code; it is not opened"
        raise _wrong(path, what, "take the .safetensors version, or fetch it again", "unsafe_pickle") from None
    except KohyakitError:
        raise
    except Exception as error:  # whatever a damaged or hostile file provokes in zipfile and pickletools
        what = f"is incomplete or damaged ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        raise _wrong(path, what, _AGAIN) from None
    if not isinstance(state, dict):
        raise _wrong(path, "holds no table of tensors", "give a model, a VAE or a LoRA")
    return state


def _wrong(path: Path, what: str, cure: str, name: str = "bad_pickle") -> KohyakitError:
    return KohyakitError(Problem(path.name, what, cure, name=name))


class _Refused(Exception):
    """A name or an opcode that the weights-only loader does not take."""


@dataclass(frozen=True, slots=True)
class _Global:
    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    bytes: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    shape: tuple[int, ...]


class _Opaque:
    """What is neither a container nor a tensor, and is not looked into."""


_MARK = object()


def _state(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(64)
        if not start:
            raise _wrong(path, "is empty", _AGAIN)
        if start.lstrip()[:1] in (b"<", b"{"):
            raise _wrong(path, "is no PyTorch file: it begins like a web page or a text", "download the file itself")
        if start.startswith(b"version https://git-lfs"):
            raise _wrong(path, "is a Git LFS pointer, not the file it stands for", "run git lfs pull")
        file.seek(0)
        if start[:2] == b"PK":
            return _from_zip(file)
        return _from_legacy(file)


def _from_zip(file: IO[bytes]) -> Any:
    import zipfile

    with zipfile.ZipFile(file) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        name = next((name for name in sizes if name == "data.pkl" or name.endswith("/data.pkl")), None)
        if name is None:
            raise ValueError("it is a zip without data.pkl")
        if sizes[name] > _LONGEST_PICKLE:
            raise ValueError("its data.pkl is too long")
        folder = name.removesuffix("data.pkl")

        def present(storage: _Storage) -> None:
            held = sizes.get(f"{folder}data/{storage.key}")
            if held is None or held < storage.bytes:
                raise ValueError(f"the numbers {storage.key} are missing or cut off")

        with archive.open(name) as pickled:
            return _Machine(pickled, present).run()


def _from_legacy(file: IO[bytes]) -> Any:
    """Magic number, version, the writer's system, then the state; the numbers lie behind it."""
    if _Machine(file).run() != _LEGACY_MAGIC:
        raise ValueError("it is no PyTorch file")
    for _ in range(2):
        _Machine(file).run()
    needed: dict[str, int] = {}
    state = _Machine(file, lambda storage: needed.__setitem__(storage.key, storage.bytes)).run()
    _Machine(file).run()  # the order of the storages
    begin = file.tell()
    if file.seek(0, 2) - begin < sum(8 + size for size in needed.values()):  # each with its length in front
        raise ValueError("its numbers are cut off")
    return state


class _Short:
    """A stream that gives no more than so many bytes at once, whatever a length in the file says."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.readline: Callable[[], bytes] = lambda: file.readline(10_000)

    def read(self, count: int) -> bytes:
        if count > _LONGEST_PICKLE:
            raise ValueError("a length in it is beyond reason")
        return self._file.read(count)


class _Machine:
    """The stack of one pickle. Every operation moves values about; none calls anything that the file names."""

    def __init__(self, file: IO[bytes], storage: Callable[[_Storage], None] | None = None) -> None:
        import pickletools

        self._ops = pickletools.genops(cast("IO[bytes]", _Short(file)))
        self._seen = storage or (lambda storage: None)
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        for count, (opcode, argument, _) in enumerate(self._ops):
            if count > _MOST_OPCODES:
                raise ValueError("it is longer than any model's")
            if opcode.name == "STOP":
                return self._stack.pop()
            self._step(opcode.name, argument)
        raise EOFError("it breaks off")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "GLOBAL":
            if not _ALLOWED.fullmatch(argument):
                raise _Refused(argument.replace(" ", ".")[:80])
            stack.append(_Global(argument))
        elif name in _OPERATIONS:
            _OPERATIONS[name](self)
        elif name != "PROTO":
            raise _Refused(f"the operation {name}")

    def _marked(self) -> list[Any]:
        """Everything above the topmost mark, which goes with it."""
        place = len(self._stack) - 1
        while self._stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise IndexError("a mark is missing")
        items = self._stack[place + 1 :]
        del self._stack[place:]
        return items

    def _tuple(self, count: int | None = None) -> None:
        if count is None:
            items = self._marked()
        else:
            items = self._stack[len(self._stack) - count :]
            del self._stack[len(self._stack) - count :]
        self._stack.append(tuple(items))

    def _append(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], (list, _Opaque)):
            raise TypeError("something is appended to what is no list")
        if isinstance(self._stack[-1], list):
            self._stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        if isinstance(self._stack[-1], dict):
            self._stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif not isinstance(self._stack[-1], _Opaque):
            raise TypeError("an entry is set in what is no table")

    def _set_one(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _build(self) -> None:
        self._stack.pop()  # attributes of the object below, which hold no weights

    def _persistent(self) -> None:
        kind, storage, key, _, count = self._stack.pop()[:5]
        if kind != "storage" or not isinstance(storage, _Global) or not isinstance(count, int) or count < 0:
            raise TypeError("a storage is not named as torch names it")
        found = _Storage(str(key), count * _BYTES.get(storage.name.partition(" ")[2], 1))
        self._seen(found)
        self._stack.append(found)

    def _reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise TypeError("something is called that is no name")
        self._stack.append(_made(function.name, arguments))


def _made(name: str, arguments: tuple[Any, ...]) -> Any:
    """What a call stands for, without the call."""
    if name.endswith((" _rebuild_tensor", " _rebuild_tensor_v2", " _rebuild_tensor_v3")):
        shape = arguments[2]
        if not isinstance(shape, tuple) or not all(isinstance(side, int) and side >= 0 for side in shape):
            raise TypeError("a tensor has no shape")
        return _Tensor(shape)
    if name.endswith((" _rebuild_parameter", " _rebuild_parameter_with_state")):
        return arguments[0]
    if name == "collections OrderedDict":
        return dict(arguments[0]) if arguments else {}
    if name == "torch Size":
        return tuple(arguments[0])
    return _Opaque()


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": _Opaque, "MARK": lambda: _MARK,
}  # fmt: skip
_LITERALS = frozenset(("BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING", "LONG1"))
_OPERATIONS: dict[str, Callable[[_Machine], None]] = {
    "TUPLE": lambda m: m._tuple(), "TUPLE1": lambda m: m._tuple(1), "TUPLE2": lambda m: m._tuple(2),
    "TUPLE3": lambda m: m._tuple(3), "APPEND": lambda m: m._append([m._stack.pop()]),
    "APPENDS": lambda m: m._append(m._marked()), "SETITEM": _Machine._set_one,
    "SETITEMS": lambda m: m._set(m._marked()), "REDUCE": _Machine._reduce, "NEWOBJ": _Machine._reduce,
    "BUILD": _Machine._build, "BINPERSID": _Machine._persistent,
}  # fmt: skip
