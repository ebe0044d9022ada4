"""Every page starts: on a full project, an empty one, a damaged one. AppTest sees no charts; others test functions."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest
from streamlit.testing.v1 import AppTest

from kohyakit.dashboard.pages.captions import image_folders
from kohyakit.dashboard.pages.data_set import resolution_for
from kohyakit.dashboard.read.project import PROJECT_VARIABLE, Project
from kohyakit.resources import shared_dir
from kohyakit.runs.process import this_process

PAGES = ("runs", "compare", "samples", "dataset", "captions", "preset", "live", "run")


def open_page(name: str = "runs", **query: str) -> AppTest:
    app = AppTest.from_file(shared_dir("dashboards") / "app.py", default_timeout=90)
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    if name != "runs":
        app.switch_page(f"views/{name}.py").run()
    assert not app.exception, [error.message for error in app.exception]
    return app


def words(app: AppTest) -> str:
    """All plain text of a page."""
    parts = [*app.markdown, *app.caption, *app.error, *app.warning, *app.info, *app.success, *app.subheader]
    return "\n".join(str(part.value) for part in parts)


@pytest.mark.parametrize("name", PAGES)
def test_every_page_of_a_full_project(project: Path, name: str) -> None:
    app = open_page(name, runs="1a,2a")
    assert app.title[0].value


@pytest.mark.parametrize("name", PAGES)
def test_every_page_of_an_empty_folder_says_what_to_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(PROJECT_VARIABLE, str(tmp_path))
    said = words(open_page(name))
    assert any(word in said.lower() for word in ("start one", "put ", "choose one", "train"))


@pytest.mark.parametrize("name", ["runs", "compare", "samples", "live"])
def test_a_run_folder_deleted_under_the_page(project: Path, name: str) -> None:
    app = open_page(name, runs="1a,2a")
    shutil.rmtree(project / "runs" / "2a")
    app.run()
    assert not app.exception
    shutil.rmtree(project / "runs")
    shutil.rmtree(project / "sample")
    app.run()
    assert not app.exception


def test_a_pick_that_is_not_there_is_named(project: Path) -> None:
    app = open_page("runs", runs="1a,9z")
    assert "9z" in app.run().warning[0].value
    assert app.session_state["picked"] == ["1a"]


def test_the_pick_goes_from_page_to_page(project: Path) -> None:
    app = open_page("compare", runs="1a,2a")
    assert app.multiselect[0].value == ["1a", "2a"]
    app.switch_page("views/samples.py").run()
    assert app.multiselect[0].value == ["1a", "2a"]
    app.multiselect[0].set_value(["2b"]).run()
    assert app.session_state["picked"] == ["2b"]


def test_a_filter_that_is_none_is_a_sentence(project: Path) -> None:
    app = open_page("runs")
    app.text_input(key="filter").set_value("network_dim >").run()
    assert "filter" in app.warning[0].value
    app.text_input(key="filter").set_value("network_dim > 1000").run()
    assert "No run fits" in words(app)


def test_settings_that_differ(project: Path) -> None:
    app = open_page("compare", runs="1a,1b", view="Settings")
    table = app.dataframe[0].value
    assert list(table.index) == ["network_dim", "network_alpha"]
    assert table.loc["network_dim", ["1a", "1b", "change"]].tolist() == ["16", "32", "× 2"]


def test_markup_from_files_stays_text(project: Path) -> None:
    """A name, a note, a caption and a preset full of markup: none of it may become Markdown or HTML."""
    evil = "<img src=x onerror=alert(1)> **bold** [link](javascript:alert(1)) :red[x]"
    from kohyakit.runs.run import open_run

    open_run(project / "runs" / "1a").update(name=evil, note=evil, outcome=evil, changes=[evil], parent="1b")
    (project / "img" / "10_sks lighthouse" / "beach-02.txt").write_text(evil, encoding="utf-8")
    (project / "presets").mkdir()
    (project / "presets" / "evil.toml").write_text(
        "'<b>x</b> **y**' = 1\nnetwork_dim = '[z](javascript:1)'\n", encoding="utf-8"
    )
    for app in (
        open_page("compare", runs="1a,2a"),
        open_page("captions"),
        open_page("live"),
        open_page("preset", preset="presets/evil.toml"),
    ):
        for part in (*app.markdown, *app.caption, *app.error, *app.warning, *app.info):
            text = str(part.value)
            assert "<img" not in text
            assert "**bold**" not in text
            assert "**y**" not in text
            assert "](javascript" not in text
        for part in app.get("html"):
            assert "<img src=x" not in str(part.proto.body)
            assert "<b>x</b>" not in str(part.proto.body)


def test_live_shows_a_running_training(project: Path, made: ModuleType) -> None:
    folder = made.write_run(project, "3a", status="running", process=asdict(this_process()), steps=300, name="harbour")
    (folder / "progress.json").write_text(
        '{"step": 150, "steps": 300, "epoch": 3, "epochs": 6, "average": 0.0912, "seconds_left": 600, "memory_gib": 2}',
        encoding="utf-8",
    )
    (folder / "log.txt").write_text("first\nsecond\n", encoding="utf-8")
    app = open_page("live")
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Time left"] == "10 min"
    assert shown["Epoch"] == "3 / 6"
    assert shown["Loss"] == "0.0912"
    assert shown["Memory"] == "2.0 GiB"
    assert "harbour" in app.subheader[0].value
    app.button(key=f"stop_{folder}").click().run()
    assert (folder / "stop").exists()
    assert "stops after this step" in words(app)


def test_live_tells_of_a_killed_training(project: Path, made: ModuleType) -> None:
    gone = {**asdict(this_process()), "pid": 2**22 - 3, "born": "long ago"}
    made.write_run(project, "3a", status="running", process=gone, day=9)
    told = words(open_page("live"))
    assert "lost, " in told  # as the filter and the command line call it
    assert "process gone" in told


def preset(project: Path, text: str = 'network_dim = 16\nlearning_rate = 1e-4\noutput_name = "dog"\n') -> Path:
    folder = project / "presets"
    folder.mkdir(exist_ok=True)
    (folder / "dog.toml").write_text(text, encoding="utf-8")
    return folder / "dog.toml"


def field(app: AppTest, kind: str, label: str):
    return next(widget for widget in getattr(app, kind) if widget.label.replace("\\", "") == label)


def test_a_preset_is_edited_and_saved_beside_the_old_one(project: Path) -> None:
    path = preset(project)
    before = path.read_bytes()
    app = open_page("preset", preset="presets/dog.toml")
    field(app, "number_input", "network_dim").set_value(32).run()
    field(app, "text_input", "Name").set_value("dog two").run()
    field(app, "button", "Save").click().run()
    assert not app.exception
    assert path.read_bytes() == before
    from kohyakit.formats import load

    saved = load(project / "presets" / "dog two.toml")
    assert (saved["network_dim"], saved["learning_rate"], saved["output_name"]) == (32, 1e-4, "dog")


def test_nothing_is_overwritten_without_a_word(project: Path) -> None:
    path = preset(project)
    before = path.read_bytes()
    app = open_page("preset", preset="presets/dog.toml")
    field(app, "number_input", "network_dim").set_value(8).run()
    assert field(app, "button", "Save").disabled
    field(app, "checkbox", "Replace the file of that name (it is kept as .old)").check().run()
    field(app, "button", "Save").click().run()
    assert b"network_dim = 8" in path.read_bytes()
    assert (project / "presets" / "dog.toml.old-1").read_bytes() == before


def test_the_forms_bounds_are_the_declarations(project: Path) -> None:
    preset(project)
    app = open_page("preset", preset="presets/dog.toml")
    dim = field(app, "number_input", "network_dim")
    assert dim.min == 1
    assert "Rank of the LoRA" in dim.help.replace("\\", "")
    field(app, "text_input", "learning_rate").set_value("fast").run()
    assert any("a number was wanted" in str(part.value) for part in app.caption)
    assert field(app, "button", "Start training").disabled


def test_a_relative_path_means_the_same_in_check_save_and_start(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From the project's folder, wherever the dashboard was started; not from a folder of the same name there."""
    (tmp_path / "elsewhere" / "photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = 'train_data_dir = "img"\noutput_dir = "model"\noutput_name = "dog"\nresolution = "64,64"\n'
    preset(project, text)
    app = open_page("preset", preset="presets/dog.toml")
    assert {metric.label: metric.value for metric in app.metric}["Images an epoch"] != "0"
    assert "img" not in " ".join(str(error.value) for error in app.error)
    field(app, "text_input", "Name").set_value("saved").run()
    field(app, "button", "Save").click().run()
    from kohyakit.formats import load

    assert load(project / "presets" / "saved.toml")["train_data_dir"] == "img"
    preset(project, text.replace('"img"', '"photos"'))
    told = [str(part.proto.body) for part in open_page("preset", preset="presets/dog.toml").get("html")]
    assert any("photos" in body for body in told), "a folder beside the dashboard's start is not the project's"


def test_names_are_chosen_from_lists_or_written(project: Path) -> None:
    """And what differs from the defaults is marked: by the widget's key, which Streamlit makes its class."""
    preset(project, 'network_dim = 16\nlr_scheduler = "cosine"\n')
    app = open_page("preset", preset="presets/dog.toml")
    menu = field(app, "selectbox", "lr_scheduler")
    assert menu.value == "cosine"
    assert {"constant", "cosine_with_restarts", "warmup_stable_decay"} <= set(menu.options)
    assert menu.proto.accept_new_options
    style = next(str(part.proto.body) for part in app.get("html") if "st-key-field_" in str(part.proto.body))
    assert "_lr_scheduler" in style
    assert "_optimizer_type" not in style
    field(app, "selectbox", "optimizer_type").set_value("Lion").run()
    style = next(str(part.proto.body) for part in app.get("html") if "st-key-field_" in str(part.proto.body))
    assert "_optimizer_type" in style


def test_a_damaged_photo_is_named_before_the_start(project: Path) -> None:
    from kohyakit.dashboard.read.preset import Draft, judge

    photo = sorted((project / "img" / "10_sks lighthouse").glob("*.jpg"))[0]
    whole = photo.read_bytes()
    text = f'train_data_dir = "{(project / "img").as_posix()}"\nresolution = "64,64"\n'
    assert judge(Draft("dog.toml", text)).bad_images == ()
    photo.write_bytes(whole[: len(whole) // 2])
    judged = judge(Draft("dog.toml", text))
    assert [Path(problem.where).name for problem in judged.bad_images] == [photo.name]
    assert len(judged.errors) > 1, "no model is named: that still stops the training"
    photo.write_bytes(whole)
    assert judge(Draft("dog.toml", text)).bad_images == ()


@pytest.mark.parametrize(
    "text",
    ["", "network_dim = ", "[[[", "\x00\x01", "= = =", '{"a": 1', "network_dim = 'many'\nnetwork_alpha = 'more'"],
)
def test_a_preset_that_cannot_be_read(project: Path, text: str) -> None:
    preset(project, text)
    app = open_page("preset", preset="presets/dog.toml")
    assert app.error or any("k-sentences" in str(part.proto.body) for part in app.get("html"))


def test_a_caption_is_edited_and_taken_back(project: Path) -> None:
    caption = project / "img" / "10_sks lighthouse" / "beach-02.txt"
    before = caption.read_bytes()
    app = open_page("captions", edit="List")
    field(app, "text_area", "10_sks lighthouse/beach-02.jpg").set_value("sks lighthouse, fog")
    field(app, "button", "Save captions").click().run()
    assert caption.read_text(encoding="utf-8") == "sks lighthouse, fog"
    app.segmented_control(key="edit").set_value("History").run()
    field(app, "button", "Take back").click().run()
    assert not app.exception
    assert caption.read_bytes() == before


def test_a_caption_is_saved_when_its_field_is_left(project: Path) -> None:
    """No button needed: another page, a filter or a closed browser loses nothing."""
    caption = project / "img" / "10_sks lighthouse" / "beach-02.txt"
    before = caption.read_bytes()
    app = open_page("captions", edit="List")
    field(app, "text_area", "10_sks lighthouse/beach-02.jpg").set_value("sks lighthouse, fog")
    app.run()  # the browser tells of a field when it is left
    assert caption.read_bytes() != before
    app.switch_page("views/runs.py").run()
    app.switch_page("views/captions.py").run()
    app.segmented_control(key="edit").set_value("List").run()
    assert caption.read_text(encoding="utf-8") == "sks lighthouse, fog"
    assert field(app, "text_area", "10_sks lighthouse/beach-02.jpg").value == "sks lighthouse, fog"


def test_what_was_typed_over_a_changed_file_stays_on_the_page(project: Path) -> None:
    caption = project / "img" / "10_sks lighthouse" / "beach-02.txt"
    app = open_page("captions", edit="List")
    caption.write_text("from another editor", encoding="utf-8")
    field(app, "text_area", "10_sks lighthouse/beach-02.jpg").set_value("an hour's work").run()
    assert caption.read_text(encoding="utf-8") == "from another editor"
    assert "an hour's work" in [code.value for code in app.code]
    assert field(app, "text_area", "10_sks lighthouse/beach-02.jpg").value == "from another editor"


def test_captions_in_bulk_are_shown_before_they_are_done(project: Path) -> None:
    folder = project / "img" / "10_sks lighthouse"
    before = {path: path.read_bytes() for path in folder.glob("*.txt")}
    app = open_page("captions", edit="Many at once")
    field(app, "text_input", "Tag").set_value("golden hour").run()
    assert {path: path.read_bytes() for path in folder.glob("*.txt")} == before
    assert "12 captions would change" in words(app)
    field(app, "button", "Change 12 captions").click().run()
    assert all(path.read_text(encoding="utf-8").endswith(", golden hour") for path in before)


def test_a_grid_of_epochs_and_strengths(project: Path, made: ModuleType) -> None:
    """A prompt line a strength (`--am`), as the trainer notes them; rows are steps, columns strengths in order."""
    import json

    lines = []
    for step in (100, 200):
        for index, strength in enumerate((1.0, 0.5, 0.0)):
            name = f"grid_{step}_{strength}.png"
            made.picture(project / "sample" / name, (16, 16))
            told = {"step": step, "index": index, "prompt": "a", "seed": 1, "network_multiplier": strength, "run": "1a"}
            lines.append({"file": name, **told})
    with (project / "sample" / "samples.jsonl").open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))
    app = open_page("samples", runs="1a", show="Epochs × strengths")
    grid = json.loads(app.get("bidi_component")[0].proto.json)
    assert [group["title"] for group in grid["groups"]] == ["step 100", "step 200"]
    assert [item["badge"] for item in grid["groups"][0]["items"]] == ["strength 0", "strength 0.5", "strength 1"]


def test_a_failed_run_says_why_on_its_own_page(project: Path) -> None:
    (project / "runs" / "1c" / "log.txt").write_text("loading\ntorch.OutOfMemoryError\n", encoding="utf-8")
    app = open_page("run", run="1c")
    assert "CUDA out of memory" in app.error[0].value
    assert "OutOfMemoryError" in app.code[0].value
    assert {metric.label: metric.value for metric in app.metric}["Status"] == "failed"
    app.segmented_control(key="part_of_run").set_value("Settings").run()
    assert "learning_rate" in app.dataframe[0].value.index
    assert open_page("run", run="1a").error == []


def test_a_note_is_written_and_seen(project: Path) -> None:
    from kohyakit.runs.run import open_run

    app = open_page("run", run="1b")
    field(app, "text_area", "Note").set_value("rank 32 is plenty")
    field(app, "button", "Save name and note").click().run()
    assert not app.exception
    assert open_run(project / "runs" / "1b").record.note == "rank 32 is plenty"
    rows = open_page("runs").get("bidi_component")[0].proto.json
    assert "rank 32 is plenty" in rows


def test_counts_add_up_after_filtering(project: Path) -> None:
    app = open_page("runs")
    assert "6 runs" in words(app)
    app.text_input(key="filter").set_value("out of memory").run()
    assert "1 of 6 runs" in words(app)


def test_the_set_is_judged_at_its_preset_s_resolution(project: Path) -> None:
    preset(project, 'train_data_dir = "img"\nresolution = "192,192"\n')
    app = open_page("dataset")
    assert app.selectbox[-1].value == 192
    at = {}
    for side in (192, 1024):
        app.selectbox[-1].select(side).run()
        at[side] = next(metric.value for metric in app.metric if metric.label == "Warnings")
    assert int(at[192]) < int(at[1024]), "the same pictures are too small for the larger one only"
    preset(project, 'train_data_dir = "elsewhere"\nresolution = "192,192"\n')
    assert open_page("dataset").selectbox[-1].value == 512


def test_a_folder_above_the_one_that_is_trained_is_judged_as_that(project: Path) -> None:
    preset(project, 'train_data_dir = "img/10_sks lighthouse"\nresolution = "192,192"\n')
    assert resolution_for(Project.open(project), project.resolve()) == 192
    assert resolution_for(Project.open(project), project.resolve() / "reg") == 512


def test_a_picture_beside_img_makes_no_set_of_the_project(project: Path) -> None:
    """The demo leaves its sheet of samples there."""
    photo = next((project / "img" / "10_sks lighthouse").glob("*.jpg"))
    shutil.copy(photo, project / "learnt.jpg")
    opened = Project.open(project)
    assert image_folders(opened)[0] == opened.root / "img"
    (project / "img").rename(project / "photos")
    assert image_folders(opened)[0] == opened.root


def test_a_set_is_mended_and_taken_back_on_its_page(project: Path) -> None:
    photo = sorted((project / "img" / "10_sks lighthouse").glob("*.jpg"))[0]
    cut = photo.read_bytes()[: photo.stat().st_size // 2]
    photo.write_bytes(cut)
    app = open_page("dataset", look="Mend")
    assert photo.name in "".join(str(part.proto.body) for part in app.get("html"))
    next(button for button in app.button if button.label.startswith("Mend ")).click().run()
    assert not app.exception
    assert not photo.exists()
    assert list(project.glob("img/**/_quarantine/**/*.jpg"))
    field(app, "button", "Take the last repair back").click().run()
    assert photo.read_bytes() == cut
