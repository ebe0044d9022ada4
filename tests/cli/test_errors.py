"""Bad input at the command line: one clear sentence each, exit code 2, nothing half-written."""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import stand_in
from tests.door import kohyakit

pytest.importorskip("PIL.Image")

ROOT = Path(__file__).resolve().parents[2]


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def project(picture, tmp_path: Path) -> Path:
    """A project whose preset would be fine, were it not for the base model, of which only the configs are there."""
    for name in "abc":
        picture(f"img/2_sks dog/{name}.png", (256, 256)).with_suffix(".txt").write_text("sks dog", encoding="utf-8")
    stand_in.folder(tmp_path / "base")
    preset = {
        "LoRA_type": "Standard", "pretrained_model_name_or_path": "base", "train_data_dir": "img",
        "output_dir": "out", "output_name": "dog", "max_resolution": "256,256", "epoch": 1, "max_train_steps": 0,
        "caption_extension": ".txt", "network_dim": 8, "network_alpha": 4, "xformers": "none", "mixed_precision": "no",
    }  # fmt: skip
    (tmp_path / "preset.json").write_text(json.dumps(preset), encoding="utf-8")
    return tmp_path


def refused(done: subprocess.CompletedProcess[str], *sentences: str) -> None:
    """Exit code 2 and exactly these sentences (regular expressions) on standard error."""
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(sentences), done.stderr
    for line, sentence in zip(lines, sentences, strict=True):
        assert re.fullmatch(f"error: {sentence}", line), line
    assert done.stdout == ""


FILES = {
    "comma.json": (b'{"LoRA_type": "Standard",\n}', r"comma\.json: line \d, column \d+: is not valid JSON \(.*\); .+"),
    "quotes.json": (b"{'LoRA_type': 1}", r"quotes\.json: line 1, column 2: is not valid JSON .*single quotes.*"),
    "list.json": (b"[1, 2]", r"list\.json: holds a list, but .* object .*"),
    "wide.json": ('{"LoRA_type": "Standard"}'.encode("utf-16"), r"wide\.json: is UTF-16, but UTF-8 was wanted; .*"),
    "equals.toml": (b"a = 1\nb = = 2\n", r"equals\.toml: is not valid TOML \(.*line 2, column 5\)\); .+"),
    "latin.toml": (b'output_name = "caf\xe9"\n', r"latin\.toml: .*UTF-8.*"),
    "empty.toml": (b"", r"empty\.toml: is empty; .+"),
    "nothing.json": (None, r"nothing\.json: there is no such file; .+"),
}


