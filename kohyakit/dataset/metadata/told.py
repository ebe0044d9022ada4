"""What metadata say of a picture, as a caption of one line; and what is no caption is named for what it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kohyakit.dataset.captions.caption import has_words
from kohyakit.dataset.editing.encoding import decoded, encoding_of

LONGEST = 10_000  # characters; the longest captions that models write have 3,000
_BREAK = re.compile(r"\s+")
_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
# What cameras and programs write by themselves, the same into every picture.
_NOISE = re.compile(
    r"OLYMPUS DIGITAL CAMERA|SONY DSC|MINOLTA DIGITAL CAMERA|KONICA MINOLTA.*|SAMSUNG\w*|DCIM\S*|Screenshot|default|"
    r"Created with (?:The )?GIMP.*|CREATOR: gd-jpeg.*|File written by Adobe Photoshop.*|LEAD Technologies.*|Lavc\S+|"
    r"(?:Compressed|Optimized|Processed|Resized|Edited) (?:by|on|with) .*|AppleMark|Handmade Software.*|Intel\(R\).*",
    re.IGNORECASE,
)


class Unfit(ValueError):
    """Something stands there that is no caption or cannot be read; the text says what."""


@dataclass(frozen=True, slots=True)
class Told:
    """caption: a sentence or tags, "" for none. tags: what is listed beside it."""

    caption: str = ""
    tags: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.caption or self.tags)

    @property
    def text(self) -> str:
        """Both as one caption, nothing said twice."""
        known = {part.strip().lower() for part in self.caption.split(",")}
        fresh = dict.fromkeys(tag for tag in self.tags if tag.lower() not in known)
        return ", ".join([self.caption] * bool(self.caption) + list(fresh))


def told(caption: str = "", tags: Iterable[str] = ()) -> Told:
    """Of raw texts: each made one line, what says nothing and what programs write of themselves left out.

    Raises Unfit for what no caption file can hold.
    """
    return Told(line(caption), tuple(clean for tag in tags if (clean := line(tag).strip(" ,"))))


def line(text: str) -> str:
    """Raises Unfit for signs that are no text, and for what is longer than any caption."""
    if len(text) > 4 * LONGEST:
        raise Unfit(f"says {len(text):,} characters, more than any caption")
    clean = _BREAK.sub(" ", text.strip("\0")).strip()
    if _NO_TEXT.search(clean):
        raise Unfit("holds signs that are no text")
    if len(clean) > LONGEST:
        raise Unfit(f"says {len(clean):,} characters, more than any caption")
    return clean if has_words(clean) and not _NOISE.fullmatch(clean) else ""


def as_text(data: bytes) -> str:
    """Bytes of a field that does not say its encoding. Raises Unfit where it cannot be told."""
    data = data.rstrip(b"\0")
    if len(data) > 4 * LONGEST:
        raise Unfit(f"says {len(data):,} bytes, more than any caption")
    found = encoding_of(data)
    if found is None:
        raise Unfit("holds text in no encoding that is known here")
    if found.others:
        raise Unfit(f"holds text that may be {found.name}")
    return decoded(data, found.codec)


_NETWORK = re.compile(r"<\s*(?:lora|lyco|lycoris|hypernet|lora_xl)\s*:[^<>]*>", re.IGNORECASE)
_SETTINGS = re.compile(r"^[ \t]*(?:Negative prompt:|Steps: *\d+, *(?:Sampler|Size|Seed|Schedule|CFG))", re.M)


def prompt_in(text: str) -> str:
    """What a program wrote beside a picture that it drew: the prompt, without settings, negative prompt and networks.

    Raises Unfit for a workflow or settings that hold no prompt.
    """
    data = _json(text)
    if data is not None:
        return prompt_of(data)
    found = _SETTINGS.search(text)
    return _without_networks(text[: found.start()] if found else text)


def prompt_of(data: Any) -> str:
    """The same of JSON: SwarmUI, Fooocus, InvokeAI."""
    if is_workflow(data):
        raise Unfit("holds a ComfyUI workflow, of which no prompt is taken")
    for inner in ("sui_image_params", "image"):
        if isinstance(data, dict) and isinstance(data.get(inner), dict):
            data = data[inner]
    for key in ("positive_prompt", "prompt", "full_prompt"):
        if isinstance(data, dict) and isinstance(data.get(key), str):
            return _without_networks(data[key])
    raise Unfit("holds a program's settings, no caption")


def _without_networks(prompt: str) -> str:
    bare = _NETWORK.sub("", prompt)
    parts = [part.strip() for part in bare.split(",")]
    return bare.strip() if bare == prompt else ", ".join(part for part in parts if part)


def is_workflow(data: Any) -> bool:
    """Whether JSON is a workflow of ComfyUI: as its page saves it, or as it is run."""
    if not isinstance(data, dict):
        return False
    if isinstance(data.get("nodes"), list) and "links" in data:
        return True
    return any(isinstance(node, dict) and "class_type" in node for node in data.values())


def _json(text: str) -> Any:
    """The JSON of a text that is a whole object or list, else None."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except RecursionError:
        raise Unfit("holds JSON that is nested too deep") from None
    except ValueError:
        return None
