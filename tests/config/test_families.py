"""The table of model families against facts of sd-scripts 0.10.1 and its GUI, each looked up in their sources."""

from __future__ import annotations

import pytest

from kohyakit.config.scripts import BUCKET_STEPS, FAMILIES, SCRIPTS, model_family
from kohyakit.errors import ConfigError
from kohyakit.formats.gui.keys import FLAGS
from kohyakit.formats.gui.keys import SCRIPTS as OF_TABS
from kohyakit.registry import Table
from kohyakit.registry.families import MODELS, FamilyEntry, group_of, in_group, titles_here
from kohyakit.registry.networks import NETWORKS


def test_programs_train_one_group_each() -> None:
    assert {script: FAMILIES[script] for script in SCRIPTS} == {
        "train_network.py": "sd", "train_db.py": "sd", "fine_tune.py": "sd", "train_textual_inversion.py": "sd",
        "sdxl_train_network.py": "sdxl", "sdxl_train.py": "sdxl", "sdxl_train_textual_inversion.py": "sdxl",
        "flux_train_network.py": "flux", "flux_train.py": "flux", "sd3_train_network.py": "sd3",
        "sd3_train.py": "sd3", "hunyuan_image_train_network.py": "hunyuan_image",
        "anima_train_network.py": "anima", "anima_train.py": "anima", "lumina_train_network.py": "lumina",
        "lumina_train.py": "lumina",
    }  # fmt: skip
    assert (model_family("fine_tune.py"), model_family("fine_tune.py", v2=True)) == ("sd1", "sd2")
    assert (model_family("sdxl_train.py", v2=True), model_family("mine.py")) == ("sdxl", "")


def test_bucket_steps_are_what_each_program_asserts() -> None:
    """`verify_bucket_reso_steps` and the assertions on bucket_reso_steps in each program."""
    assert {steps: {script for script in SCRIPTS if BUCKET_STEPS[script] == steps} for steps in (8, 16, 64)} == {
        8: {"sd3_train.py"},
        16: {"flux_train.py", "anima_train_network.py", "anima_train.py", "lumina_train_network.py", "lumina_train.py"},
        64: {"train_network.py", "train_db.py", "fine_tune.py", "train_textual_inversion.py"},
    }
    assert all(BUCKET_STEPS[script] in (8, 16, 32, 64) for script in SCRIPTS)


def test_tabs_of_the_gui_ask_for_families_in_its_order() -> None:
    """An `if`, `elif` chain in each tab of kohya_ss 26.0.0, which counts where several boxes are ticked."""
    assert list(OF_TABS["lora"]) == ["sdxl", "flux1", "sd3", "hunyuan_image", "anima", "lumina", ""]
    assert list(OF_TABS["dreambooth"]) == ["sdxl", "sd3", "flux1", ""]
    assert list(OF_TABS["finetune"]) == ["sdxl", "sd3", "flux1", "anima", "lumina", ""]
    assert OF_TABS["ti"] == {"sdxl": "sdxl_train_textual_inversion.py", "": "train_textual_inversion.py"}
    assert FLAGS["sdxl"] == ("sdxl", "sdxl_checkbox")


@pytest.mark.parametrize(
    ("family", "v", "version", "architecture"),
    [
        ("sd1", False, "sd_v1", "stable-diffusion-v1"),
        ("sd1", True, "sd_v1_v", "stable-diffusion-v1"),
        ("sd2", False, "sd_v2", "stable-diffusion-v2-512"),
        ("sd2", True, "sd_v2_v", "stable-diffusion-v2-768-v"),
        ("sdxl", True, "sdxl_base_v1-0", "stable-diffusion-xl-v1-base"),
    ],
)
def test_records_are_sd_scripts_names(family: str, v: bool, version: str, architecture: str) -> None:
    """`get_sd_model_version` and `sai_model_spec.build_metadata`."""
    record = MODELS[family].record(v=v)
    assert (record.version, record.architecture) == (version, architecture)


def test_groups_and_names() -> None:
    assert [group_of(name) for name in ("sd1", "sd2", "sdxl", "flux", "unheard")] == [
        "sd",
        "sd",
        "sdxl",
        "flux",
        "unheard",
    ]
    assert (in_group("sd"), in_group("sd", v2=True), in_group("nobody's")) == ("sd1", "sd2", "")
    assert titles_here() == "Stable Diffusion 1.x, 2.x and XL"
    groups = {entry.group for entry in MODELS.values()}
    assert all(set(entry.families) <= groups for entry in NETWORKS.values())


def test_a_name_that_is_taken_is_not_added() -> None:
    table = Table("model family", {"sd1": FamilyEntry("a:A", "one", ("sd15",))})
    table.add("mine", FamilyEntry("b:B", "another", ("my",)))
    assert (list(table), table["MY"].help) == (["sd1", "mine"], "another")
    for name, aliases in (("SD1", ()), ("new", ("sd15",))):
        with pytest.raises(ConfigError, match="is there already; choose another name"):
            table.add(name, FamilyEntry("c:C", "a third", aliases))
    assert list(table) == ["sd1", "mine"]
