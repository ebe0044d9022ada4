"""The schemas: valid JSON Schema draft 4, true to what the readers take, and refusing what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib

import pytest

from kohyakit.describe.schema import KINDS, schema
from kohyakit.errors import ConfigError

jsonschema = pytest.importorskip("jsonschema")


def messages(kind: str, values: dict) -> list[str]:
    return [e.message for e in jsonschema.Draft4Validator(schema(kind)).iter_errors(values)]


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_a_schema(kind):
    jsonschema.Draft4Validator.check_schema(schema(kind))
    assert "additionalProperties" in schema(kind)


def test_what_a_toml_may_hold():
    text = """
    network_dim = 32
    network_alpha = 16
    text_encoder_lr = [5e-5, 1e-5]
    network_args = ["conv_dim=8"]
    lr_warmup_steps = 0.1
    seed = 0
    max_token_length = 75
    sample_every_n_epochs = 0
    noise_offset_type = "Original"
    [anything]
    resolution = "512,512"
    unet_lr = 1e-4
    text_encoder_lr = 5e-5
    mixed_precision = "bf16"
    [kohyakit]
    script = "sdxl_train_network.py"
    exif_orientation = "ignore"
    """
    assert messages("toml", tomllib.loads(text)) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("network_dim = 0", "0 is less than the minimum of 1"),
        ("network_dim = '32'", "is not of type 'integer'"),
        ("mixed_precision = 'bf61'", "is not one of"),
        ("netwrk_alpha = 8", "is not of type 'object'"),
        ("[network]\nnetwrk_alpha = 8", "'netwrk_alpha' was unexpected"),
        ("caption_dropout_rate = 1.5", "is greater than the maximum of 1"),
        ("training_shift = 0.0", "is less than or equal to the minimum of 0"),
        ("[kohyakit]\nnetwork_dim = 8", "'network_dim' was unexpected"),
        ("script = 'train_network.py'", "is not of type 'object'"),
    ],
)
def test_what_an_editor_underlines(text, says):
    (message,) = messages("toml", tomllib.loads(text))
    assert says in message


def test_dataset_config():
    good = """
    [general]
    caption_extension = ".txt"
    shuffle_caption = true
    [[datasets]]
    resolution = [768, 512]
    batch_size = 2
    [[datasets.subsets]]
    image_dir = "img/10_dog"
    num_repeats = 10
    is_reg = false
    """
    assert messages("dataset", tomllib.loads(good)) == []
    bad = tomllib.loads("[[datasets]]\ntrain_batch_size = 2\n[[datasets.subsets]]\nimage_dir = 1")
    assert len(messages("dataset", bad)) == 2


def test_hover_text_has_help_and_tip():
    text = schema("toml")["definitions"]["network_dim"]["description"]
    assert text.startswith("Rank of the LoRA")
    assert "\n\nTry: " in text


def test_an_unknown_kind():
    with pytest.raises(ConfigError, match="choose one of toml"):
        schema("yaml")


@pytest.mark.shared
def test_presets_and_tomls_of_the_real_gui(goldens):
    """Nothing that the GUI itself wrote or opens is underlined, but for what its own form refuses today."""
    found: dict[str, set[str]] = {}
    for path in sorted((goldens / "presets").glob("*.json")):
        golden = json.loads(path.read_text(encoding="utf-8"))
        for kind, values in (("toml", golden["toml"]), ("gui-json", golden["input"])):
            for error in jsonschema.Draft4Validator(schema(kind)).iter_errors(values):
                found.setdefault(f"{kind} {'.'.join(map(str, error.path))}", set()).add(str(error.instance))
    assert found == {
        "gui-json xformers": {"True"},  # a check box once
        "gui-json caption_extension": {".none-use-foldername", ".txt-no", ".txt2"},  # the present dropdown refuses them
        "gui-json min_timestep": {"False"},
        # persistent workers are cast to a number by the GUI; "False" is its known fault in the embedding tab
        "toml persistent_data_loader_workers": {"0"},
        "toml resume_from_huggingface": {"False"},
    }


def test_the_command_prints_json():
    command = [sys.executable, "-m", "kohyakit", "schema", "--for", "dataset"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert json.loads(done.stdout) == schema("dataset")
