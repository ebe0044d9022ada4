"""The GUI's "LoRA type" -> sd-scripts' network_module and network_args, and the same read backwards.

The GUI builds one line of text, takes the double quotes out and splits it at white space: an argument that
holds a space falls apart. LyCORIS types print every flag, even False; the native ones only what is set.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

_BLOCKS = (
    "down_lr_weight",
    "mid_lr_weight",
    "up_lr_weight",
    "block_lr_zero_threshold",
    "block_dims",
    "block_alphas",
    "conv_block_dims",
    "conv_block_alphas",
)
_DROPOUTS = ("rank_dropout", "module_dropout")

# type -> module and the fields printed when set, in the order of the form
_NATIVE: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Standard": ("networks.lora", (*_BLOCKS, *_DROPOUTS)),
    "Kohya LoCon": ("networks.lora", (*_BLOCKS, *_DROPOUTS)),
    "LoRA-FA": ("networks.lora_fa", (*_BLOCKS, *_DROPOUTS)),
    "Kohya DyLoRA": ("networks.dylora", ("conv_dim", "conv_alpha", *_BLOCKS, "unit", *_DROPOUTS)),
    "Kohya LoHa": ("networks.loha", ()),
    "Kohya LoKr": ("networks.lokr", ()),
    "Flux1": (
        "networks.lora_flux",
        (
            "img_attn_dim",
            "img_mlp_dim",
            "img_mod_dim",
            "single_dim",
            "txt_attn_dim",
            "txt_mlp_dim",
            "txt_mod_dim",
            "single_mod_dim",
            "in_dims",
            "train_double_block_indices",
            "train_single_block_indices",
        ),
    ),
    "Flux1 OFT": ("networks.oft_flux", ("enable_all_linear",)),
    "HunyuanImage-2.1": ("networks.lora_hunyuan_image", ()),
    "Anima": ("networks.lora_anima", ()),
    "Lumina": ("networks.lora_lumina", ()),
}

# LyCORIS type -> what is printed, in order: field, or name=field, or name=!text
_LYCORIS: Mapping[str, str] = {
    "LyCORIS/BOFT": "preset conv_dim conv_alpha module_dropout use_tucker rank_dropout rank_dropout_scale algo=!boft "
    "train_norm",
    "LyCORIS/Diag-OFT": "preset conv_dim conv_alpha module_dropout use_tucker rank_dropout rank_dropout_scale "
    "constraint=constrain rescaled algo=!diag-oft train_norm",
    "LyCORIS/DyLoRA": "preset conv_dim conv_alpha use_tucker block_size=unit rank_dropout module_dropout algo=!dylora "
    "train_norm",
    "LyCORIS/GLoRA": "preset conv_dim conv_alpha use_tucker rank_dropout module_dropout rank_dropout_scale algo=!glora "
    "train_norm",
    "LyCORIS/iA3": "preset conv_dim conv_alpha train_on_input algo=!ia3",
    "LyCORIS/LoCon": "preset conv_dim conv_alpha use_tucker rank_dropout bypass_mode dora_wd module_dropout use_tucker "
    "use_scalar rank_dropout_scale algo=!locon train_norm",
    "LyCORIS/LoHa": "preset conv_dim conv_alpha use_tucker rank_dropout bypass_mode dora_wd module_dropout use_tucker "
    "use_scalar rank_dropout_scale algo=!loha train_norm",
    "LyCORIS/LoKr": "preset conv_dim conv_alpha use_tucker rank_dropout bypass_mode dora_wd module_dropout factor "
    "use_cp use_scalar decompose_both rank_dropout_scale algo=!lokr train_norm",
    "LyCORIS/Native Fine-Tuning": "preset rank_dropout module_dropout rank_dropout_scale algo=!full train_norm",
}
_LORAPLUS = ("loraplus_lr_ratio", "loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio")
_FLUX_EXTRAS = ("train_lora_ggpo", "ggpo_sigma", "ggpo_beta", "split_qkv", "train_t5xxl", "train_blocks")

# what may go with which family
NEEDS: Mapping[str, str] = {"Anima": "anima", "Lumina": "lumina"}
KOHYA_LYCORIS = ("Kohya LoHa", "Kohya LoKr")


def network(form: Mapping[str, Any], families: Collection[str]) -> tuple[str, list[str]]:
    """A LoRA form's network_module and network_args, as the GUI prints them.

    families: the families whose boxes are ticked. Raises KeyError for a type that no GUI has.
    """
    module, line = arguments(form, families)
    return module, " ".join(line).replace('"', "").split()


def arguments(form: Mapping[str, Any], families: Collection[str]) -> tuple[str, list[str]]:
    """network_module and an item for each argument, as the form holds them. Raises KeyError as `network` does."""
    kind = form["LoRA_type"]
    if kind in _LYCORIS:
        module, line = "lycoris.kohya", [_lycoris(item, form) for item in _LYCORIS[kind].split()]
    else:
        module, names = _NATIVE[kind]
        if kind in ("Standard", "Kohya LoCon") and "sd3" in families:
            module = "networks.lora_sd3"
        line = _native(kind, names, form, families)
    return module, line + [f"{name}={form[name]}" for name in _LORAPLUS if form[name]]


def _lycoris(item: str, form: Mapping[str, Any]) -> str:
    name, _, source = item.partition("=")
    if source.startswith("!"):
        return f"{name}={source[1:]}"
    return f"{name}={form['LyCORIS_preset' if name == 'preset' else source or name]}"


def _native(kind: str, names: tuple[str, ...], form: Mapping[str, Any], families: Collection[str]) -> list[str]:
    line = [f"{name}={form[name]}" for name in names if form[name]]
    if kind == "Kohya LoCon":
        line = [f"conv_dim={form['conv_dim']}", f"conv_alpha={form['conv_alpha']}", *line]
    if kind == "Flux1":
        line = _flux(line, form, families)
    if kind in KOHYA_LYCORIS:
        line = _kohya_lycoris(kind, form)
    if kind in ("Flux1", "HunyuanImage-2.1", "Anima", "Lumina", *KOHYA_LYCORIS):
        line += [f"{name}={form[name]}" for name in _DROPOUTS if float(form[name]) > 0]
    return line


def _flux(line: list[str], form: Mapping[str, Any], families: Collection[str]) -> list[str]:
    if form["train_lora_ggpo"]:
        line = [f"{name}={form[name]}" for name in ("ggpo_sigma", "ggpo_beta") if form[name]] + line
    if form["split_mode"]:
        line.append("train_blocks=single")
    if form["split_qkv"]:
        line.append("split_qkv=True")
    if form["train_t5xxl"] and "flux1" in families:
        line.append("train_t5xxl=True")
    return line


def _kohya_lycoris(kind: str, form: Mapping[str, Any]) -> list[str]:
    line = []
    if float(form["conv_dim"]) > 0:
        alpha = form["conv_alpha"]
        line = [
            f"conv_dim={int(form['conv_dim'])}",
            f"conv_alpha={int(alpha) if float(alpha) == int(alpha) else alpha}",
        ]
    if form["use_tucker"]:
        line.append("use_tucker=True")
    if kind == "Kohya LoKr" and int(form["factor"]) != -1:
        line.append(f"factor={int(form['factor'])}")
    return line


def family_problem(kind: str, families: Collection[str]) -> str:
    """Why the GUI does not start with this type for these families, or nothing."""
    if "flux1" in families and kind not in ("Flux1", "Flux1 OFT") and "LyCORIS" not in kind:
        return "the Flux box is ticked, but the LoRA type is not Flux1, Flux1 OFT or a LyCORIS one"
    if "anima" in families and kind not in ("Anima", *KOHYA_LYCORIS):
        return "the Anima box is ticked, but the LoRA type is not Anima, Kohya LoHa or Kohya LoKr"
    if "lumina" in families and kind != "Lumina":
        return "the Lumina box is ticked, but the LoRA type is not Lumina"
    if kind in NEEDS and NEEDS[kind] not in families:
        return f"the LoRA type is {kind}, but the {kind} box is not ticked"
    if kind in KOHYA_LYCORIS and not {"sdxl", "anima"} & set(families):
        return f"{kind} is for SDXL and Anima only"
    if kind in KOHYA_LYCORIS and {"flux1", "sd3", "hunyuan_image", "lumina"} & set(families):
        return f"{kind} does not go with Flux, SD3, HunyuanImage or Lumina"
    return ""


def lora_type(module: str | None, args: Mapping[str, str]) -> tuple[str, dict[str, str], dict[str, str]]:
    """network_module and network_args -> the GUI's type, its fields as text, and arguments no field holds.

    An unknown module gives the type "".
    """
    algo = args.get("algo", "").lower()
    kind = _type_of(module or "networks.lora", args, algo)
    source = {name: name for name in _LORAPLUS}
    if kind in _LYCORIS:
        for item in _LYCORIS[kind].split():
            name, _, origin = item.partition("=")
            if not origin.startswith("!"):
                source[name] = "LyCORIS_preset" if name == "preset" else origin or name
    elif kind:
        source |= {name: name for name in _NATIVE[kind][1]}
        if kind == "Kohya LoCon":
            source |= {"conv_dim": "conv_dim", "conv_alpha": "conv_alpha"}
        if kind == "Flux1":
            source |= {name: name for name in ("ggpo_sigma", "ggpo_beta", "split_qkv", "train_t5xxl", *_DROPOUTS)}
        if kind in ("HunyuanImage-2.1", "Anima", "Lumina", *KOHYA_LYCORIS):
            source |= {name: name for name in _DROPOUTS}
        if kind in KOHYA_LYCORIS:
            source |= {name: name for name in ("conv_dim", "conv_alpha", "use_tucker", "factor")}
    told = {source[name]: value for name, value in args.items() if name in source}
    if kind == "Flux1" and {"ggpo_sigma", "ggpo_beta"} & args.keys():
        told["train_lora_ggpo"] = "True"
    rest = {name: value for name, value in args.items() if name not in source and name != "algo"}
    return kind, told, rest


def _type_of(module: str, args: Mapping[str, str], algo: str) -> str:
    if module == "lycoris.kohya":
        by_algo = {text.split("algo=!")[1].split()[0]: kind for kind, text in _LYCORIS.items()}
        return by_algo.get({"lora": "locon"}.get(algo, algo) or "locon", "")
    if module in ("networks.lora", "networks.lora_sd3"):
        return "Kohya LoCon" if "conv_dim" in args else "Standard"
    by_module = {native: kind for kind, (native, _) in _NATIVE.items()}
    return by_module.get(module, "")


def _fields() -> Iterator[str]:
    for items in _LYCORIS.values():
        for item in items.split():
            name, _, origin = item.partition("=")
            if not origin.startswith("!"):
                yield "LyCORIS_preset" if name == "preset" else origin or name
    for _, listed in _NATIVE.values():
        yield from listed
    yield from (*_LORAPLUS, *_FLUX_EXTRAS)


# every field of the form that can become a network argument
FIELDS = frozenset(_fields())
