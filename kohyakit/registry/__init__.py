"""Names people may write, and where the code behind each is. Data only: nothing heavy is imported here.

A table is what `--help`, the schema, the dashboard's forms, the docs and the test suites walk, so a new
network, optimizer, scheduler, model family, audit check or captioner is one entry and one file.
"""

from __future__ import annotations

from kohyakit.registry.families import MODELS
from kohyakit.registry.networks import ALGORITHMS, NETWORKS
from kohyakit.registry.optimizers import OPTIMIZERS
from kohyakit.registry.schedules import SCHEDULERS
from kohyakit.registry.table import Entry, Table

__all__ = ["ALGORITHMS", "CAPTIONERS", "CHECKS", "MODELS", "NETWORKS", "OPTIMIZERS", "SCHEDULERS", "Entry", "Table"]


CHECKS = Table(
    "check",
    {
        "decode": Entry("kohyakit.audit.checks.decode:CHECK", "Does not decode, or decodes with damage"),
        "exif_orientation": Entry("kohyakit.audit.checks.exif_orientation:CHECK", "Stored turned or mirrored"),
        "format": Entry("kohyakit.audit.checks.format:CHECK", "Extension, animation, alpha, palette, CMYK, 16 bits"),
        "sideways": Entry("kohyakit.audit.checks.sideways:CHECK", "Lies on its side, by its looks and not its EXIF"),
        "resolution": Entry("kohyakit.audit.checks.resolution:CHECK", "Too small, extreme shape, much cropped, alone"),
        "blur": Entry("kohyakit.audit.checks.blur:CHECK", "Out of focus, shaken or enlarged"),
        "exposure": Entry("kohyakit.audit.checks.exposure:CHECK", "Too dark, too bright"),
        "information": Entry("kohyakit.audit.checks.information:CHECK", "Nearly nothing to see"),
        "borders": Entry("kohyakit.audit.checks.borders:CHECK", "Bars around the picture, as in screenshots"),
        "exact_duplicate": Entry("kohyakit.audit.checks.exact_duplicate:CHECK", "The same file twice"),
        "near_duplicate": Entry("kohyakit.audit.checks.near_duplicate:CHECK", "The same picture twice"),
        "burst": Entry("kohyakit.audit.checks.burst:CHECK", "Series of one scene that dominate a subset"),
        "captions": Entry("kohyakit.audit.checks.captions:CHECK", "Missing, empty, unreadable, orphaned"),
        "caption_length": Entry("kohyakit.audit.checks.caption_length:CHECK", "More tokens than are trained"),
        "caption_content": Entry("kohyakit.audit.checks.caption_content:CHECK", "All the same, or against the folder"),
        "layout": Entry("kohyakit.audit.checks.layout:CHECK", "Folders and names that a training trips over"),
        "names": Entry("kohyakit.audit.checks.names:CHECK", "Names that collide or that another system refuses"),
        "balance": Entry("kohyakit.audit.checks.balance:CHECK", "Subsets of very unequal weight"),
    },
)

_ASKS = ("prompt", "max_tokens", "batch_size", "download", "device")
_TAGS = (
    "threshold", "character_threshold", "rating", "characters_first", "keep_underscores", "undesired", "replace",
    "batch_size", "download", "device",
)  # fmt: skip


def _tagger(text: str) -> Entry:
    return Entry("kohyakit.captioning.tagger:Tagger", text, (), "onnxruntime", "caption", _TAGS)


def _describer(text: str, target: str = "describer:Describer", *more: str) -> Entry:
    return Entry(f"kohyakit.captioning.{target}", text, (), "transformers", "train", (*_ASKS, *more))


CAPTIONERS = Table(
    "captioner",
    {
        "wd-eva02": _tagger("WD v3 tagger, EVA02 large: the most exact one"),
        "wd-vit-large": _tagger("WD v3 tagger, ViT large"),
        "wd-swinv2": _tagger("WD v3 tagger, SwinV2: good and quick"),
        "wd-convnext": _tagger("WD v3 tagger, ConvNeXt"),
        "wd-vit": _tagger("WD v3 tagger, ViT: the quickest"),
        "pixai": _tagger("PixAI tagger v0.9: knows the newest characters"),
        "cl": _tagger("CL tagger: also artists, quality, model"),
        "blip": _describer("BLIP: one short sentence; the beginners' guide's"),
        "blip2": _describer("BLIP-2: one better sentence, 15 GB"),
        "git": _describer("GIT: one short sentence"),
        "florence2": _describer("Florence-2: sentences of three lengths, quick", "florence:Florence"),
        "qwen-vl": _describer("Qwen-VL with a prompt of your own", "chat:Chat", "system"),
        "joycaption": _describer("JoyCaption (LLaVA): long captions made for training", "chat:Chat", "system"),
        "chat": _describer("any chat model that sees, by --model", "chat:Chat", "system"),
        "server": Entry(
            "kohyakit.captioning.server:Server", "a server like Ollama, llama.cpp, vLLM or LM Studio",
            arguments=("prompt", "system", "max_tokens", "model_name"),
        ),
    },
)  # fmt: skip