@pytest.mark.parametrize("command", ["check", "train", "convert"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_read(command, name, tmp_path):
    data, sentence = FILES[name]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    before = tree(tmp_path)
    extra = ["new.toml"] if command == "convert" else []
    refused(kohyakit(command, name, *extra, cwd=tmp_path), sentence)
    assert tree(tmp_path) == before


SETTINGS = {
    "unknown": (["netwrk_dim=3"], [r"--set: unknown parameter 'netwrk_dim'; did you mean 'network_dim'\?"]),
    "no value": (["network_dim"], [r"--set: 'network_dim' is not name=value; .+"]),
    "no number": (["network_dim=abc"], [r".*network_dim is 'abc', but a number was wanted"]),
    "several at once": (
        ["learning_rate=fast", "save_precision=fp12"],
        [r".*learning_rate is 'fast', but a number was wanted", r".*save_precision is 'fp12', .*did you mean 'fp16'.*"],
    ),
}


@pytest.mark.parametrize("command", ["check", "train"])
@pytest.mark.parametrize("case", SETTINGS)
def test_a_setting_that_cannot_be(command, case, project):
    assignments, sentences = SETTINGS[case]
    options = [part for assignment in assignments for part in ("--set", assignment)]
    refused(_in_order(kohyakit(command, "preset.json", *options, cwd=project)), *sentences)
    assert not (project / "out").exists()


def _in_order(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The same with its sentences by name: which of several comes first is no promise."""
    done.stderr = "\n".join(sorted(done.stderr.splitlines()))
    return done


def _no_images(project: Path) -> None:
    for path in (project / "img").rglob("*.png"):
        path.unlink()


def _truncated(project: Path) -> None:
    path = project / "img/2_sks dog/a.png"
    path.write_bytes(path.read_bytes()[:5000])


def _web_page(project: Path) -> None:
    (project / "img/2_sks dog/b.png").write_text("<html><body>404</body></html>", encoding="utf-8")


def _latin_caption(project: Path) -> None:
    (project / "img/2_sks dog/c.txt").write_bytes(b"sks dog, caf\xe9")


PROJECTS = {
    # case: (what is done to the project, --set, sentences of train; check says the same as findings)
    "model": (None, "pretrained_model_name_or_path=nowhere.safetensors", [r"nowhere\.safetensors: .*not exist.*; .+"]),
    "folder": (None, "train_data_dir=nowhere", [r"nowhere: the folder does not exist.*; .+"]),
    "no images": (_no_images, "", [r"img: there are no images to train on; .+"]),
    "truncated": (_truncated, "", [r"img/2_sks dog/a\.png: it breaks off before its end; .*--skip-bad-images"]),
    "web page": (_web_page, "", [r"img/2_sks dog/b\.png: it is a web page .*; .*--skip-bad-images"]),
    "caption": (
        _latin_caption,
        "",
        [r"img/2_sks dog/c\.txt: the caption is Windows-1252, not UTF-8 .*; kohyakit repair saves it as UTF-8"],
    ),
    "two at once": (
        _truncated,
        "pretrained_model_name_or_path=nowhere.safetensors",
        [r"img/2_sks dog/a\.png: .*", r"nowhere\.safetensors: .*"],
    ),
}


@pytest.mark.parametrize("case", PROJECTS)
def test_a_project_that_cannot_be_trained(case, project):
    pytest.importorskip("torch")
    spoil, setting, sentences = PROJECTS[case]
    if spoil:
        spoil(project)
    before = tree(project)
    options = ["--set", setting] if setting else []
    done = kohyakit("train", "preset.json", "--quiet", *options, cwd=project)
    done.stderr = done.stderr.replace("\\", "/")
    refused(_in_order(done), *sentences)
    assert tree(project) == before, "nothing is written when nothing is trained"


@pytest.mark.parametrize("case", PROJECTS)
def test_check_says_the_same_as_findings(case, project):
    spoil, setting, sentences = PROJECTS[case]
    if spoil:
        spoil(project)
    before = tree(project)
    done = kohyakit("check", "preset.json", "--json", *(["--set", setting] if setting else []), cwd=project)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr == ""
    findings = [f for f in json.loads(done.stdout)["findings"] if f["severity"] == "error"]
    wheres = sorted(f["where"].replace("\\", "/") for f in findings)
    assert all(re.match(s.partition(": ")[0], w) for s, w in zip(sentences, wheres, strict=True)), wheres
    assert tree(project) == before


def test_a_project_that_can_be_trained(project):
    """The counterpart: what the cases above spoil is fine as it stands."""
    done = kohyakit("check", "preset.json", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_output_dir_that_cannot_be_written(project):
    pytest.importorskip("torch")
    (project / "out").write_text("a file, not a folder", encoding="utf-8")
    before = tree(project)
    for output_dir in ("out", "out/below"):
        options = ["--set", f"output_dir={output_dir}"]
        done = kohyakit("train", "preset.json", "--quiet", *options, cwd=project)
        refused(done, r"out.*: nothing can be saved there, as out is a file; choose another output_dir")
        done = kohyakit("check", "preset.json", *options, cwd=project)
        assert done.returncode == 1
        assert "[output_dir_unusable]" in done.stdout
    assert tree(project) == before


def test_an_output_dir_that_may_not_be_written(project):
    pytest.importorskip("torch")
    locked = project / "locked"
    locked.mkdir(mode=0o555)
    if os.access(locked, os.W_OK):
        pytest.skip("this user may write everywhere")
    done = kohyakit("train", "preset.json", "--quiet", "--set", "output_dir=locked/out", cwd=project)
    refused(done, r"locked/out: nothing can be saved there, as locked may not be written to; .*")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["trian", "x.json"], "No such command 'trian'"),
        (["check"], "Missing argument 'CONFIG'"),
        (["check", "x.json", "--fast"], "No such option"),
        (["explain", "qwertz"], "nothing is called 'qwertz'"),
        (["templates", "show", "sd51-subject"], "sd15-subject"),
        (["runs", "list", "nowhere"], "nowhere"),
        (["runs", "show", "1a"], "holds no runs"),
        (["audit", "nowhere"], "nowhere"),
        (["diff", "nowhere.json", "other.json"], "nowhere.json"),
        (["init", "new", "--images", "nowhere"], "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use(args, sentence, tmp_path):
    done = kohyakit(*args, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert tree(tmp_path) == {}


# What goes wrong on Windows only, read from the source.

SOURCES = sorted((ROOT / "kohyakit").rglob("*.py")) + sorted((ROOT / "dashboards").rglob("*.py"))
_TEXT = {"read_text", "write_text"}


@functools.cache
def _nodes(file: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


def _calls(file: Path) -> list[ast.Call]:
    return [node for node in _nodes(file) if isinstance(node, ast.Call)]


def _mode(call: ast.Call, position: int) -> str:
    given = [k.value for k in call.keywords if k.arg == "mode"] + call.args[position : position + 1]
    return given[0].value if given and isinstance(given[0], ast.Constant) else "r"


def _opens_text_without_encoding(call: ast.Call) -> bool:
    if any(k.arg in ("encoding", None) for k in call.keywords):
        return False
    function = call.func
    if isinstance(function, ast.Name) and function.id == "open":
        return "b" not in _mode(call, 1)
    if not isinstance(function, ast.Attribute):
        return False
    if function.attr in _TEXT:
        return len(call.args) < (1 if function.attr == "read_text" else 2)
    if function.attr == "fdopen":
        return "b" not in _mode(call, 1)
    if function.attr in ("open", "NamedTemporaryFile"):
        foreign = isinstance(function.value, ast.Name) and function.value.id in ("Image", "os", "webbrowser", "tarfile")
        return not foreign and _looks_like_path_open(call) and "b" not in _mode(call, 0)
    return False


def _looks_like_path_open(call: ast.Call) -> bool:
    """path.open(), path.open("r"): no argument, or a mode."""
    return not call.args or (isinstance(call.args[0], ast.Constant) and set(str(call.args[0].value)) <= set("rwaxbt+"))


def test_the_reader_of_sources_sees_an_open_without_encoding(tmp_path):
    file = tmp_path / "bad.py"
    file.write_text(
        "open('a')\nopen('a', 'rb')\nopen('a', encoding='utf-8')\np.read_text()\np.write_text('x')\np.open()\n"
        "p.open('rb')\nImage.open(p)\np.open('w', encoding='utf-8')\n",
        encoding="utf-8",
    )
    assert [call.lineno for call in _calls(file) if _opens_text_without_encoding(call)] == [1, 4, 5, 6]


def test_every_open_states_its_encoding():
    bad = [
        f"{file.relative_to(ROOT).as_posix()}:{call.lineno}: {ast.unparse(call)}"
        for file in SOURCES
        for call in _calls(file)
        if _opens_text_without_encoding(call)
    ]
    assert not bad, "\n" + "\n".join(bad)


def test_times_in_file_names_have_no_colon():
    """No strftime or isoformat result with a colon goes into a name: the formats used for names are digits only."""
    bad = []
    for file in SOURCES:
        for node in _nodes(file):
            if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Div):
                continue
            said = ast.unparse(node)
            if "%H:" in said or "isoformat" in said:
                bad.append(f"{file.relative_to(ROOT).as_posix()}:{node.lineno}: {said}")
    assert not bad, "\n" + "\n".join(bad)


def test_no_shipped_file_has_a_name_that_windows_refuses():
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, encoding="utf-8", cwd=ROOT)
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = listed.stdout.splitlines()
    assert "README.md" in names
    assert [name for name in names if re.search(r'[<>:"\\|?*]|[. ]$|(^|/)(con|aux|nul|prn)(\.|/|$)', name, re.I)] == []
