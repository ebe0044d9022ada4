"""Which programs read a LoRA file: layer by layer read, computed differently or lost.

The rules are facts of those programs' sources, each in the version that its entry names; diffusers is asked itself in
the tests. A program's entry is two questions: what makes it refuse the file as a whole, and what it makes of a layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kohyakit.errors import ConfigError, Problem
from kohyakit.lora.seen import Seen, Whole, look
from kohyakit.networks.weights.file import LoraFile
from kohyakit.registry.families import MODELS

READ, CHANGED, LOST = "read", "changed", "lost"

Verdict = tuple[str, str]  # state, and why in words; "" for a layer that is read
FINE: Verdict = (READ, "")

_DOTTED = "knows only Kohya's names"
_ADAPTER = "does not know the names of a PEFT adapter"
_HALF = "stops at a layer that lacks one of its matrices"
_NAME = "has no layer of that name"
_OUTPUT_AXIS = "takes DoRA's sizes for those of the other axis"


@dataclass(frozen=True, slots=True)
class Reader:
    """A program. refuses: why it loads nothing of the file, "" where it does. judge: what becomes of one layer."""

    name: str
    version: str
    refuses: Callable[[Whole], str]
    judge: Callable[[Seen, Whole], Verdict]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why layers are not simply read: how many of them, and one as an example ("" for the whole file)."""

    state: str
    why: str
    layers: int
    example: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a program makes of a file: layers by state, and the reasons, the commonest first."""

    program: str
    version: str
    read: int
    changed: int
    lost: int
    reasons: tuple[Reason, ...]
    verdicts: tuple[tuple[str, str, str], ...]  # layer, state, why

    @property
    def loses(self) -> bool:
        return any(reason.state == LOST for reason in self.reasons)


def readings(found: LoraFile, family: str, programs: Sequence[str] = ()) -> tuple[Reading, ...]:
    """What each program, or each of those named, makes of a file. family: its name in MODELS, "" where unknown."""
    whole = look(found, family or "sd1")
    return tuple(_reading(reader, whole) for reader in READERS if not programs or reader.name in programs)


def check_programs(names: Sequence[str]) -> None:
    """Raises ConfigError for a name of no program that is known here."""
    known = [reader.name for reader in READERS]
    for name in names:
        if name not in known:
            raise ConfigError(Problem("--for", f"'{name}' is no program of these", f"one of {', '.join(known)}"))


def _reading(reader: Reader, whole: Whole) -> Reading:
    refusal = reader.refuses(whole)
    verdicts = [(seen, (LOST, refusal) if refusal else _verdict(reader, seen, whole)) for seen in whole.layers]
    counts = Counter(verdict for _, verdict in verdicts)
    reasons = [
        Reason(state, why, count, "" if refusal else next(seen.name for seen, one in verdicts if one == (state, why)))
        for (state, why), count in counts.most_common()
        if state != READ
    ]
    if whole.rest and not refusal and reader.name != "A1111":
        reasons.append(Reason(LOST, "leaves out what is no layer, such as a bundled embedding", 0, whole.rest[0]))
    states = Counter(state for _, (state, _) in verdicts)
    return Reading(
        reader.name, reader.version, states[READ], states[CHANGED], states[LOST], tuple(reasons),
        tuple((seen.name, state, why) for seen, (state, why) in verdicts),
    )  # fmt: skip


def _verdict(reader: Reader, seen: Seen, whole: Whole) -> Verdict:
    """The program's own verdict, then what holds for them all: an alpha that only the metadata tell is read by none."""
    state, why = reader.judge(seen, whole)
    if state == READ and "alpha" not in seen.tensors and whole.untold not in (None, 1.0) and seen.method == "lora":
        return CHANGED, f"finds no alpha and takes 1, where the training had {whole.untold:g}"
    return state, why


# --- A1111 -----------------------------------------------------------------------------------------


