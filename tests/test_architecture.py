"""The picture of the floors, read from the imports themselves; a breach is printed as file:line and its sentence."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kohyakit.cli import COMMANDS

ROOT = Path(__file__).resolve().parent.parent

FLOORS = (
    ("errors", "files", "registry", "resources", "words"),
    ("config",),
    ("formats", "dataset"),
    ("planning", "runs", "describe"),
    ("models", "networks"),
    ("audit", "captioning", "train", "lora", "launch", "doctor", "demo"),
    ("cli", "dashboard", "__main__"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
WORKROOMS = 5
FRONT = "__init__"  # kohyakit/__init__.py: lazy names, no import of ours

# On floor 5 packages stand alone, except that these may call others.
MAY_VISIT = {"demo": set(FLOORS[WORKROOMS])}

TORCH = {"torch", "torchvision", "diffusers", "transformers", "peft", "accelerate", "safetensors"}
TORCH_ROOMS = {"models", "networks", "train", "captioning", "lora"}
TABLES = {"pandas", "numpy", "PIL", "cv2", "simplejpeg", "pyarrow", "streamlit", "tokenizers"}


@dataclass(frozen=True)
class Import:
    """One imported module: `at` is file:line, `room` the part of kohyakit that imports, `lazy` inside a function."""

    at: str
    room: str
    module: str
    lazy: bool
    typing_only: bool

    @property
    def target(self) -> str:
        """The room of kohyakit that is imported, or "" for a package of someone else's."""
        parts = self.module.split(".")
        if parts[0] != "kohyakit" or self.module == "kohyakit.__version__":
            return ""
        return parts[1] if len(parts) > 1 else FRONT

    @property
    def package(self) -> str:
        return self.module.split(".")[0]

    def __str__(self) -> str:
        return f"{self.at}: {self.room} imports {self.module}"


def room_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return "dashboard" if parts[0] == "dashboards" else parts[1]


