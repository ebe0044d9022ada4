"""What a LoRA file holds: method, rank and size of every layer, what is missing or broken, what its metadata say."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kohyakit.errors import Problem
from kohyakit.formats.weights import safetensors_header
from kohyakit.lora.readers import Reading, readings
from kohyakit.networks.weights import file as lora_file
from kohyakit.networks.weights.file import LoraFile
from kohyakit.networks.weights.updates import input_width, is_sound, lora_factors, method_of, update_of
from kohyakit.planning.size.architecture import standard
from kohyakit.planning.size.lora import lora_layers
from kohyakit.planning.size.lora_names import block_of, split_name
from kohyakit.registry.families import MODELS, trained_here

if TYPE_CHECKING:
    import pandas as pd


_RANKED = ("lora_down.weight", "hada_w1_b", "lokr_w2_b", "lokr_w1_b", "b2.weight")  # whose first side is the rank


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """One layer. method: lora, dora, loha, lokr, oft, glora, ia3, full, norm, tlora; empty for a broken one.

    norm: Frobenius norm of the update, None where it depends on the base weight. state: ok, dead (adds nothing),
    not finite, broken.
    """

    name: str
    block: str
    method: str
    rank: int | None
    alpha: float | None
    norm: float | None
    state: str = "ok"


@dataclass(frozen=True, slots=True)
class Inspection:
    """A file's facts. findings: what is wrong, worst first. gives_away: paths, captions and names in the metadata.

    readings: what each program makes of it.
    """

    path: Path
    layout: str
    family: str
    layers: tuple[LayerFacts, ...]
    metadata: Mapping[str, str]
    findings: tuple[Problem, ...]
    trigger_words: tuple[str, ...] = ()
    gives_away: tuple[str, ...] = ()
    bytes: int = 0
    dtype: str = ""
    rest: tuple[str, ...] = field(default=())
    readings: tuple[Reading, ...] = ()

    @property
    def methods(self) -> dict[str, int]:
        """How many layers are of each method, the commonest first."""
        return dict(Counter(layer.method or "broken" for layer in self.layers).most_common())

    def frame(self) -> pd.DataFrame:
        """One row a layer: name, block, method, rank, alpha, norm, state."""
        import pandas as pd

        columns = ("name", "block", "method", "rank", "alpha", "norm", "state")
        return pd.DataFrame([[getattr(layer, column) for column in columns] for layer in self.layers], columns=columns)

    def by_block(self) -> dict[str, float]:
        """The size of the update in each block: the root of the sum of its layers' squared norms."""
        sums: dict[str, float] = {}
        for layer in self.layers:
            if layer.norm is not None:
                sums[layer.block] = sums.get(layer.block, 0.0) + layer.norm**2
        return {block: total**0.5 for block, total in sums.items()}


def inspect(path: Path | str, *, programs: Sequence[str] = ()) -> Inspection:
    """Look at every tensor of a LoRA file. programs: whose reading to tell, all where none is named.

    Raises KohyakitError in one sentence for what is none.
    """
    found = lora_file.read(path, broken=True)
    layers = tuple(_facts(name, layer) for name, layer in found.layers.items())
    family = _family(found)
    findings = [*_broken(layers), *_incomplete(found, layers, family), *_hashes(found)]
    return Inspection(
        path=found.path, layout=found.layout, family=family, layers=layers, metadata=found.metadata,
        findings=tuple(sorted(findings, key=attrgetter("rank"))),
        trigger_words=tuple(_triggers(found.metadata)), gives_away=tuple(_gives_away(found.metadata)),
        bytes=found.path.stat().st_size if found.path.is_file() else 0, dtype=str(found.dtype).removeprefix("torch."),
        rest=tuple(found.rest), readings=readings(found, family, programs),
    )  # fmt: skip


def _facts(name: str, layer: dict[str, Tensor]) -> LayerFacts:
    method = method_of(layer)
    if method is None or not is_sound(layer):
        return LayerFacts(name, block_of(name), "", None, None, None, "broken")
    rank = next((len(layer[ending]) for ending in _RANKED if ending in layer), None)
    alpha = float(layer["alpha"]) if "alpha" in layer else None
    kind = "dora" if "dora_scale" in layer else method.name
    if not all(bool(torch.isfinite(tensor).all()) for tensor in layer.values() if tensor.is_floating_point()):
        return LayerFacts(name, block_of(name), kind, rank, alpha, None, "not finite")
    norm = _norm(layer, method.name) if method.update is not None else None
    state = "dead" if norm == 0 and kind != "dora" else "ok"
    return LayerFacts(name, block_of(name), kind, rank, alpha, norm, state)


def _norm(layer: dict[str, Tensor], method: str) -> float:
    """Frobenius norm of the update; of a low-rank one without multiplying it out."""
    if method != "lora":
        return float(update_of(layer).norm())
    factors = lora_factors(layer)
    up, down = factors.up.double(), factors.down.double()
    return float(((up.T @ up) * (down @ down.T)).sum().clamp(min=0).sqrt())