def _a1111_refuses(whole: Whole) -> str:
    if whole.layout != "kohya":
        return _DOTTED
    known = [seen for seen in whole.layers if _a1111_has(seen, whole.family)]
    if any(_a1111_kind(seen) for seen in known):
        return "stops at " + next(_a1111_kind(seen) for seen in known if _a1111_kind(seen))
    return ""


def _a1111_kind(seen: Seen) -> str:
    """A layer that none of its modules accepts ends the loading."""
    if seen.method in ("oft", "boft") and "oft_diag" not in seen.tensors and "alpha" not in seen.tensors:
        return "an OFT layer without alpha"
    if seen.method == "glora" and "alpha" not in seen.tensors:
        return "a GLoRA layer without alpha"
    if seen.method == "norm" and "b_norm" not in seen.tensors:
        return "a norm layer without bias"
    if seen.method in ("", "tlora"):
        return "a layer of a kind that it does not know"
    return ""


def _text_prefixes(family: str, *, open_clip: bool = False) -> tuple[str, ...]:
    """What the layers of a family's text encoders begin with. open_clip: of those in OpenCLIP's layout alone."""
    return tuple(part.lora for part in MODELS[family].texts if part.open_clip or not open_clip)


def _a1111_has(seen: Seen, family: str) -> bool:
    if seen.prefix == "lora_unet":
        late = family == "sdxl" and not seen.original and seen.path == "up_blocks.0.upsamplers.0.conv"
        return seen.in_unet and not late
    if seen.prefix == "oft_unet":
        return seen.original
    early = ("lora_te1",) if family == "sd1" else ()  # which names it of one encoder too
    return seen.prefix in (*_text_prefixes(family), *early) and seen.in_text


def _a1111_judge(seen: Seen, whole: Whole) -> Verdict:
    if not _a1111_has(seen, whole.family):
        return LOST, _NAME
    fused = seen.prefix in _text_prefixes(whole.family, open_clip=True) and ".self_attn." in seen.path
    if fused and (seen.method in ("oft", "boft") or not whole.has_attention(seen)):
        return LOST, "takes attention of an OpenCLIP encoder only with q, k, v and out together"
    if seen.method == "boft":
        return (LOST, "reads BOFT only under the name oft_diag") if "oft_blocks" in seen.tensors else FINE
    if seen.method == "oft" and "oft_blocks" in seen.tensors and float(seen.tensors["alpha"]) == 0:
        return LOST, "takes an alpha of 0 for a limit of 0, so that nothing turns"
    if seen.method == "glora" and not seen.old_glora:
        return LOST, "multiplies GLoRA's matrices in their old order"
    return (CHANGED, _OUTPUT_AXIS) if seen.dora == "output" else FINE


# --- ComfyUI and Forge -----------------------------------------------------------------------------


def _comfy_has(seen: Seen, whole: Whole, *, forge: bool) -> bool:
    if whole.layout == "adapter":
        return False
    if seen.prefix == "lora_unet":
        return seen.in_unet and (whole.layout == "kohya" or ".processor.to_" in seen.stem or ".to_" not in seen.stem)
    if whole.layout != "kohya":
        spelled = seen.stem.startswith(("text_encoder.text_model.", "text_encoder_2.text_model."))
        return spelled and seen.in_text and not (forge and ".default" in seen.ending)
    if seen.prefix == "lora_te2" and seen.path == "text_projection":
        return True
    allowed = ("lora_te", "lora_te1", "lora_te2") if whole.family == "sdxl" else ("lora_te", "lora_te1")
    return seen.prefix in allowed and seen.in_text


def _comfy_refuses(whole: Whole) -> str:
    known = [seen for seen in whole.layers if _comfy_has(seen, whole, forge=False)]
    return _HALF if any(seen.half == "up" for seen in known) else ""


