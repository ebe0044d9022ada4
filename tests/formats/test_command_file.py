"""Command files as people have them: read as their shell would read them, never run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from kohyakit.cli import group
from kohyakit.errors import ConfigError
from kohyakit.formats import load, loads, read
from kohyakit.formats.shell import command_file

RUN = "accelerate launch train_network.py"
SH = {
    "continued, the sign touching": "GO\\\n  --network_module=networks.lora\\\n  --output_name=rose",
    "continued, a blank before": "accelerate launch \\\n train_network.py --resolution \\\n  '768,768'",
    "variables": 'X=/models/a.safetensors\nexport NAME="a b"\nGO --m="$X" --n "${NAME}_1" --k $NAME',
    "a default": "GO --n ${NAME:-rose} --k=${OTHER-1}x",
    "no expansion in single quotes": "X=1\nGO --n '$X' --k=\"a'b\"",
    "escapes": "GO --n a\\ b --k \"say \\\"hi\\\"\" --x \\$X",
    "options in one variable": 'ARGS="--cache_latents --network_dim=8"\nGO $ARGS --n x',
    "lines around": "#!/bin/sh\ncd /tmp\n# a remark\nN=2 # of them\nGO --n $N; echo done >/dev/null",
    "variables for this command alone": "CUDA_VISIBLE_DEVICES=1 GO --n 1 2>&1 | cat",
    "in a chain": "cd /tmp && GO --n 1 && true",
    "quotes here and there": "GO --a\"b\"c --n=''\"x y\"z",
    "added to": "A=x\nA=${A}_y\nGO --n $A",
    "an empty one": 'E=\nGO --n "$E" $E --k',
}  # fmt: skip


@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no sh to compare with")
@pytest.mark.parametrize("text", SH.values(), ids=SH)
def test_words_are_those_that_sh_hands_over(text: str) -> None:
    text = text.replace("GO", RUN)
    stub = 'accelerate() { for word in accelerate "$@"; do printf "%s\\n" "$word"; done; }\n'
    theirs = subprocess.run(["sh"], input=stub + text + "\n", capture_output=True, text=True, timeout=20, check=True)
    assert list(command_file.read(text, "x.sh").command.words) == theirs.stdout.splitlines()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash to compare with")
@pytest.mark.parametrize(
    "text",
    [
        'ARGS=(--n "a b"\n  --k 1) # so\nARGS+=(--x)\naccelerate launch train_network.py "${ARGS[@]}"',
        "A=x\nA+=y\naccelerate launch train_network.py --n $A",
    ],
)
def test_words_are_those_that_bash_hands_over(text: str) -> None:
    stub = 'accelerate() { printf "%s\\n" accelerate "$@"; }\n'
    theirs = subprocess.run(["bash"], input=stub + text + "\n", capture_output=True, text=True, timeout=20, check=True)
    assert list(command_file.read(text, "x.sh").command.words) == theirs.stdout.splitlines()


def words(text: str, where: str) -> list[str]:
    return list(command_file.read(text.replace("GO", RUN), where).command.words)[3:]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GO ^\n  --n=1^\n --k=2", ["--n=1", "--k=2"]),
        ('@echo off\nset "N=a b"\nset K=4\nGO --n="%N%_2" --k=%k%\npause', ["--n=a b_2", "--k=4"]),
        ("REM note\n:: note\nset A=--n 1 --k \"x y\"\nGO %A%", ["--n", "1", "--k", "x y"]),
        ("GO --d=C:\\train\\img --o=\"D:\\my sets\\\" --n 1",
         ["--d=C:\\train\\img", "--o=D:\\my sets\\", "--n", "1"]),
        ("cd /d C:\\sd & call venv\\Scripts\\activate & GO --n 50%% ^& --k", ["--n", "50%", "&", "--k"]),
        ("GO --n it's --k 'a b'", ["--n", "it's", "--k", "a b"]),
        ("setlocal enabledelayedexpansion\nset N=3\nif exist x (\n  GO --n !N!\n)", ["--n", "3"]),
        ("GO --n 1 > log.txt 2>&1", ["--n", "1"]),
        ('set D=img\nGO --d="%D%\\10_dog"', ["--d=img\\10_dog"]),
    ],
)  # fmt: skip
def test_bat(text: str, expected: list[str]) -> None:
    # by the rules of cmd.exe: %NAME% also within quotes, names in any case, ^ takes a character's meaning
    assert words(text, "x.bat") == expected
    assert words(text.replace("\n", "\r\n"), "x.bat") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GO `\n --n=1 `\n --k 2", ["--n=1", "--k", "2"]),
        ('$N = "rose"\n$env:K = 4\nGO --n "${N}_2" --k=$env:K --x $n',
         ["--n", "rose_2", "--k=4", "--x", "rose"]),
        ("$N='$x'\nGO --n $N --k \"say `\"hi`\"\" --z 'it''s'",
         ["--n", "$x", "--k", 'say "hi"', "--z", "it's"]),
        ('$a = @(\n  "--n", "1", # so\n  "--k=2"\n)\n$a += "--x"\nGO @a', ["--n", "1", "--k=2", "--x"]),
        ('$l = [System.Collections.ArrayList]::new()\n[void]$l.Add("--n=1")\nGO $l', ["--n=1"]),
        ("<# accelerate launch b.py #>\n& GO --r=512,512 # end", ["--r=512,512"]),
        ('$r = "a" + "b"\n[string]$s = "c"\nGO --n $r$s', ["--n", "abc"]),
    ],
)  # fmt: skip
def test_ps1(text: str, expected: list[str]) -> None:
    assert words(text, "x.ps1") == expected


@pytest.mark.parametrize(
    ("where", "own"),
    [
        ("x.bat", "%~dp0model.safetensors"),
        ("x.ps1", '"$PSScriptRoot/model.safetensors"'),
        ("x.sh", '"$(dirname "$0")/model.safetensors"'),
    ],
)
def test_the_files_own_folder_is_known(tmp_path: Path, where: str, own: str) -> None:
    path = tmp_path / where
    path.write_text(f"accelerate launch train_network.py --pretrained_model_name_or_path={own}\n", encoding="utf-8")
    model = load(path)["pretrained_model_name_or_path"]
    assert Path(model.replace("\\", "/")) == tmp_path / "model.safetensors"


def test_a_variable_without_a_value_is_told_and_never_taken_as_text() -> None:
    line = 'accelerate launch train_network.py --output_name="${NAME}_v1" --wandb_api_key $KEY'
    config, problems = read(line, "x.sh")
    assert config["output_name"] == "_v1"
    assert [(p.severity, p.name) for p in problems] == [("warning", "no_value")] * 2
    assert "$NAME has no value here" in problems[0].what
    for text, name, where in (
        ("accelerate launch train_network.py --network_dim=%RANK%", "%RANK%", "x.bat"),
        ("accelerate launch train_network.py --network_dim $RANK", "$RANK", "x.ps1"),
        ("accelerate launch train_network.py --network_dim $(nproc)", "$(nproc)", "x.sh"),
        ("accelerate launch train_network.py --network_dim %1", "%1", "x.cmd"),
        ('--network_dim "$RANK"', "$RANK", "x.args"),
    ):
        with pytest.raises(ConfigError, match="no value here") as caught:
            loads(text, where)
        assert name in str(caught.value)
        assert loads(text, where, overrides={"network_dim": 4})["network_dim"] == 4


def test_a_condition_is_not_followed_but_told() -> None:
    text = 'E=()\nS=train_network.py\nif [ "$V" = 2 ]; then\n  E+=(--v2)\n  S=sdxl_train_network.py\nfi\n'
    text += 'accelerate launch $S "${E[@]}"'
    config, problems = read(text, "x.sh")
    assert config.launch.script == "train_network.py"
    assert config["v2"] is False
    assert [("$E" in p.what, "$S" in p.what) for p in problems] == [(True, False), (False, True)]


def test_several_trainings_are_named_and_one_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "all.bat"
    path.write_text(
        "python tools\\cache_latents.py --x\nset R=8\n"
        "accelerate launch train_network.py --output_name a --network_dim %R%\nset R=16\n"
        "accelerate launch sdxl_train_network.py --output_name b --network_dim %R%\n", encoding="utf-8",
    )  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        load(path)
    told = str(caught.value)
    assert "2 trainings" in told
    assert "1 a (line 3, train_network.py)" in told
    assert "2 b (line 5, sdxl_train_network.py)" in told
    assert "--command" in told
    assert load(path, command="1")["network_dim"] == 8
    assert load(path, command="b")["network_dim"] == 16
    with pytest.raises(ConfigError, match="none is called '3'"):
        load(path, command="3")
    done = CliRunner().invoke(group, ["convert", str(path), "-", "--to", "toml", "--command", "b"])
    assert done.exit_code == 0
    assert 'script = "sdxl_train_network.py"' in done.output


def test_lines_around_the_command_are_told_and_never_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "run.sh", tmp_path / "mark"
    path.write_text(
        f"touch {mark}\nsource venv/bin/activate\nX=$(touch {mark})\naccelerate launch --num_processes=2 --debug "
        f"--rdzv_backend c10d train_network.py --network_dim 4 && touch {mark}\n", encoding="utf-8",
    )  # fmt: skip
    config = load(path)
    assert not mark.exists()
    assert config.launch.num_processes == 2
    assert config.launch.extra_accelerate_launch_args == "--debug --rdzv_backend c10d"
    assert config.launch.additional_parameters == ""
    assert config.source is not None
    left = [note.key for note in config.source.notes if note.action == "dropped"]
    assert left == ["line 1", "line 2", "line 4"]


@pytest.mark.parametrize(
    ("line", "values", "extra"),
    [
        ("accelerate launch --mixed_precision bf16 --debug a/train_network.py --seed 3",
         {"mixed_precision": "bf16"}, "--debug"),
        ("venv\\Scripts\\python.exe -m accelerate.commands.launch --gpu_ids 1 train_network.py --seed 3",
         {"gpu_ids": "1"}, ""),
        ("python -u train_network.py --seed 3", {}, ""),
        ("torchrun --nproc_per_node=2 train_network.py --seed 3", {"num_processes": 2}, ""),
        ("call venv\\Scripts\\accelerate.exe launch train_network.py --seed 3", {}, ""),
    ],
)  # fmt: skip
def test_what_starts_the_program_is_kept_apart(line: str, values: dict[str, object], extra: str) -> None:
    config = loads(line, "x.bat")
    assert config["seed"] == 3
    assert {name: config[name] for name in values} == values
    assert config.launch.extra_accelerate_launch_args == extra
    assert config.launch.additional_parameters == ""


def test_the_config_file_of_a_command_is_read_and_its_options_go_before(tmp_path: Path) -> None:
    toml = 'network_module = "networks.lora"\nnetwork_dim = 4\nlearning_rate = 1e-3\nmax_train_epochs = 2\n'
    (tmp_path / "s.toml").write_text(toml, encoding="utf-8")
    path = tmp_path / "gui.sh"
    for name in ("s.toml", "s", "./s.toml", f"{tmp_path}/s"):
        path.write_text(f"accelerate launch train_network.py --config_file {name} --network_dim=8\n", encoding="utf-8")
        config = load(path)
        assert [config[n] for n in ("network_dim", "learning_rate", "max_train_epochs")] == [8, 1e-3, 2]
    path.write_text("accelerate launch train_network.py --config_file=nowhere.toml\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"nowhere\.toml: there is no such file"):
        load(path)


@pytest.mark.parametrize(
    ("text", "where", "told"),
    [
        ("accelerate launch train_network.py ^\n --n 1", "x.sh", "line 1 ends in ^"),
        ("accelerate launch train_network.py \\ \n --n 1", "x.sh", "blank behind the \\"),
        ("accelerate launch train_network.py\n --seed 1", "x.bat", "line 2 begins with an option"),
        ("accelerate launch train_network.py --output_dir C:\\new", "x.sh", "backslash outside of quotes"),
        ("accelerate launch train_network.py --output_name 'x y'", "x.bat", "single quotes"),
        ("accelerate launch train_network.py —seed 1", "x.sh", "long dash"),
    ],
)
def test_what_the_shell_would_not_take_is_read_as_meant_and_told(text: str, where: str, told: str) -> None:
    _, problems = read(text, where)
    assert any(told in str(problem) for problem in problems)


@pytest.mark.parametrize("text", ["echo hello\npause\n", "# nothing\n", "python -V\n"])
def test_a_file_without_a_training_is_refused(text: str) -> None:
    for where in ("x.sh", "x.bat", "x.ps1", "x.args"):
        with pytest.raises(ConfigError, match="no line of it starts a training"):
            loads(text, where)


def test_values_that_grow_without_end_are_cut() -> None:
    doubling = "A=xx\n" + "A=$A$A\n" * 60 + "B=(a a)\n" + 'B=("${B[@]}" "${B[@]}")\n' * 40
    found = command_file.read(doubling + 'accelerate launch train_network.py --n=$A "${B[@]}"', "x.sh")
    assert sum(map(len, found.command.words)) < 1_000_000


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("k1a_backslash_touching/glue.args",
         {"script": "train_network.py", "caption_extension": ".txt", "network_module": "networks.lora",
          "output_name": "rose", "resolution": "768,768", "additional_parameters": ""}),
        ("k1b_lines_around/run.bat",
         {"extra_accelerate_launch_args": "", "additional_parameters": "", "network_dim": 4}),
        ("k1c_variables/var.bat", {"output_name": "pastel_2", "network_dim": 16}),
        ("k1c_variables/var.sh", {"pretrained_model_name_or_path": "/models/sd15.safetensors", "network_dim": 16}),
        ("k1d_config_file_on_command_line/gui.args",
         {"network_dim": 8, "learning_rate": 1e-3, "resolution": "128,128", "max_train_epochs": 2}),
    ],
)  # fmt: skip
def test_field_cases(goldens: Path, name: str, values: dict[str, object]) -> None:
    config = load(goldens / "field" / "presets" / name)
    assert {key: config[key] for key in values} == values
