"""Which layers a network adapts: LyCORIS' presets, its preset files, and what sd-scripts' own networks adapt."""

from __future__ import annotations

import difflib
import fnmatch
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kohyakit.errors import ConfigError, Problem

Options = Mapping[str, Any]  # network_args and their values, for some of the layers
_NONE: Mapping[str, Options] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Preset:
    """Which layers a network adapts: those inside modules of these classes, and those of these names.

    Classes and names are those of sd-scripts' own models. convolutions: also those larger than 1x1. Names are regular
    expressions from the name's beginning, or patterns with * for the whole name (`globs`). endings: what the names of
    further layers end in; on_input: of those that (IA)^3 scales by their inputs. by_class, by_name: what is asked of
    the layers within a class, or of a name, beside what is asked of all.
    """

    unet_modules: tuple[str, ...] = ()
    unet_names: tuple[str, ...] = ()
    text_modules: tuple[str, ...] = ("CLIPAttention", "CLIPMLP")
    text_names: tuple[str, ...] = ()
    convolutions: bool = False
    globs: bool = False
    endings: tuple[str, ...] = ()
    on_input: tuple[str, ...] = ()
    by_class: Mapping[str, Options] = field(default_factory=lambda: _NONE)
    by_name: Mapping[str, Options] = field(default_factory=lambda: _NONE)

    def matches(self, name: str, patterns: Iterable[str]) -> bool:
        """Whether one of the patterns is for a layer of this name."""
        if self.globs:
            return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
        return any(re.match(pattern, name) for pattern in patterns)


_OUTER = ("conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2")
_BLOCKS = ("ResnetBlock2D", "Downsample2D", "Upsample2D")
_ALL = ("Transformer2DModel", *_BLOCKS)

# LyCORIS' own, as far as they speak of Stable Diffusion.
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "full": Preset(_ALL, _OUTER, convolutions=True),
        "full-lin": Preset(("Transformer2DModel", "ResnetBlock2D"), _OUTER[2:]),
        "attn-mlp": Preset(("Transformer2DModel",)),
        "attn-only": Preset(("CrossAttention",), text_modules=("CLIPAttention",)),
        "unet-only": Preset(_ALL, _OUTER, (), convolutions=True),
        "unet-transformer-only": Preset(("Transformer2DModel",), (), ()),
        "unet-convblock-only": Preset(_BLOCKS, _OUTER[:2], (), convolutions=True),
        "ia3": Preset(
            text_modules=(), endings=("to_k", "to_v", "ff.net.2", "k_proj", "v_proj", "mlp.fc2"),
            on_input=("ff.net.2", "mlp.fc2"),
        ),
    }
)  # fmt: skip


def lora_preset(*, convolutions: bool = False) -> Preset:
    """What sd-scripts' own networks adapt of a U-Net: its transformers, or also the convolutions around them."""
    return Preset(_ALL if convolutions else _ALL[:1], convolutions=convolutions)


def oft_preset(*, all_linear: bool, convolutions: bool) -> Preset:
    """What networks.oft adapts: attention or whole transformers, and the blocks around them; no text encoder."""
    inner = ("Transformer2DModel",) if all_linear else ("CrossAttention",)
    return Preset(inner + (_BLOCKS if convolutions else ()), (), (), convolutions=convolutions)


# --- files -----------------------------------------------------------------------------------------

_LISTS = {
    "unet_target_module": "unet_modules", "unet_target_name": "unet_names",
    "text_encoder_target_module": "text_modules", "text_encoder_target_name": "text_names",
}  # fmt: skip
_SWITCHES = {"enable_conv": "convolutions", "use_fnmatch": "globs"}
_MAPS = {"module_algo_map": "by_class", "name_algo_map": "by_name"}
_OTHERS = ("target_module", "target_name", "lora_prefix", "exclude_name")  # of LyCORIS' wrapper, not of a training's
_KEYS = (*_LISTS, *_SWITCHES, *_MAPS, *_OTHERS)
# How LyCORIS' modules call what network_args call otherwise.
_ARGUMENTS = {"weight_decompose": "dora_wd", "wd_on_out": "wd_on_output"}


def preset_named(name: str) -> Preset:
    """One of LyCORIS' presets, or a preset file (TOML). Raises ConfigError with all that is wrong with it."""
    if name in PRESETS:
        return PRESETS[name]
    path = Path(name)
    if not path.is_file():
        near = difflib.get_close_matches(name, PRESETS, n=1)
        cure = f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(PRESETS)}, or name a TOML file"
        what = f"preset {name} is none of LyCORIS' own, and there is no such file"
        raise ConfigError(Problem("network_args", what, cure, "preset_unknown"))
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        what, cure = f"cannot be read as TOML ({error})", "give a preset file of LyCORIS"
        raise ConfigError(Problem(path.name, what, cure, "preset_wrong")) from None
    problems = list(_wrong(path.name, values))
    if problems:
        raise ConfigError(problems)
    return _preset(values)


def _wrong(where: str, values: Mapping[str, Any]) -> Iterator[Problem]:
    for key, value in values.items():
        what, cure = "", ""
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            what = f"'{key}' is nothing that a preset of LyCORIS has"
            cure = f"did you mean '{near[0]}'?" if near else f"take it out; it has {', '.join(_KEYS)}"
        elif key in _LISTS and not _are_texts(value):
            what, cure = f"{key} is {value!r}", "write a list of texts"
        elif key in _SWITCHES and not isinstance(value, bool):
            what, cure = f"{key} is {value!r}", "write true or false"
        elif key in _MAPS and not (isinstance(value, dict) and all(isinstance(one, dict) for one in value.values())):
            what, cure = f"{key} is {value!r}", f'write a table for each name, like [{key}.NAME] algo = "lokr"'
        elif not values.get("use_fnmatch") and (broken := _broken(key, value)):
            what, cure = f"{key} has {broken!r}, which is no regular expression", "mend it, or set use_fnmatch = true"
        if what:
            yield Problem(where, what[:300], cure, "preset_wrong")


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _broken(key: str, value: Iterable[str]) -> str:
    for pattern in value if key.endswith("_name") or key == "name_algo_map" else ():
        try:
            re.compile(pattern)
        except re.error:
            return pattern
    return ""


def _preset(values: Mapping[str, Any]) -> Preset:
    """What a file leaves out is as in `full`."""
    full = PRESETS["full"]
    found: dict[str, Any] = {"unet_modules": full.unet_modules, "unet_names": full.unet_names, "convolutions": True}
    found |= {own: tuple(values[key]) for key, own in _LISTS.items() if key in values}
    found |= {own: values[key] for key, own in _SWITCHES.items() if key in values}
    for key, own in _MAPS.items():
        found[own] = {name: _options(asked) for name, asked in values.get(key, {}).items()}
    return Preset(**found)


def _options(asked: Options) -> Options:
    return {_ARGUMENTS.get(name, name): value for name, value in asked.items()}
