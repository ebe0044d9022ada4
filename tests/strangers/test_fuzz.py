"""Journals, states, presets and folders made hostile at random, opened in a sandbox home.

Afterwards nothing outside the given folder has changed, no marker of code that ran exists, and whatever was refused
was refused in sentences. Every case is made from its number, so that a failure can be made again:
`STRANGERS=2000 pytest tests/strangers/test_fuzz.py` tries them all, as CI does.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import random
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import pytest

from kohyakit.dataset.editing import captions as edit
from kohyakit.errors import KohyakitError
from kohyakit.formats import load
from kohyakit.planning.make import check_plan
from kohyakit.runs.prune import bring_back, candidates, prune
from kohyakit.runs.registry import list_runs
from tests.strangers.conftest import MARK, snapshot

NAMES = ("hostile.Own", "pydoc.pipepager", "os.system", "subprocess.Popen", "builtins.exec")
COUNT = int(os.environ.get("STRANGERS") or (2000 if os.environ.get("CI") else 200))
_JPEG = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffdb004300" + "10" * 64 + "ffc0000b080008000801011100ffc40014000100000000"
    "000000000000000000000000ffc40014100100000000000000000000000000000000ffda0008010100003f00d2cf20ffd9"
)  # fmt: skip


class Evil:
    """Pickled, it is an order to make a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return (exec, (f"open({str(self.mark)!r}, 'w').close()",))


class Hostile:
    """Draws names, values and files as an ill-wisher would, by a generator of its own."""

    def __init__(self, seed: int, home: Path, folder: Path) -> None:
        self.draw, self.home, self.folder, self.mark = random.Random(seed), home, folder, home / MARK

    def name(self) -> str:
        """A file's name, or what should lead away from where it stands."""
        home = str(self.home)
        parts = ["..", ".", "a.jpg", "10_dog", "_quarantine", ".kohyakit_undo", "linked", "", "\0", "x" * 300, "\ud800"]
        fixed = [
            "a.jpg", "10_dog/a.jpg", "b.jpg", "../../.ssh/id_rsa", f"{home}/.bashrc", "linked/mine.jpg",
            "../../photos/mine.jpg",
            "evil.pth", ".git/hooks/pre-commit", "C:\\Windows\\x", "\\\\server\\x", "/dev/zero", "/proc/self/environ",
        ]  # fmt: skip
        if self.draw.random() < 0.6:
            return self.draw.choice(fixed)
        return "/".join(self.draw.choices(parts, k=self.draw.randint(1, 4)))

    def code(self) -> str:
        """The name of code that would leave its mark."""
        return self.draw.choice((*NAMES, "..x.y", "a b", "torch.os.system"))

    def value(self, depth: int = 0) -> object:
        """Any JSON value."""
        kinds = [None, True, 0, -1, 1e308, "", "x", self.name(), self.code(), 10**30, "{}", "[" * 30]
        if depth < 2 and self.draw.random() < 0.3:
            return [self.value(depth + 1) for _ in range(self.draw.randint(0, 3))]
        if depth < 2 and self.draw.random() < 0.2:
            return {self.draw.choice(("source", "event", "file", "x")): self.value(depth + 1)}
        return self.draw.choice(kinds)

    def torn(self, data: bytes) -> bytes:
        """The bytes as they are, or cut, or with some others in between."""
        turn = self.draw.random()
        if turn < 0.7 or not data:
            return data
        place = self.draw.randrange(len(data))
        return data[:place] if turn < 0.85 else data[:place] + self.draw.randbytes(3) + data[place:]

    def put(self, name: str, data: bytes) -> None:
        """A file in the folder; now and then a pipe, a link or a folder stands in its place."""
        path = self.folder / name
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            turn = self.draw.random()
            if turn < 0.9 or sys.platform == "win32":
                path.write_bytes(self.torn(data))
            elif turn < 0.92:
                os.mkfifo(path)
            elif turn < 0.97:
                targets = (self.home / ".bashrc", Path("/dev/zero"), self.home / "photos", Path("nowhere"))
                path.symlink_to(self.draw.choice(targets))
            else:
                path.mkdir()

    def json(self, name: str, data: object) -> None:
        self.put(name, json.dumps(data).encode())

    def lines(self, name: str, records: list[object]) -> None:
        self.put(name, b"".join(json.dumps(record).encode() + b"\n" for record in records))

    def photos(self) -> None:
        for name in ("a.jpg", "10_dog/a.jpg", "10_dog/b.png", "10_dog/c.txt"):
            self.put(name, _JPEG)
        self.put("10_dog/a.txt", b"a caption, tag")
        if self.draw.random() < 0.3 and sys.platform != "win32":
            with contextlib.suppress(OSError):
                name = self.draw.choice(("linked", "_quarantine", "10_dog/more"))
                (self.folder / name).symlink_to(self.home / "photos")

    def maybe(self, good: object) -> object:
        return good if self.draw.random() < 0.8 else self.value()