def _family(found: LoraFile) -> str:
    """Its name in MODELS; empty where nothing tells."""
    by_width = {entry.context: name for name, entry in MODELS.items() if entry.context}
    if found.is_sdxl:
        return "sdxl"
    for name, layer in found.layers.items():
        if name.endswith(("attn2_to_k", "attn2_to_v", "self_attn_q_proj", "self_attn_k_proj")):
            family = by_width.get(input_width(name, layer))
            if family is not None:
                return family
    return _said(found.metadata)


def _said(metadata: Mapping[str, str]) -> str:
    """The family that its record names, "" for none of these; other trainers write `sd_1.5` and `sdxl_1.0`."""
    version = metadata.get("ss_base_model_version", "")
    for name in trained_here():
        if any(version == record.version for record in MODELS[name].records):
            return name
    spelled = {"sdxl_": "sdxl", "sd_v2": "sd2", "sd_2": "sd2", "sd_v1": "sd1", "sd_1": "sd1"}
    return next((name for start, name in spelled.items() if version.startswith(start)), "")


def _broken(layers: tuple[LayerFacts, ...]) -> Iterator[Problem]:
    said = {
        "not finite": (
            "NaN or infinite numbers: pictures become black",
            "take an earlier file of that training",
            "error",
        ),
        "broken": (
            "tensors that make no layer (one of a pair missing, or sizes that do not fit)",
            "fetch it again",
            "error",
        ),
        "dead": ("an update of zero: trained at rate 0, or not at all", "", "hint"),
    }
    for state, (what, cure, severity) in said.items():
        names = [layer.name for layer in layers if layer.state == state]
        if names:
            yield Problem(
                _some(names),
                f"{len(names)} of {len(layers)} layers have {what}",
                cure,
                f"layers_{state.replace(' ', '_')}",
                severity,
            )
    unknown = [layer.name for layer in layers if split_name(layer.name) is None]
    if unknown:
        yield Problem(
            _some(unknown), f"{len(unknown)} layers have names of no known model", "", "unknown_layers", "warning"
        )


def _some(names: list[str]) -> str:
    return names[0] + (" …" if len(names) > 1 else "")


def _incomplete(found: LoraFile, layers: tuple[LayerFacts, ...], family: str) -> Iterator[Problem]:
    """Layers that a whole part lacks, against the family's usual shape."""
    model = standard(family)
    if model is None or found.layout != "kohya":
        return
    usual = [name for name, _ in lora_layers(model)]
    have = {layer.name for layer in layers}
    if not have & set(usual):
        return
    for prefix in dict.fromkeys(name.split("_text_model")[0] if "_te" in name else "lora_unet" for name in usual):
        wanted = [name for name in usual if name.startswith(f"{prefix}_")]
        missing = [name for name in wanted if name not in have]
        if missing and len(missing) < len(wanted):
            what = f"{len(missing)} of {len(wanted)} layers of {prefix} are not there"
            yield Problem(_some(missing), what, "as it should be, where blocks were left out", "layers_missing", "hint")


def _hashes(found: LoraFile) -> Iterator[Problem]:
    said = found.metadata.get("sshs_model_hash")
    if said and found.path.suffix.lower() == ".safetensors" and said != _hash(found.path):
        what = "the hash in its metadata is not that of its weights: they were changed after the training"
        yield Problem("sshs_model_hash", what, "`kohyakit lora set FILE` writes a true one", "hash_untrue", "warning")


def _hash(path: Path) -> str:
    """SHA-256 of all bytes behind the header, as sd-scripts counts."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(safetensors_header.read(path).data_start)
        for block in iter(lambda: file.read(1 << 22), b""):
            digest.update(block)
    return digest.hexdigest()


def _triggers(metadata: Mapping[str, str]) -> Iterator[str]:
    """What was meant as trigger: said so, else the words of the folders, else the tag in nearly every caption."""
    if metadata.get("modelspec.trigger_phrase"):
        yield metadata["modelspec.trigger_phrase"]
        return
    counts = _json(metadata.get("ss_tag_frequency"))
    for folder, tags in counts.items():
        if isinstance(tags, dict) and tags:
            tag, _ = max(tags.items(), key=lambda pair: pair[1] if isinstance(pair[1], int) else 0)
            yield tag
        elif match := re.fullmatch(r"\d+_(.+)", folder):
            yield match[1]


def _json(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _gives_away(metadata: Mapping[str, str]) -> Iterator[str]:
    for key in ("ss_tag_frequency", "ss_dataset_dirs", "ss_reg_dataset_dirs", "ss_datasets"):
        if _json(metadata.get(key)) or (key == "ss_datasets" and metadata.get(key)):
            yield f"{key}: folder names" + (" and every caption's tags" if "tag" in key or key == "ss_datasets" else "")
    for key, value in metadata.items():
        if re.search(r"(?:[A-Za-z]:\\|/(?:home|Users|root|mnt|media)/)", value) and not key.startswith("ss_dataset"):
            yield f"{key}: a path of a machine"
