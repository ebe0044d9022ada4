"""config_file TOML: read as sd-scripts flattens it, written so that sd-scripts' own parser gives the same values."""

from __future__ import annotations

from pathlib import Path

import pytest
import toml

from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.errors import ConfigError
from kohyakit.formats import load, loads, train_toml


def problems(text: str) -> list[str]:
    config = loads(text, "rose.toml")
    assert config.source is not None
    return [str(problem) for problem in config.source.problems]


def test_sections_are_flattened_and_the_later_table_wins() -> None:
    text = "seed = 1\n[a]\nnetwork_dim = 4\nseed = 2\n[b]\nnetwork_dim = 8\n"
    config = loads(text, "rose.toml")
    assert (config["seed"], config["network_dim"]) == (2, 8)
    assert problems(text) == [
        "rose.toml: seed stands in the top of the file and in [a]; the latter, 2, counts; take one out",
        "rose.toml: network_dim stands in [a] and in [b]; the latter, 8, counts; take one out",
    ]


def test_a_name_without_the_ending_finds_the_file(tmp_path: Path) -> None:
    (tmp_path / "rose.toml").write_text("network_dim = 4\n", encoding="utf-8")
    assert load(tmp_path / "rose")["network_dim"] == 4


def test_our_own_parameters_stand_in_their_table() -> None:
    config = loads('[kohyakit]\nscript = "sdxl_train_network.py"\nnum_processes = 2\n', "rose.toml")
    assert (config.launch.script, config.launch.num_processes) == ("sdxl_train_network.py", 2)
    told = problems("num_machines = 2\n")
    assert told == ["rose.toml: num_machines at this place is read by no sd-scripts program; put it under [kohyakit]"]
    assert loads("num_machines = 2\n", "x.toml")["num_machines"] == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("network_dim = 4\nnetwork_dim = 8\n", "line 2"),
        ("a = \n", "is not valid TOML"),
        ('a = "C:\\users\\x"\n', "put the path in 'single quotes'"),
        ("netwrk_dim = 4\n", "unknown parameter 'netwrk_dim'; did you mean 'network_dim'?"),
        ("network_dim = 'four'\nseed = 1.5\n", "seed is 1.5, but a whole number was wanted"),
        ("network_dim = nan\n", "network_dim is nan"),
        ("x = " + "[" * 5000 + "]" * 5000, "nested more than"),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'x'\n", "give it as --dataset-config"),
    ],
    ids=lambda value: value[:30],
)
def test_files_that_cannot_be_used(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(text, "rose.toml")
    assert told in str(caught.value)


def test_all_problems_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        loads("network_dim = 'four'\nseed = 1.5\nnetwrk_alpha = 1\n", "rose.toml")
    assert len([problem for problem in caught.value.problems if problem.severity == "error"]) == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            'network_dim = "4"\n',
            "network_dim is the text '4', which sd-scripts would not turn into a number or a switch",
        ),
        ("[a.b]\nnetwork_dim = 4\n", "b is a table inside a table"),
        ("\ufeffnetwork_dim = 4\n", "starts with a byte order mark, at which sd-scripts stops"),
        ("[kohyakit]\nnetwork_dim = 4\n", "[kohyakit] has no parameter 'network_dim'"),
    ],
)
def test_warnings(text: str, told: str) -> None:
    assert any(told in problem for problem in problems(text))


def test_a_file_that_only_sd_scripts_parser_reads_is_read_with_a_warning() -> None:
    text = 'optimizer_args = ["a=1",, "b=2"]\n'
    assert loads(text, "rose.toml")["optimizer_args"] == ("a=1", "b=2")
    assert "is not quite TOML" in problems(text)[0]


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("network_dim = 4\n", "train_network.py"),
        ("cache_text_encoder_outputs = true\nnetwork_dim = 4\nno_half_vae = true\n", "sdxl_train_network.py"),
        ("pretrained_model_name_or_path = 'stabilityai/stable-diffusion-xl-base-1.0'\n", "sdxl_train_network.py"),
        ("t5xxl = 'a'\nguidance_scale = 1.0\nnetwork_dim = 4\n", "flux_train_network.py"),
        ("clip_g = 'a'\nnetwork_dim = 4\n", "sd3_train_network.py"),
        ("token_string = 'rose'\n", "train_textual_inversion.py"),
        ("learning_rate_te1 = 1e-5\nblock_lr = '1'\n", "sdxl_train.py"),
    ],
)
def test_the_script_follows_the_options(text: str, script: str) -> None:
    assert loads(text, "rose.toml").launch.script == script