def journals(hostile: Hostile) -> None:
    """A repair's journal and lock, a history of captions, and both made use of."""
    from kohyakit.audit.repair.run import repair_dataset, undo_repair

    draw, run = hostile.draw, ".kohyakit_undo/20260101-000000"
    hostile.photos()
    moves = [
        hostile.maybe({"source": hostile.maybe(hostile.name()), "target": hostile.maybe(hostile.name())})
        for _ in range(draw.randint(0, 4))
    ]
    records = [{"event": "run", "version": 1}, {"event": "step", "moves": hostile.maybe(moves)}]
    records += [hostile.value()] if draw.random() < 0.2 else []
    records += [{"event": draw.choice(("finished", "undone"))}] if draw.random() < 0.3 else []
    hostile.lines(f"{run}/journal.jsonl", records)
    hostile.put(f"{run}/originals/000001_a.jpg", _JPEG)
    hostile.put(f"{run}/new/000002_a.jpg", _JPEG)
    if draw.random() < 0.2:
        hostile.json(".kohyakit_undo/lock", hostile.maybe({"pid": 1, "born": "x", "host": hostile.value()}))
    edits = [{"file": hostile.maybe(hostile.name()), "old": hostile.maybe("evil"), "new": hostile.maybe(None)}]
    change = {"id": "1", "time": "", "what": "x", "undoes": "", "edits": hostile.maybe(edits)}
    hostile.lines(".kohyakit/captions.jsonl", [hostile.maybe(change)])
    resume = {"resume": True} if draw.random() < 0.5 else {}  # else as a person does who was not told of a journal
    uses = [lambda: undo_repair(hostile.folder), lambda: repair_dataset(hostile.folder, workers=0, **resume)]
    for use in draw.sample(uses, k=2):
        with contextlib.suppress(KohyakitError):
            use()
    for one in edit.undoable(hostile.folder):
        edit.undo(hostile.folder, one)
    with contextlib.suppress(KohyakitError):
        edit.apply(hostile.folder, edit.proposed(edit.caption_files(hostile.folder), edit.add_tag("new")), "add a tag")


def presets(hostile: Hostile) -> None:
    """A preset as GUI JSON, TOML or command line, and a dataset TOML, checked for either backend."""
    draw = hostile.draw
    names = ("optimizer_type", "lr_scheduler_type", "network_module", "dataset_class")
    values: dict[str, object] = {name: hostile.code() for name in names if draw.random() < 0.5}
    paths = (
        "pretrained_model_name_or_path", "vae", "network_weights", "resume", "output_dir", "train_data_dir",
        "sample_prompts", "dataset_config", "output_name", "log_prefix", "log_tracker_name", "caption_extension",
    )  # fmt: skip
    values |= {name: hostile.name() for name in paths if draw.random() < 0.3}
    words = ("-m hostile", "--no_python /bin/sh", "--optimizer_type hostile.Own", "--config_file x", "--output_n=../x")
    texts = ("additional_parameters", "extra_accelerate_launch_args")
    values |= {name: draw.choice((*words, "'")) for name in texts if draw.random() < 0.3}
    values |= {draw.choice(("resolution", "network_dim", "lr_scheduler_args", "__import__")): hostile.value()}
    values.setdefault("optimizer_type", hostile.code())
    hostile.photos()
    kind = draw.choice(("json", "toml", "args"))
    if kind == "json":
        hostile.json("a.json", {"LoRA_type": "Standard", **values, "optimizer": values["optimizer_type"]})
    elif kind == "toml":
        plain = {name: value for name, value in values.items() if isinstance(value, str | int)}
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in plain.items())
        hostile.put("a.toml", text.encode("utf-8", "replace"))
    else:
        text = " ".join(f"--{name}={value}" for name, value in values.items() if isinstance(value, str))
        hostile.put("a.args", f"accelerate launch -m hostile train_network.py {text}".encode("utf-8", "replace"))
    hostile.put("prompts.txt", b"a photo --w 64 --n " + hostile.name().encode("utf-8", "replace"))
    with contextlib.suppress(KohyakitError):
        config = load(hostile.folder / f"a.{kind}")
        errors = check_plan(config, backend=draw.choice(("kohyakit", "sd-scripts"))).errors
        # the code's name may have been torn off; what is left of it must not pass
        named = [config[name] for name in names if config[name]]
        assert not any(text in NAMES for text in named) or any(problem.name == "code_not_named" for problem in errors)


