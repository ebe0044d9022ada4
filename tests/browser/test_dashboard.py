"""The dashboard as a person uses it, in a real Chromium."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def project(made: ModuleType, tmp_path: Path) -> Path:
    return made.small_project(tmp_path)


def row(page: Any, version: str) -> Any:
    return page.locator(f'.row[data-id="{version}"]')


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_pick_compare_and_share_the_address(page: Any, shown: str) -> None:
    page.goto(shown)
    row(page, "1a").click()
    page.get_by_text("1 run picked").wait_for()
    row(page, "2a").locator("input").click()
    page.get_by_text("2 runs picked").wait_for()
    page.wait_for_url(re.compile(r"runs=1a%2C2a"))
    page.get_by_role("link", name="Compare").last.click()
    page.get_by_text("What the curves tell").wait_for()
    page.get_by_text("later epochs over-fit").wait_for()
    page.locator("[data-testid=stEChartsChart] canvas").first.wait_for()
    shared = page.url
    assert "runs=1a%2C2a" in shared

    # Somebody else opens the same address and sees the same.
    other = page.context.browser.new_context().new_page()
    other.goto(shared + "&view=Settings")
    other.locator("[data-testid=stMultiSelect]").get_by_text("2a").wait_for()
    other.locator("[data-testid=stDataFrame]").wait_for()
    other.context.close()

    # Back to the table: the pick is still there, and one of it can be taken back.
    page.get_by_role("link", name="Runs").first.click()
    page.locator(".row.picked").nth(1).wait_for()
    row(page, "1a").click()
    page.get_by_text("1 run picked").wait_for()
    assert page.locator(".row.picked").count() == 1


def test_hover_tells_all_runs(page: Any, shown: str) -> None:
    page.goto(shown + "compare?runs=1a,1b,2a")
    chart = page.locator("[data-testid=stEChartsChart]").first
    chart.locator("canvas").first.wait_for()
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    for _ in range(20):  # the chart draws a moment after its canvas is there
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
        page.mouse.move(box["x"] + box["width"] * 0.5 + 2, box["y"] + box["height"] * 0.5)
        page.wait_for_timeout(300)
        told = chart.inner_text()
        if all(name in told for name in ("1a", "1b", "2a")):
            break
    assert all(name in told for name in ("1a", "1b", "2a")), told
    assert "raw" not in told


def test_sort_and_filter_the_table(page: Any, shown: str) -> None:
    page.goto(shown)
    page.locator(".row").nth(5).wait_for()
    order = "els => els.map(e => e.dataset.id)"
    assert page.locator(".row").evaluate_all(order) == ["1a", "1b", "2a", "2b", "1c", "2c"]
    page.get_by_role("button", name="Loss").click()
    by_loss = page.locator(".row").evaluate_all(order)
    losses = [float(text) for text in page.locator(".row .loss div:first-child").all_inner_texts() if text != "–"]
    assert losses == sorted(losses)
    assert by_loss[-1] == "2c"  # what has no loss stands last
    field = page.get_by_placeholder(re.compile("network_dim"))
    field.fill("network_dim >= 32 and status == 'finished'")
    field.press("Enter")
    page.wait_for_function("() => true")
    row(page, "1a").wait_for(state="detached")
    assert sorted(page.locator(".row").evaluate_all(order)) == ["1b", "2a"]


def test_samples_move_together(page: Any, shown: str) -> None:
    page.goto(shown + "samples?runs=1a,2a")
    slider = page.get_by_label("training step of all samples")
    slider.wait_for()
    page.wait_for_function("() => true")
    words = page.locator(".cell figcaption")
    assert all("step 300" in text for text in words.all_inner_texts())
    slider.fill("1")  # the second of six
    assert all("step 100" in text for text in words.all_inner_texts())
    assert words.count() == 4
    page.wait_for_url(re.compile("step=100"))
    sources = page.locator(".cell img").evaluate_all("els => els.map(e => decodeURIComponent(e.src))")
    assert all("_000100_" in source for source in sources)
    page.wait_for_function(
        "() => { const walk = (n) => [...n.querySelectorAll('*')].flatMap((e) =>"
        " [e, ...(e.shadowRoot ? walk(e.shadowRoot) : [])]);"
        " const seen = walk(document).filter((e) => e.matches('.cell img'));"
        " return seen.length && seen.every((i) => i.complete && i.naturalWidth); }"
    )
    page.locator(".cell button").first.click()
    stage = page.locator("dialog[open] .pictures img")
    assert stage.count() == 2
    page.keyboard.press("ArrowRight")
    assert all("_000150_" in source for source in stage.evaluate_all("els => els.map(e => decodeURIComponent(e.src))"))
    page.keyboard.press("Escape")
    page.locator("dialog[open]").wait_for(state="detached")


def test_before_and_after(page: Any, shown: str) -> None:
    page.goto(shown + "samples?runs=1a&show=Before+and+after")
    divider = page.get_by_label("how much of the one and of the other picture").first
    divider.wait_for()
    divider.fill("250")
    assert page.locator(".split").first.evaluate("e => e.style.getPropertyValue('--cut')") == "25%"


def test_a_half_written_sample_is_shown_as_such(page: Any, serve: Callable[..., str], project: Path) -> None:
    last = sorted((project / "sample").glob("1a_000300_00_*.png"))[0]
    last.write_bytes(last.read_bytes()[:900])
    url = serve(project)
    with urllib.request.urlopen(f"{url}picture?path=sample/{last.name}&w=320", timeout=20) as answer:
        assert answer.headers["content-type"] == "image/svg+xml"
        assert answer.headers["cache-control"] == "no-store"
        assert b"still being written" in answer.read()
    page.goto(url + "samples?runs=1a")
    page.locator(".cell img").first.wait_for()


def test_nothing_outside_the_project_is_served(
    serve: Callable[..., str], project: Path, tmp_path: Path, made: ModuleType
) -> None:
    made.picture(tmp_path / "secret.png", (40, 40))
    url = serve(project)
    for path in ("../secret.png", str(tmp_path / "secret.png"), "%2e%2e/secret.png", "sample/../../secret.png"):
        assert status(f"{url}picture?path={path}") == 404
    for path in ("..%2f..%2fetc/passwd", "app/static/../../secret.png", "media/../../secret.png"):
        assert status(url + path) != 200 or b"PNG" not in urllib.request.urlopen(url + path, timeout=20).read(64)


def test_a_foreign_host_name_is_refused(shown: str) -> None:
    assert status(shown) == 200
    assert status(shown, Host="evil.example") == 403


def test_another_address_asks_for_the_token(page: Any, serve: Callable[..., str], project: Path) -> None:
    address = serve(project, "--address", "0.0.0.0")
    bare, token = address.split("?token=")
    port = re.search(r":(\d+)/", bare)
    assert port is not None
    local = f"http://127.0.0.1:{port.group(1)}/"
    for path in ("", "compare", "picture?path=sample/x.png", "_stcore/health", "static/js/x.js", "?token=wrong"):
        assert status(local + path) == 403
    page.goto(local)
    page.get_by_text("asks for its token").wait_for()
    page.goto(f"{local}?token={token}")
    page.locator(".row").first.wait_for()
    assert "token" not in page.url


def said(caption: Path, page: Any, wanted: str) -> str:
    """The caption once it says this, or as it is after ten seconds."""
    for _ in range(100):
        if caption.exists() and caption.read_text(encoding="utf-8") == wanted:
            break
        page.wait_for_timeout(100)
    return caption.read_text(encoding="utf-8")


@pytest.fixture
def desk(page: Any, serve: Callable[..., str], project: Path) -> Path:
    """The Captions page at a photo whose caption is known, its field ready -> the caption file."""
    folder = project / "img" / "10_sks lighthouse"
    for at, path in enumerate(sorted(folder.glob("*.jpg"))):
        path.with_suffix(".txt").write_text(f"sks lighthouse,sea, day {at}\n", encoding="utf-8")
    page.goto(serve(project) + "captions")
    page.locator(".desk .tile").first.wait_for()
    page.get_by_label("add a tag").first.click()
    return sorted(folder.glob("*.txt"))[0]


def test_a_caption_survives_leaving_the_page(page: Any, desk: Path) -> None:
    """Typed, no button pressed, another page opened from the menu at once; typed, and the browser closed."""
    page.keyboard.type("fog\n")
    page.get_by_role("link", name="Runs").first.click(delay=60)  # as a finger does it
    row(page, "1a").wait_for()
    wanted = "sks lighthouse,sea, day 0, fog\n"
    told = said(desk, page, wanted) == wanted
    page.get_by_role("link", name="Captions").first.click()
    page.locator(".desk .tile").first.wait_for()
    assert told or said(desk, page, wanted) == wanted  # the browser kept it, and the page writes it on coming back
    page.get_by_label("add a tag").first.click()
    page.keyboard.type("night\n")
    page.goto("about:blank")
    wanted = "sks lighthouse,sea, day 0, fog, night\n"
    if said(desk, page, wanted) != wanted:
        page.go_back()
        page.locator(".desk .tile").first.wait_for()
    assert said(desk, page, wanted) == wanted


def test_captions_by_keys_alone(page: Any, desk: Path) -> None:
    """Completion, a new tag, a tag taken out, moved and edited, taken back, the next photo: no mouse, and no byte of a
    caption changes but where it was touched.
    """
    second = desk.parent / sorted(path.name for path in desk.parent.glob("*.txt"))[1]
    page.keyboard.type("fog\n")
    assert said(desk, page, "sks lighthouse,sea, day 0, fog\n") == "sks lighthouse,sea, day 0, fog\n"
    page.keyboard.press("Enter")  # nothing typed: on to the next
    page.keyboard.type("fo")
    page.keyboard.press("Tab")  # the tag that the first photo has by now
    page.keyboard.press("ArrowLeft")  # into the chips, at the last
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Delete")  # day 1
    assert said(second, page, "sks lighthouse,sea, fog\n") == "sks lighthouse,sea, fog\n"
    page.keyboard.press("Control+z")
    assert said(second, page, "sks lighthouse,sea, day 1, fog\n") == "sks lighthouse,sea, day 1, fog\n"
    page.keyboard.press("Control+ArrowLeft")
    assert said(second, page, "sks lighthouse, day 1, sea, fog\n") == "sks lighthouse, day 1, sea, fog\n"
    page.keyboard.press("Shift+F")  # only photos without it
    page.get_by_text("11 of 12 photos").wait_for()
    page.get_by_role("button", name="not day 1 ×").click()
    page.get_by_text("12 of 12 photos").wait_for()
    page.get_by_text("History").click()
    page.get_by_role("button", name="Take back").first.click()
    assert said(second, page, "sks lighthouse,sea, day 1, fog\n") == "sks lighthouse,sea, day 1, fog\n"


def test_a_tag_is_edited_where_it_stands_and_all_are_taken_out_at_once(page: Any, desk: Path) -> None:
    for key in ("Home", "Delete", "Enter"):  # the first is gone; the one behind it is edited
        page.keyboard.press(key)
    page.keyboard.type("calm sea\n")
    assert said(desk, page, "calm sea, day 0\n") == "calm sea, day 0\n"
    for key in ("ArrowLeft", "Enter", "Escape", "ArrowLeft", "Home", "Escape"):  # begun and left
        page.keyboard.press(key)
    page.keyboard.type("alley\n")
    assert said(desk, page, "calm sea, day 0, alley\n") == "calm sea, day 0, alley\n"
    page.keyboard.press("Control+Backspace")
    page.keyboard.type("alley, archway\n")
    assert said(desk, page, "alley, archway\n") == "alley, archway\n"


def test_a_caption_changed_elsewhere_is_not_written_over(page: Any, desk: Path) -> None:
    desk.write_text("from another editor", encoding="utf-8")
    page.keyboard.type("fog\n")
    page.get_by_text("was changed elsewhere while you wrote").wait_for()
    page.get_by_text("On disk now: from another editor").wait_for()
    assert desk.read_text(encoding="utf-8") == "from another editor"
    page.reload()  # what was typed is still there
    page.get_by_text("was changed elsewhere while you wrote").wait_for()
    page.get_by_role("button", name="Write mine over it").click()
    assert said(desk, page, "sks lighthouse,sea, day 0, fog\n") == "sks lighthouse,sea, day 0, fog\n"
    page.get_by_text("not saved yet").wait_for(state="hidden")
    desk.write_text("from yet another", encoding="utf-8")
    page.get_by_label("add a tag").first.click()
    page.keyboard.type("night\n")
    page.get_by_role("button", name="Drop mine").click()
    page.get_by_role("button", name="only photos without sea").click()  # the page is made anew in between
    page.get_by_text("1 of 12 photos").wait_for()
    page.get_by_role("button", name="not sea ×").click()
    page.get_by_text("12 of 12 photos").wait_for()
    page.get_by_label("add a tag").first.click()
    page.keyboard.type("dawn\n")  # what comes after a conflict is saved as before it
    assert said(desk, page, "from yet another, dawn") == "from yet another, dawn"


def test_on_a_phone_the_menu_closes_after_a_choice(browser: Any, shown: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.goto(shown)
    row(page, "1a").wait_for()
    page.get_by_test_id("stExpandSidebarButton").first.click()
    page.get_by_role("link", name="Live").click()
    page.get_by_text("No training runs").wait_for()
    page.wait_for_function("() => document.querySelector('[data-testid=stSidebar]').getBoundingClientRect().right <= 0")
    context.close()


def test_edit_a_preset(page: Any, serve: Callable[..., str], project: Path) -> None:
    (project / "presets").mkdir()
    path = project / "presets" / "dog.toml"
    path.write_text('network_dim = 16\nlearning_rate = 1e-4\noutput_name = "dog"\n', encoding="utf-8")
    page.goto(serve(project) + "preset?preset=presets/dog.toml")
    dim = page.get_by_role("spinbutton", name="network_dim")
    dim.fill("0")  # below the bound that the declaration names
    dim.press("Enter")
    page.get_by_text(re.compile("greater than or equal to 1")).wait_for()
    dim.fill("48")
    dim.press("Enter")
    page.get_by_text("was 16").wait_for()
    page.get_by_label("Name", exact=True).fill("dog 48")
    page.get_by_label("Name", exact=True).press("Enter")
    page.get_by_role("button", name="Save", exact=False).last.click()
    page.get_by_text("Saved as").wait_for()
    assert "network_dim = 48" in (project / "presets" / "dog 48.toml").read_text(encoding="utf-8")
    assert "network_dim = 16" in path.read_text(encoding="utf-8")


def test_export_one_file_that_needs_no_network(
    page: Any, serve: Callable[..., str], project: Path, tmp_path: Path
) -> None:
    from kohyakit.runs.run import open_run

    open_run(project / "runs" / "1a").update(note="<script>document.title = 'broken'</script>")
    page.goto(serve(project) + "compare?runs=1a,2a&view=Export")
    with page.expect_download() as got:
        page.get_by_role("button", name="Comparison as HTML").click()
    file = tmp_path / "compare.html"
    got.value.save_as(file)
    text = file.read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    alone = page.context.browser.new_context(offline=True).new_page()
    asked: list[str] = []
    alone.on("request", lambda request: asked.append(request.url))
    alone.goto(file.as_uri())
    assert alone.title() != "broken"
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert alone.locator("svg path[data-run]").count() >= 4
    assert alone.locator("img").count() >= 4
    assert alone.locator("img").evaluate_all("els => els.every(e => e.complete && e.naturalWidth > 0)")
    alone.locator("svg").first.hover()
    alone.locator(".tip:not([hidden])").first.wait_for()
    assert "1a" in alone.locator(".tip:not([hidden])").first.inner_text()
    alone.context.close()


def test_a_chart_saves_itself(page: Any, shown: str) -> None:
    page.goto(shown + "compare?runs=1a,2a&view=Export")
    with page.expect_download() as got:
        page.get_by_role("button", name="Loss, average").click()
    assert Path(got.value.path()).read_bytes().startswith(b"<svg")
    with page.expect_download() as got:
        page.get_by_role("button", name="Metrics as CSV").click()
    lines = Path(got.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "run,tag,step,value,wall_time"
    assert len(lines) == 1 + 2 * (4 * 300 + 20)


def test_no_request_leaves_this_machine(page: Any, shown: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for path in ("", "compare?runs=1a,2a", "samples?runs=1a", "captions", "preset", "live"):
        page.goto(shown + path)
        page.locator("h1").first.wait_for()
        page.wait_for_timeout(500)
    foreign = [one for one in asked if not one.startswith((shown, shown.replace("http", "ws"), "data:", "blob:"))]
    assert foreign == []


def test_phone(browser: Any, shown: str) -> None:
    """At phone width nothing is wider than the screen."""
    page = browser.new_context(viewport={"width": 390, "height": 844}).new_page()
    page.set_default_timeout(60_000)
    for path in ("", "compare?runs=1a,2a", "samples?runs=1a", "captions", "preset", "live"):
        page.goto(shown + path)
        page.locator("h1").first.wait_for()
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        page.wait_for_timeout(100)  # what was sent last is laid out
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    page.context.close()


def test_the_index_names_what_the_wall_shows(project: Path) -> None:
    lines = [
        json.loads(line) for line in (project / "sample" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert {line["run"] for line in lines} == {"1a", "1b", "1c", "2a", "2b"}