def _comfy_judge(seen: Seen, whole: Whole) -> Verdict:
    if not _comfy_has(seen, whole, forge=False):
        return LOST, _ADAPTER if whole.layout == "adapter" else _NAME
    if seen.method in ("oft", "boft"):
        return _comfy_turned(seen)
    if seen.method in ("", "ia3", "tlora"):
        return LOST, _kind(seen)
    return _comfy_numbers(seen)


def _comfy_turned(seen: Seen) -> Verdict:
    if "oft_blocks" not in seen.tensors:
        return LOST, "does not know the name oft_diag"
    if "alpha" not in seen.tensors:
        return LOST, "turns nothing where an OFT layer has no alpha"
    if seen.turns_beyond_alpha:
        return CHANGED, "takes alpha as OFT's limit without the layer's width"
    return FINE


def _comfy_numbers(seen: Seen) -> Verdict:
    if seen.dora == "output":
        return CHANGED, _OUTPUT_AXIS.replace("those of the other axis", "those of the weight before the change")
    if seen.dora == "vector":
        return CHANGED, "leaves out DoRA's sizes under that name"
    if seen.alpha_aside and seen.aside_scale != 1:
        return CHANGED, "takes a scale of 1, as alpha stands in the metadata alone"
    return FINE


def _forge_refuses(whole: Whole) -> str:
    if any(seen.half == "up" for seen in whole.layers if _comfy_has(seen, whole, forge=True)):
        return _HALF
    unread = len(whole.rest) + sum(_forge_unread(seen, whole) for seen in whole.layers)
    return f"loads nothing, as {unread} tensors (more than 12) are unknown to it" if unread > 12 else ""


def _forge_unread(seen: Seen, whole: Whole) -> int:
    if not _comfy_has(seen, whole, forge=True):
        return len(seen.tensors) - seen.alpha_aside
    unknown = seen.method in ("", "ia3", "tlora", "oft", "boft")
    return sum(1 for ending in seen.tensors if unknown and ending not in ("alpha", "dora_scale"))


def _forge_judge(seen: Seen, whole: Whole) -> Verdict:
    if not _comfy_has(seen, whole, forge=True):
        return LOST, _ADAPTER if whole.layout == "adapter" else _NAME
    if seen.method in ("", "ia3", "tlora", "oft", "boft"):
        return LOST, _kind(seen)
    return _comfy_numbers(seen)


def _kind(seen: Seen) -> str:
    titles = {"oft": "OFT", "boft": "BOFT", "ia3": "iA3", "tlora": "T-LoRA", "": "a layer of this kind"}
    return f"does not read {titles.get(seen.method, seen.method)}"


# --- diffusers -------------------------------------------------------------------------------------

_PLAIN = {"lora_up.weight", "lora_down.weight", "alpha", "dora_scale"}


def _diffusers_refuses(whole: Whole) -> str:
    if whole.layout == "adapter":
        return _ADAPTER
    if whole.layout != "kohya":
        return "refuses a file with tensors that are no LoRA" if whole.rest else ""
    if whole.rest or any(seen.prefix not in ("lora_unet", "lora_te", "lora_te1", "lora_te2") for seen in whole.layers):
        return "refuses a file in which not every name begins as Kohya's do"
    strange = next((seen for seen in whole.layers if set(seen.tensors) - _PLAIN or seen.half), None)
    if strange is not None:
        return "refuses a file that holds anything but plain LoRA layers"
    for part, layers in whole.text_parts().items():
        if not any("mlp" in seen.path or seen.path.endswith(("out_proj", "text_projection")) for seen in layers):
            return f"stops where of {part} neither out_proj nor mlp is there"
    return ""


