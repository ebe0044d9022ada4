"""Prompt lines against sd-scripts' own reading; every line where ours differs is listed with what was meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kohyakit.errors import ConfigError
from kohyakit.formats.prompt_lines import SamplePrompt, parse_line, read, to_line

NAMES = {"sampler": "sample_sampler"}

# line (its start) -> what sd-scripts reads otherwise, and what the person meant.
MEANT = {
    "photo, church interior, in the style of medieval city, realistic, 8K, --w 768--h": {"height": 640},
    "statue --n low-res, --- bad--anatomy": {"negative_prompt": "low-res, --- bad--anatomy, semi-real"},
    "city --l 7,5": {"scale": 7.5},
    "city --w=512 --h=512": {"width": 512, "height": 512},
    "city --w512": {"width": 512},
    "--w 512 --h 512": {"prompt": "", "width": 512},
    "w 512 --h 256": {"width": 512},
    "d 5 dogs --w 128": {"seed": None},
    "n nothing negative": {"negative_prompt": None},
    "city --n  two spaces": {"negative_prompt": "two spaces"},
    "city —w 512": {"prompt": "city", "width": 512},
    "city\t--w 512": {"prompt": "city", "width": 512},
    "s 20 steps stair": {},
    "g 12 string guitar": {"guidance_scale": None},
}
SKIPPED_BY_US = "   # indented comment --w 512"


def meant(line: str) -> dict | None:
    return next((change for start, change in MEANT.items() if line.startswith(start) and "--w 768 " not in line), None)


@pytest.mark.shared
def test_every_row_is_sd_scripts_own_or_listed(goldens: Path) -> None:
    rows = json.loads((goldens / "training/prompt_parse/prompts.json").read_text(encoding="utf-8"))
    seen = set()
    for row in rows:
        line = row["line"]
        if not row["kept_by_load_prompts"] or line == SKIPPED_BY_US:
            assert read(line + "\n") == (), line
            continue
        (ours,) = read(line + "\n", default_sampler="<args.sample_sampler>")
        wanted = {**{NAMES.get(k, k): v for k, v in row["parsed"].items()}}
        effective = dict(row["effective"])
        change = meant(line)
        if change is not None:
            seen.add(line)
            wanted.update(change)
            effective.update({k: v for k, v in change.items() if k in effective})
            assert ours.notes or "two spaces" in line or "---" in line, line
        for name, value in wanted.items():
            assert getattr(ours, "sampler" if name == "sample_sampler" else name) == value, (line, name)
        width, height = ours.size
        assert (width, height, ours.sample_steps, ours.scale) == (
            effective["width"] - effective["width"] % 8, effective["height"], effective["steps"], effective["scale"],
        ), line  # fmt: skip
        assert (ours.seed, ours.negative_prompt, ours.prompt, ours.sampler) == (
            effective["seed"], effective["negative_prompt"], effective["prompt"], effective["sampler"],
        ), line  # fmt: skip
    assert len(seen) == len(MEANT)


@pytest.mark.shared
def test_the_file_as_a_whole(goldens: Path, tmp_path: Path) -> None:
    golden = json.loads((goldens / "training/prompt_parse/load_prompts.json").read_text(encoding="utf-8"))
    path = tmp_path / "prompts.txt"
    path.write_text(golden["file_text"], encoding="utf-8")
    assert len(read(path)) == len(golden["load_prompts"]) - 1  # the indented comment


def sd_scripts_reading(line: str) -> dict:
    """sd-scripts' rules as the reference states them, written down independently of the code under test."""
    import re

    found: dict = {}
    parts = line.split(" --")
    found["prompt"] = parts[0]
    for part in parts:
        for name, field, pattern, kind in (
            ("w", "width", r"(\d+)", int), ("h", "height", r"(\d+)", int), ("d", "seed", r"(\d+)", int),
            ("s", "sample_steps", r"(\d+)", int), ("l", "scale", r"([\d\.]+)", float),
            ("n", "negative_prompt", r"(.+)", str),
        ):  # fmt: skip
            match = re.match(rf"{name} {pattern}", part, re.IGNORECASE)
            if match:
                found[field] = kind(match[1])
                break
    return found


WORDS = st.lists(st.sampled_from(["cat", "8K", "d", "5", "--- x", "a--n b", "#1", "(x:1.2)", "low-res,"]), max_size=6)


