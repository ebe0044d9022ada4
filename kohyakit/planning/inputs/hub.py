"""Base models fetched from the Hugging Face hub where a person says so: what a training reads of them, and no more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kohyakit.config.train import TrainConfig
from kohyakit.errors import ConfigError, Problem
from kohyakit.formats.weights.part_files import forms, stem
from kohyakit.planning.inputs.missing import MODEL, locate, looks_like_hub

_PARTS = ("unet", "text_encoder", "text_encoder_2", "vae")
_BESIDE = ("model_index.json", "scheduler/scheduler_config.json")


def fetch_missing(config: TrainConfig) -> list[Path]:
    """Fetch the base model and the VAE where they are named as on the hub and are not in its local cache.

    Returns the folders. What was fetched of a file before an interruption is gone on with. Raises ConfigError.
    """
    wanted = {name: option for option in (MODEL, "vae") if isinstance(name := config[option], str)}
    return [fetch(name) for name in wanted if looks_like_hub(name) and locate(name) is None]


def fetch(name: str) -> Path:
    """The folder in the hub's local cache into which a model was fetched, with progress on the terminal.

    name: `owner/name`. Raises ConfigError for one that is not there, holds no diffusers model, or cannot be reached.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        held = HfApi().list_repo_files(name)
        files = needed(held)
        if not files:
            found = ", ".join(file for file in held if file.endswith((".safetensors", ".ckpt"))) or "other files"
            what = f"holds no diffusers model ({found})"
            raise ConfigError(Problem(name, what, f"download a file by hand and name it in {MODEL}", "wrong_model"))
        return Path(snapshot_download(name, allow_patterns=files))
    except ConfigError:
        raise
    except OfflineModeIsEnabled:
        what, cure = "cannot be fetched while HF_HUB_OFFLINE is set", "take it out of the environment"
    except Exception as error:  # the hub's package passes on those of whichever HTTP client it uses
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        what = f"could not be fetched from the hub ({why})"
        cure = "look at the name and the connection; the same command goes on where it stopped"
    raise ConfigError(Problem(name, what, cure, "model_missing"))


def needed(held: Sequence[str]) -> list[str]:
    """Those of a repository's files that make a model, or a VAE alone, in the best form that there is.

    Nothing where no part has both its configuration and its weights.
    """
    alone = "config.json" in held
    parts = ("",) if alone else tuple(f"{part}/" for part in _PARTS if f"{part}/config.json" in held)
    found = {part: [*_weights(part, held)] for part in parts}
    if not found or not all(found.values()):
        return []
    beside = [] if alone else [name for name in _BESIDE if name in held]
    return [*beside, *(name for part in parts for name in (f"{part}config.json", *found[part]))]


def _weights(part: str, held: Sequence[str]) -> Iterator[str]:
    for name, index in forms(part.rstrip("/")):
        if f"{part}{name}" in held:
            yield f"{part}{name}"
            if index:
                ending = name.removeprefix(stem(part.rstrip("/"))).removesuffix(".index.json")
                yield from (file for file in held if file.startswith(part) and file.endswith(ending))
            return