def _diffusers_judge(seen: Seen, whole: Whole) -> Verdict:
    if whole.layout != "kohya":
        return FINE if seen.in_unet or seen.in_text or seen.loose_text else (LOST, _NAME)
    if seen.prefix == "lora_unet":
        if not seen.in_unet:
            return LOST, _NAME
        if seen.original and whole.mixed:
            return LOST, "drops the original names where diffusers' stand beside them"
    elif not (seen.in_text or seen.path == "text_projection" or (seen.loose_text and seen.prefix != "lora_te2")):
        return LOST, _NAME
    if seen.dora:
        return CHANGED, "leaves out DoRA's sizes"
    common = "alpha" not in seen.tensors or "attn" in seen.path or seen.prefix in ("lora_te", "lora_te1")
    if common and whole.common_alpha(seen) not in (None, seen.alpha):
        return CHANGED, "takes the commonest alpha for attention, text encoder 1 and layers without one"
    return FINE


# --- sd-scripts ------------------------------------------------------------------------------------


def _scripts_refuses(whole: Whole) -> str:
    if whole.layout != "kohya":
        return _DOTTED
    mine = [seen for seen in whole.layers if "lora_mid.weight" in seen.tensors and _scripts_has(seen, whole)]
    return "stops at a layer with a core tensor (lora_mid), which has other sizes" if mine else ""


def _scripts_has(seen: Seen, whole: Whole) -> bool:
    if seen.prefix in ("lora_unet", "oft_unet"):
        return seen.in_unet and seen.in_block
    return seen.in_text and seen.prefix in _text_prefixes(whole.family)


def _scripts_judge(seen: Seen, whole: Whole) -> Verdict:
    if not _scripts_has(seen, whole):
        return LOST, _NAME
    if seen.prefix == "oft_unet" and seen.method == "oft":
        return FINE
    if seen.method != "lora" or seen.half:
        return LOST, "reads only plain LoRA with networks.lora (LyCORIS' kinds with lycoris.kohya)"
    if seen.dora:
        return CHANGED, "leaves out DoRA's sizes"
    if "alpha" in seen.tensors and seen.alpha == 0:
        return CHANGED, "takes the rank for an alpha of 0"
    return FINE


# --- InvokeAI --------------------------------------------------------------------------------------


def _invoke_refuses(whole: Whole) -> str:
    if whole.layout != "kohya":
        return _DOTTED
    kinds = ("", "tlora", "oft", "boft", "glora")
    if any(seen.method in kinds or (seen.dora and seen.method != "lora") for seen in whole.layers):
        return "stops at a layer of a kind that it does not know"
    widths = {768: "sd1", 1024: "sd2", 1280: "sdxl", 2048: "sdxl"}
    told = widths.get(whole.invoke_width() or 0) or ("sdxl" if whole.deep else None)
    if told != whole.family:
        return "cannot tell the model's family from its layers" if told is None else f"takes it for {told}"
    if whole.family == "sdxl":
        if any(seen.prefix not in ("lora_unet", "lora_te1", "lora_te2") for seen in whole.layers):
            return "stops at names that begin otherwise than lora_unet, lora_te1 and lora_te2"
        if whole.mixed:
            return "stops where original and diffusers' names are mixed"
    return ""


def _invoke_judge(seen: Seen, whole: Whole) -> Verdict:
    text = _text_prefixes(whole.family)
    projects = seen.prefix == "lora_te2" and seen.path == "text_projection"
    if not (seen.in_unet if seen.prefix == "lora_unet" else seen.prefix in text and (seen.in_text or projects)):
        return LOST, _NAME
    return (CHANGED, _OUTPUT_AXIS) if seen.dora == "output" else FINE


READERS: tuple[Reader, ...] = (
    Reader("A1111", "1.x, sources of 2024", _a1111_refuses, _a1111_judge),
    Reader("Forge", "of June 2025 (dfdcbab)", _forge_refuses, _forge_judge),
    Reader("ComfyUI", "of 2025 (weight_adapter)", _comfy_refuses, _comfy_judge),
    Reader("diffusers", "0.42.1 with transformers 5", _diffusers_refuses, _diffusers_judge),
    Reader("sd-scripts", "0.10.1, networks.lora", _scripts_refuses, _scripts_judge),
    Reader("InvokeAI", "6.14.0", _invoke_refuses, _invoke_judge),
)