@given(
    words=WORDS, negative=WORDS, width=st.integers(64, 2048), height=st.integers(64, 2048), steps=st.integers(1, 1000),
    seed=st.none() | st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_what_we_write_sd_scripts_reads(words, negative, width, height, steps, seed) -> None:
    ours = SamplePrompt(" ".join(words), " ".join(negative) or None, width, height, steps, seed=seed)
    theirs = sd_scripts_reading(to_line(ours))
    assert theirs.get("width", 512) == width
    assert theirs.get("height", 512) == height
    assert theirs.get("sample_steps", 30) == steps
    assert theirs.get("seed") == seed
    assert ours.prompt.replace("---", "-") in theirs["prompt"]
    again = parse_line(to_line(ours))
    assert (again.width, again.height, again.sample_steps, again.seed) == (width, height, steps, seed)


def test_the_guides_line_is_read_as_meant_and_said() -> None:
    (prompt,) = read("photo, church, --w 768--h 640 --s 35 --n Anime\n")
    assert (prompt.width, prompt.height, prompt.sample_steps, prompt.negative_prompt) == (768, 640, 35, "Anime")
    assert prompt.notes == ("there is no space before '--h', so sd-scripts would drop it",)
    assert to_line(prompt) == "photo, church, --w 768 --h 640 --s 35 --n Anime"


def test_an_unknown_sampler_is_ddim_and_said() -> None:
    known, unknown = read("a --ss euler_a\nb --ss best\n")
    assert (known.sampler, known.notes) == ("euler_a", ())
    assert (unknown.sampler, unknown.notes) == ("ddim", ("the sampler 'best' is not known, so ddim draws",))


def test_toml_and_json(tmp_path: Path) -> None:
    toml = tmp_path / "p.toml"
    toml.write_text(
        '[prompt]\nwidth = 768\nnegative_prompt = "blurry"\n[[prompt.subset]]\nprompt = "a"\n'
        '[[prompt.subset]]\nprompt = "b"\nheight = 640\nsample_sampler = "euler_a"\n',
        encoding="utf-8",
    )
    a, b = read(toml)
    assert (a.prompt, a.width, a.height, a.negative_prompt, a.sampler) == ("a", 768, 512, "blurry", None)
    assert (b.prompt, b.width, b.height, b.sampler) == ("b", 768, 640, "euler_a")
    listing = tmp_path / "p.json"
    listing.write_text('["c --w 256", {"prompt": "d 5", "seed": 3, "steps": 4}]', encoding="utf-8")
    c, d = read(str(listing))
    assert (c.prompt, c.width, d.prompt, d.seed) == ("c", 256, "d 5", 3)
    assert d.notes == ("'steps' is not known and dropped",)


BROKEN = [("a.json", "{"), ("a.json", "{}"), ("a.json", "[1]"), ("a.toml", "x = "), ("a.toml", "x = 1")]


@pytest.mark.parametrize(("name", "text"), BROKEN)
def test_a_broken_file_is_one_sentence(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="sample prompts cannot be read"):
        read(tmp_path / name)


def test_missing_and_not_utf8(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes("Café".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        read(tmp_path / "latin.txt")


def test_the_documented_repairs() -> None:
    """docs/prompts.md: what is written in its last column is what we take."""
    import re

    page = (Path(__file__).resolve().parents[2] / "docs/prompts.md").read_text(encoding="utf-8")
    page = page.split("## Where we read what was meant")[1]
    rows = re.findall(r"^\| `([^`]+)`[^|]*\|[^|]*\| `([^`]+)` \|$", page, re.MULTILINE)
    assert len(rows) == 8
    for line, written in rows:
        assert to_line(parse_line(line)) == written


@pytest.mark.parametrize(
    ("line", "prompt", "negative", "told"),
    [
        ("full body, 1girl --n lowres,ugly --7 --w 128", "full body, 1girl", "lowres,ugly", "'--7' is not known"),
        ("a church --negative_prompt blurry --w 128", "a church", None, "write --n"),
        ("a church --cfg_scale=5 --w 128", "a church", None, "write --l"),
        ("a church --no-half --w 128", "a church", None, "'--no-half' is not known"),
        ("a church --2girls, sky --w 128", "a church", None, "is not known"),
        ("a church --Ä 1 --w 128", "a church", None, "'--ä' is not known"),
    ],
)
def test_an_option_of_any_name_is_no_part_of_the_prompt(
    line: str, prompt: str, negative: str | None, told: str
) -> None:
    # sd-scripts cuts at every " --" and drops what no pattern of its takes
    found = parse_line(line)
    assert (found.prompt, found.negative_prompt, found.width) == (prompt, negative, 128)
    assert any(told in note for note in found.notes)


@pytest.mark.parametrize(
    ("line", "strength"),
    [("cat --am 0.7", 0.7), ("cat --am -1 --w 64", -1.0), ("cat --am 0", 0.0), ("cat --am=1,5", 1.5), ("cat", None)],
)
def test_a_lora_strength_of_its_own(line, strength):
    prompt = parse_line(line)
    assert (prompt.prompt, prompt.network_multiplier) == ("cat", strength)
    assert parse_line(to_line(prompt)).network_multiplier == strength
    assert parse_line("am 5 times happier").prompt == "am 5 times happier"