ODD = (
    "plain", "C:\\users\\rose\\x", "it's", 'say "hi"', "tab\there", "line\nbreak", "ünï 玫瑰 🌹", "#no comment",
    "a = [b]", "'\\'",
    "back\\slash's", "\x7f\x01", "trailing\\", "'''", '"""', "  spaced  ", "x\u2028y", "{x}",
)  # fmt: skip


@pytest.mark.parametrize("text", ODD)
def test_any_text_comes_back_from_both_parsers(text: str, tmp_path: Path) -> None:
    config = TrainConfig().with_values(
        output_name=text or None, training_comment=text or None, network_args=(text,) if text else None
    )
    path = tmp_path / "x.toml"
    train_toml.write(config, path)
    theirs = toml.load(path)
    assert theirs["saving"].get("output_name") == (text or None)
    assert load(path)["training_comment"] == (text or None)
    assert load(path)["network_args"] == ((text,) if text else None)


@pytest.mark.parametrize("value", [1e-05, 1.0, 0.1, 1e-10, 123456789.0, 2.5e20, 0.30000000000000004, -0.0])
def test_any_number_comes_back(value: float) -> None:
    text = train_toml.dumps(TrainConfig().with_values(learning_rate=value))
    back = toml.loads(text)["optimizer"]["learning_rate"]
    assert (back, type(back)) == (value, float)


def test_a_share_stays_a_share_and_steps_stay_steps() -> None:
    for value in (0.1, 1.0, 5, 1):
        text = train_toml.dumps(TrainConfig().with_values(lr_warmup_steps=value))
        back = toml.loads(text)["optimizer"]["lr_warmup_steps"]
        assert (back, type(back)) == (value, type(value))


def test_only_what_differs_and_the_essentials_are_written() -> None:
    text = train_toml.dumps(TrainConfig().with_values(network_dim=8, flip_aug=True))
    flat = {key: value for table in toml.loads(text).values() for key, value in table.items()}
    assert flat["network_dim"] == 8
    assert flat["flip_aug"] is True
    assert "color_aug" not in flat
    assert flat["max_train_steps"] == 1600


def test_secrets_are_left_out_unless_asked_for() -> None:
    config = TrainConfig().with_values(wandb_api_key="key", huggingface_token="token")
    assert 'key"' not in train_toml.dumps(config)
    assert 'token"' not in train_toml.dumps(config)
    kept = train_toml.dumps(config, keep_secrets=True)
    assert 'wandb_api_key = "key"' in kept


def test_prompts_as_text_become_a_file_beside(tmp_path: Path) -> None:
    config = TrainConfig().with_values(sample_prompts="a rose\na tulip --d 1")
    written = train_toml.write(config, tmp_path / "x.toml")
    assert [path.name for path in written] == ["x.toml", "x.prompts.txt"]
    assert written[1].read_text(encoding="utf-8") == "a rose\na tulip --d 1\n"
    assert load(written[0])["sample_prompts"] == written[1].as_posix()


def test_every_parameter_can_be_written_and_read_back() -> None:
    samples = {"int": 3, "float": 0.5, "bool": True, "str": "x", "int_or_float": 7}
    for name, spec in SPECS().items():
        if spec.about.choices:
            value = next((c for c in spec.about.choices if c != spec.default), spec.about.choices[0])
        else:
            value = samples[spec.kind]
        value = (value,) if spec.many else value
        written = TrainConfig().with_values(**{name: value})
        try:
            config = loads(train_toml.dumps(written, keep_secrets=True, prompts_file="x.txt"), "x.toml")
        except ConfigError:
            assert name == "resolution"
            continue
        assert config[name] == ("x.txt" if name == "sample_prompts" else value), name


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x.toml"
    target.write_text("old", encoding="utf-8")
    monkeypatch.setattr(train_toml, "dumps", lambda *args, **kwargs: "a = 1 = 2")
    with pytest.raises(ConfigError):
        train_toml.write(TrainConfig(), target)
    assert target.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.toml"]
