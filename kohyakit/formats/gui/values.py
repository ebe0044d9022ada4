"""One loose value of a preset -> what the form's field was meant to hold, or a sentence that says what was wanted."""

from __future__ import annotations

import math
from typing import Any

from kohyakit.config.meant import meant_choice
from kohyakit.formats.gui.fields import Field
from kohyakit.formats.text import names, shorten

# What an empty number box means to the GUI where that is not its default.
_EMPTY_NUMBER = {
    **dict.fromkeys(
        names("""clip_skip epoch gradient_accumulation_steps keep_tokens lr_warmup max_data_loader_n_workers
            max_train_epochs save_every_n_epochs seed max_train_steps caption_dropout_every_n_epochs
            adaptive_noise_scale noise_offset text_encoder_lr unet_lr"""),
        0,
    ),
    "lr_scheduler_num_cycles": 1,
    "lr_scheduler_power": 1,
    "max_token_length": 75,
}
_LARGEST = 2**53  # beyond that no form, and no JSON reader, is exact
_AT_LEAST_ONE = ("epoch", "gradient_accumulation_steps")
# Menus that sd-scripts or a library extends, so a name that the form does not list may well be right.
_OPEN_MENUS = ("caption_extension", "lr_scheduler", "sample_sampler", "mixed_precision", "save_precision")


class Unfit(ValueError):
    """A value that a field cannot hold; the text says what was wanted, cure what to do."""

    def __init__(self, wanted: str, cure: str = "") -> None:
        super().__init__(wanted)
        self.cure = cure


def field_value(about: Field, value: Any) -> tuple[Any, str]:
    """The value meant for a field, and how it was repaired ("" where it stood right). Raises Unfit."""
    if isinstance(value, (list, dict)):
        raise Unfit("a single value was wanted")
    reader = {"text": _text, "check": _check, "list": _choice}.get(about.kind, _number)
    return reader(about, value)


def _text(about: Field, value: Any) -> tuple[str, str]:
    if isinstance(value, str):
        return value, ""
    if isinstance(value, bool):
        return ("", "false is an empty text") if not value else ("True", "true became the text True, as in the GUI")
    if isinstance(value, float) and not math.isfinite(value):
        raise Unfit("text was wanted")
    return str(value), "" if about.key in (
        "dataset_repeats",
        "batch_size",
        "min_bucket_reso",
        "max_bucket_reso",
    ) else "a number became text"


def _check(about: Field, value: Any) -> tuple[bool, str]:
    if isinstance(value, bool):
        return value, ""
    text = str(value).strip().lower()
    if text in ("true", "1", "1.0", "yes", "on"):
        return True, f"{shorten(value)} is true"
    if text in ("false", "0", "0.0", "no", "off", "none", ""):
        return False, f"{shorten(value)} is false"
    raise Unfit("true or false was wanted")


def _number(about: Field, value: Any) -> tuple[int | float, str]:
    if isinstance(value, bool):
        if value:
            raise Unfit("a number was wanted")
        return 0, "false is 0"
    if isinstance(value, str):
        text = value.strip()
        if not text:
            empty = 1 if about.key in _AT_LEAST_ONE else _EMPTY_NUMBER.get(about.key, about.default)
            return empty, f"empty is {empty:g}"
        number = _parsed(text)
    else:
        number = value
    if isinstance(number, float) and not math.isfinite(number):
        raise Unfit("a finite number was wanted")
    if abs(number) > _LARGEST:
        raise Unfit("a number of ordinary size was wanted")
    if isinstance(number, float):
        number = int(number) if number.is_integer() else number
    return number, "" if not isinstance(value, str) or value.strip() == str(number) else f"{shorten(value)} is {number}"


def _parsed(text: str) -> int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    comma = text.replace(",", ".", 1)
    try:
        float(comma)
    except ValueError:
        raise Unfit("a number was wanted") from None
    raise Unfit("a number was wanted", f"write {comma} with a point")


def _choice(about: Field, value: Any) -> tuple[Any, str]:
    if about.choices is None:
        if isinstance(value, bool):
            return ("", "false is empty") if not value else _raise("text was wanted")
        return value if isinstance(value, str) else str(value), ""
    if value in about.choices and not isinstance(value, bool):
        return int(value) if isinstance(value, float) else value, ""
    text = str(value).strip()
    for choice in about.choices:
        if text.lower() == str(choice).lower() or _as_number(text) == choice:
            return choice, "" if str(choice) == text else f"{shorten(value)} is {shorten(choice)}"
    if not text or value is False:
        return about.default, f"empty is {shorten(about.default)}"
    if about.key in _OPEN_MENUS and isinstance(value, str):
        return text, ""
    near = meant_choice(text, about.choices)
    return _raise(
        f"it must be one of {', '.join(str(choice) for choice in about.choices if choice != '')}",
        f"did you mean '{near}'?" if near else "",
    )


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _raise(wanted: str, cure: str = "") -> Any:
    raise Unfit(wanted, cure)
