"""Fields of a preset on the page, each made from its declaration: type, bounds, choices, help."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import streamlit as st

from kohyakit.config.arguments.network_modules import MODULE_ARGS
from kohyakit.config.param import Spec
from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.config.values import Unreadable, coerce
from kohyakit.dashboard.draw import theme
from kohyakit.dashboard.draw.markdown import plain
from kohyakit.dashboard.read.preset import Draft
from kohyakit.registry import OPTIMIZERS, SCHEDULERS
from kohyakit.runs.comparison.compare import show

SECTIONS = {
    "essentials": "Essentials",
    "model": "Model",
    "dataset": "Data set",
    "bucket": "Buckets",
    "network": "Network",
    "optimizer": "Optimizer",
    "training": "Training",
    "noise_loss": "Noise and loss",
    "saving": "Saving",
    "sampling": "Samples",
    "finetune": "Whole model",
    "families": "Other families",
    "launch": "Launch",
}
ESSENTIALS = (
    "pretrained_model_name_or_path", "train_data_dir", "output_dir", "output_name", "resolution", "caption_extension",
    "network_dim", "network_alpha", "learning_rate", "unet_lr", "text_encoder_lr", "optimizer_type", "lr_scheduler",
    "train_batch_size", "max_train_epochs", "max_train_steps", "mixed_precision", "seed",
    "save_every_n_epochs", "logging_dir", "sample_prompts", "sample_every_n_epochs",
)  # fmt: skip
"""What nearly every preset says; the order is that of thinking, not of the alphabet."""

KNOWN: Mapping[str, Iterable[str]] = {
    "optimizer_type": OPTIMIZERS,
    "lr_scheduler": SCHEDULERS,
    "network_module": MODULE_ARGS,
}
"""Parameters that take a name from a list, or another one that a person writes."""

_LONG = {"sample_prompts", "additional_parameters", "network_args", "optimizer_args", "lr_scheduler_args"}


def names_of(section: str) -> list[str]:
    """The parameters of a section in the order of declaration; obsolete ones last."""
    if section == "essentials":
        return [name for name in ESSENTIALS if name in SPECS()]
    mine = [spec for spec in SPECS().values() if spec.section == section]
    return [spec.name for spec in sorted(mine, key=lambda spec: spec.about.deprecated)]


def fields(names: Iterable[str], draft: Draft, opened: TrainConfig, *, key: str) -> Draft:
    """Draw the fields and return the draft with what was changed in them. Those that differ from sd-scripts' defaults
    stand out.
    """
    names = list(names)
    _mark([f"{key}_{name}" for name in names if draft.edits.get(name, opened[name]) != SPECS()[name].default])
    places = st.grid(min_column_width=280, gap="medium")
    for name in names:
        spec = SPECS()[name]
        now = draft.edits.get(name, opened[name])
        with places.container():
            value = _field(spec, now, f"{key}_{name}")
            problem = complaint(spec, value)
            if problem:
                st.caption(f":red[{plain(problem)}]")
            elif name in draft.edits:
                st.caption(f"was {plain(show(opened[name]))}")
        if value != now:
            draft = draft.edited(name, value, opened)
    return draft


def _mark(keys: list[str]) -> None:
    """Streamlit writes a widget's key into its class: the names of these are bold and barred, all other values pale."""
    grey = "color-mix(in srgb, currentColor 60%, transparent)"
    fields = "[class*='st-key-field_']"
    style = f"{fields} :is(input, textarea, [data-baseweb=select] > div) {{color: {grey}}}"
    if keys:
        mine = f":is({', '.join(f'.st-key-{key}' for key in keys)})"
        style += (
            f"{mine} label p {{font-weight: 650}}"
            f"{mine} :is(input, textarea, [data-baseweb=select] > div) {{color: inherit}}"
            f"{mine} {{position: relative}}"
            f"{mine}::before {{content: ''; position: absolute; left: -10px; top: 3px; bottom: 3px; width: 3px;"
            f" border-radius: 2px; background: {theme.ACCENT}}}"
        )
    st.html(f"<style>{style}</style>")


def complaint(spec: Spec, value: Any) -> str:
    """What is wrong with a field's value, "" for nothing."""
    try:
        coerce(spec, value)
    except Unreadable as wanted:
        return f"{show(value)}: {wanted}"
    return ""


def help_of(spec: Spec) -> str:
    """The declaration in words for the field's question mark."""
    about = spec.about
    parts = [plain(about.help)]
    if about.tip:
        parts.append(f"**Try:** {plain(about.tip)}")
    facts = [f"default {show(spec.default)}", *([f"takes {about.bounds}"] if about.bounds else [])]
    if about.gui:
        facts.append(f"in the GUI: {', '.join(about.gui)}")
    if about.deprecated:
        facts.append("obsolete")
    parts.append(plain("; ".join(facts)))
    return "\n\n".join(part for part in parts if part)


def _field(spec: Spec, value: Any, key: str) -> Any:
    """The widget for one parameter. Numbers are text fields where they may be as small as 1e-6."""
    label = spec.name  # an underscore within a word is no Markdown, and a screen reader should not read a backslash
    if spec.kind == "bool" and not spec.many and not spec.optional:
        return st.toggle(label, bool(value), key=key, help=help_of(spec))
    choices = tuple(KNOWN.get(spec.name, spec.about.choices))
    if choices and not spec.many:
        return _choice(spec, choices, value, key)
    draw = _whole if spec.kind == "int" and not spec.many else _text
    return draw(spec, value, key, label)


def _choice(spec: Spec, choices: tuple[Any, ...], value: Any, key: str) -> Any:
    """A menu; of names that are not all known also a field to write another one into."""
    options = list(dict.fromkeys([*([None] if spec.optional else []), spec.default, *choices]))
    if value not in options:
        options.append(value)  # a value that the reader refused is shown as it stands, not replaced
    return st.selectbox(
        spec.name,
        options,
        options.index(value),
        format_func=_shown,
        key=key,
        help=help_of(spec),
        accept_new_options=spec.name in KNOWN,
    )


def _shown(value: Any) -> str:
    return "not set" if value in (None, "") else str(value)


def _whole(spec: Spec, value: Any, key: str, label: str) -> Any:
    about = spec.about
    low = int(about.ge) if about.ge is not None else int(about.gt + 1) if about.gt is not None else None
    high = int(about.le) if about.le is not None else None
    if value is not None and not _fits(value, low, high):
        return _text(spec, value, key, label)
    empty = "not set" if spec.optional else None
    return st.number_input(label, low, high, value, 1, key=key, help=help_of(spec), placeholder=empty)


def _fits(value: Any, low: int | None, high: int | None) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole and (low is None or value >= low) and (high is None or value <= high)


def _text(spec: Spec, value: Any, key: str, label: str) -> Any:
    text = _as_text(spec, value)
    draw: Callable[..., str | None] = st.text_area if spec.name in _LONG else st.text_input
    if spec.about.secret:
        typed: str | None = st.text_input(label, text, key=key, help=help_of(spec), type="password")
    else:
        typed = draw(
            label,
            text,
            key=key,
            help=help_of(spec),
            placeholder="not set" if spec.optional or spec.default == "" else show(spec.default),
        )
    if (typed or "") == text:
        return value
    if not typed:
        return None
    if spec.kind == "bool":
        return typed
    try:
        return coerce(spec, typed)
    except Unreadable:
        return typed


def _as_text(spec: Spec, value: Any) -> str:
    if value is None:
        return ""
    if spec.many and isinstance(value, (list, tuple)):
        return (spec.about.separator or " ").join(show(item) for item in value)
    return value if isinstance(value, str) else show(value)