def imports_of(file: Path) -> Iterator[Import]:
    """Every import statement of a file, those in functions and under TYPE_CHECKING included."""
    room, name = room_of(file), file.relative_to(ROOT).as_posix()

    def walk(node: ast.AST, lazy: bool, typing_only: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            guarded = typing_only or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
            modules: list[str] = []
            if isinstance(child, ast.Import):
                modules = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{name}:{child.lineno}: imports here are written in full"
                modules = (
                    [f"kohyakit.{alias.name}" for alias in child.names]
                    if child.module == "kohyakit"
                    else [child.module or ""]
                )
            for module in modules:
                yield Import(f"{name}:{child.lineno}", room, module, inside, guarded)
            yield from walk(child, inside, guarded)

    yield from walk(ast.parse(file.read_text(encoding="utf-8")), False, False)


FILES = sorted((ROOT / "kohyakit").rglob("*.py")) + sorted((ROOT / "dashboards").rglob("*.py"))
IMPORTS = [found for file in FILES for found in imports_of(file)]
OURS = [found for found in IMPORTS if found.target and found.target != found.room]


def offending(imports: list[Import]) -> str:
    return "\n" + "\n".join(map(str, imports))


PAGE = ROOT / "docs" / "architecture.md"
NAMES = ("ground", "words", "materials", "planning", "torch", "workrooms", "doors")


def picture() -> str:
    """The floors as a drawing, worked out from the imports: each room, what it is, the rooms that it imports from."""
    lines = []
    for floor in reversed(range(len(FLOORS))):
        lines.append(f"{floor}  {NAMES[floor]}")
        for room in (name for name in FLOORS[floor] if not name.startswith("_")):
            used = sorted({found.target for found in OURS if found.room == room}, key=lambda name: (-FLOOR[name], name))
            place = ROOT / "kohyakit" / room
            kind = f"{room}/" if place.is_dir() else f"{room}.py"
            lines.append(f"   {kind:<14} {' '.join(used) or '-'}")
    return "\n".join(lines)


def test_what_is_imported_of_ours_is_there() -> None:
    """A lazy import of a module that has moved fails when a person gets there, and mypy takes it for somebody's."""
    gone = [one for one in IMPORTS if one.target and one.module.count(".") > 1 and not _stands(one.module)]
    assert not gone, offending(gone)


def _stands(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_the_page_shows_the_floors_as_they_are():
    """After a change of rooms: `python tests/test_architecture.py`, and the drawing into docs/architecture.md."""
    assert f"```\n{picture()}\n```" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("step", re.findall(r"`(kohyakit/[\w/]+\.py):([\w.]+)`", PAGE.read_text(encoding="utf-8")))
def test_a_step_of_a_walk_is_there(step):
    """`file:name` on the page is a function, a class, a method or a name of that file."""
    file, name = step
    body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    for part in name.split("."):
        found = [node for node in body if part in _names(node)]
        assert found, f"{file} has no {name}"
        body = getattr(found[0], "body", [])


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def test_the_reader_sees_imports_wherever_they_stand(tmp_path, monkeypatch):
    """Without this the other tests could pass by seeing nothing."""
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    file = tmp_path / "kohyakit" / "config" / "bad.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        "import os, torch\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from kohyakit.planning import Plan\n"
        "class A:\n    def f(self):\n        from kohyakit import errors\n",
        encoding="utf-8",
    )
    seen = [(i.at.rpartition(":")[2], i.module, i.target, i.lazy, i.typing_only) for i in imports_of(file)]
    assert seen == [
        ("1", "os", "", False, False),
        ("1", "torch", "", False, False),
        ("2", "typing", "", False, False),
        ("4", "kohyakit.planning", "planning", False, True),
        ("7", "kohyakit.errors", "errors", True, False),
    ]


def test_every_part_of_the_package_has_a_floor():
    rooms = {room_of(file) for file in FILES} - {FRONT}
    assert rooms - set(FLOOR) == set()
    assert set(FLOOR) <= rooms, "a floor is drawn for a room that is not there"


def test_no_import_goes_upward():
    top = len(FLOORS)  # a name that is no module here, such as the front's own
    bad = [i for i in OURS if i.room != FRONT and FLOOR.get(i.target, top) > FLOOR[i.room]]
    assert not bad, offending(bad)


def test_workrooms_do_not_see_each_other():
    rooms = set(FLOORS[WORKROOMS])
    bad = [i for i in OURS if i.room in rooms and i.target in rooms and i.target not in MAY_VISIT.get(i.room, ())]
    assert not bad, offending(bad)


def test_the_front_imports_nothing_of_ours():
    bad = [i for i in IMPORTS if i.room == FRONT and i.target and not i.lazy]
    assert not bad, offending(bad)


def test_torch_and_its_kin_stay_in_their_rooms():
    """models/, networks/, train/, captioning/, lora/; demo/ inside functions. Type annotations alone load nothing."""
    bad = [
        i
        for i in IMPORTS
        if i.package in TORCH and i.room not in TORCH_ROOMS and not i.typing_only and not (i.room == "demo" and i.lazy)
    ]
    assert not bad, offending(bad)


def test_floors_0_to_3_import_no_tables_or_pictures_at_start():
    bad = [
        i
        for i in IMPORTS
        if i.package in TABLES and not i.lazy and not i.typing_only and FLOOR.get(i.room, 0) < WORKROOMS - 1
    ]
    assert not bad, offending(bad)


def test_a_command_imports_its_work_when_it_is_called():
    """A command's own file imports at its start nothing above floor 1; how things are shown lies in views/."""
    commands = {f"{where.partition(':')[0].replace('.', '/')}.py" for where, _ in COMMANDS.values()}
    at_start = [i for i in IMPORTS if i.at.rpartition(":")[0] in commands and not i.lazy and not i.typing_only]
    bad = [i for i in at_start if i.package in TABLES | TORCH or i.target == FRONT or FLOOR.get(i.target, 0) > 1]
    assert at_start, "no command was seen"
    assert not [i for i in bad if i.target != "cli"], offending(bad)


def test_the_dashboard_never_imports_train():
    bad = [i for i in IMPORTS if i.room == "dashboard" and i.target in TORCH_ROOMS]
    assert not bad, offending(bad)


def modules_imported(file: Path) -> set[str]:
    """The modules of ours that a file imports anywhere: at its start, in functions, for its types."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                name if (name := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            }
    return {name for name in found if name in MODULES and name != "kohyakit"}  # the front loads by name, when asked


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in FILES}


def circles(imports: dict[str, set[str]]) -> list[tuple[str, ...]]:
    """Modules that import each other, if only by way of others (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        stack.append(module)
        for other in sorted(imports[module]):
            if other not in number:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], number[other])
        if lowest[module] == number[module]:
            members = stack[stack.index(module) :]
            del stack[-len(members) :]
            if len(members) > 1:
                found.append(tuple(sorted(members)))

    for module in sorted(imports):
        if module not in number:
            visit(module)
    return found


def test_a_circle_is_seen():
    chain = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": set()}
    assert circles(chain) == [("a", "b", "c")]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_no_modules_import_each_other():
    """Lazy imports and those for types count: who must read two modules to understand one has one too many."""
    imports = {name: modules_imported(file) - {name} for name, file in MODULES.items()}
    assert sum(map(len, imports.values())) > 1000, "no imports were seen"
    ways = [
        f"{one} -> {other}" for circle in circles(imports) for one in circle
        for other in sorted(imports[one] & set(circle))
    ]  # fmt: skip
    assert not ways, "\n" + "\n".join(ways)


@pytest.mark.parametrize("name", ["utils", "common", "manager", "helpers", "misc"])
def test_no_file_is_named_after_nothing(name):
    assert [file for file in FILES if file.stem == name] == []


if __name__ == "__main__":
    print(picture())