@lru_cache(maxsize=1)
def _zipped(mark: Path) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save({"optimizer": Evil(mark)}, buffer)
    return buffer.getvalue()


def states(hostile: Hostile) -> None:
    """A training's state, a checkpoint and a LoRA with an order in their pickles, in a folder of links and pipes."""
    from kohyakit.models.weights import WeightFile
    from kohyakit.train.output.state import load_state

    draw = hostile.draw
    header = json.dumps({"__metadata__": hostile.maybe({"ss_x": "y"}), "a": hostile.value()}).encode()
    order = pickle.dumps({"state_dict": Evil(hostile.mark)}, protocol=draw.choice((0, 2, 4)))
    shapes = [order, _zipped(hostile.mark), struct.pack("<Q", len(header)) + header, struct.pack("<Q", 2) + b"{}", b""]
    position = {"current_step": hostile.maybe(1), "current_epoch": hostile.maybe(1), "losses": hostile.maybe([0.1])}
    hostile.json("last-state/train_state.json", hostile.maybe(position))
    for name in ("network.safetensors", "state.pt", "random_states_0.pkl", "optimizer.bin"):
        hostile.put(f"last-state/{name}", draw.choice(shapes))
    for ending in (".safetensors", ".ckpt", ".pt", ".bin"):
        hostile.put(f"model{ending}", draw.choice(shapes))
        with contextlib.suppress(KohyakitError):
            WeightFile(hostile.folder / f"model{ending}", mmap=draw.random() < 0.5)
    with contextlib.suppress(KohyakitError):
        load_state(hostile.folder / "last-state")


def folders(hostile: Hostile) -> None:
    """A project with records of runs, a trash and photos, listed, pruned, brought back and audited."""
    from kohyakit.audit.run import audit_dataset

    draw = hostile.draw
    hostile.photos()
    kinds = [draw.choice(("state", "model")) for _ in range(3)]
    files = [{"file": hostile.maybe(hostile.name()), "kind": kind, "step": 1, "bytes": 1} for kind in kinds]
    run = {"version": hostile.maybe("1a"), "status": "finished", "output_name": hostile.maybe("x")}
    hostile.json("runs/1a/run.json", {**run, "checkpoints": hostile.maybe(files), "imported": hostile.maybe({})})
    ends = {"from": hostile.maybe(hostile.name()), "to": hostile.maybe("1a/x"), "run": hostile.maybe("1a")}
    entry = {**ends, "checkpoint": hostile.maybe({"file": "x"})}
    hostile.json("runs/trash/20260101-000000/moved.json", {"moved": hostile.maybe([entry])})
    hostile.put("runs/trash/20260101-000000/1a/x", b"x")
    hostile.lines("sample/samples.jsonl", [{"file": hostile.maybe(hostile.name())}])
    with contextlib.suppress(KohyakitError):
        runs = list_runs(hostile.folder)
        prune(hostile.folder, candidates(runs, imported=True))
    with contextlib.suppress(KohyakitError):
        bring_back(hostile.folder)
    if draw.random() < 0.8:
        return
    with contextlib.suppress(KohyakitError):
        audit_dataset(hostile.folder, workers=0, checks=("decode", "captions", "layout", "names"))


KINDS = (journals, presets, states, folders)


@pytest.fixture
def trap(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that leaves its mark, found by Python; the home is the process's own."""
    found = home / "found"
    found.mkdir()
    (found / "hostile.py").write_text(f"open({str(home / MARK)!r}, 'w').close()\nOwn = exec\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(found))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("HOME", str(home))
    yield home / MARK
    sys.modules.pop("hostile", None)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_files_from_strangers(kind: Callable[[Hostile], None], home: Path, set_: Path, trap: Path) -> None:
    for package in ("PIL", "pandas", "torch"):
        pytest.importorskip(package)
    before = snapshot(home, without=(set_,))
    for number in range(COUNT // len(KINDS)):
        hostile = Hostile(number, home, set_)
        try:
            kind(hostile)
        except Exception as error:
            raise AssertionError(f"case {number}: {type(error).__name__}: {error}") from error
        assert not trap.exists(), f"case {number}: code ran"
        assert snapshot(home, without=(set_,)) == before, f"case {number}: something outside changed"
        shutil.rmtree(set_)
        set_.mkdir()
