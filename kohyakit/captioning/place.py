"""Where a model lies: a folder, a file, or a name that the hub's local cache knows. Nothing is fetched unasked."""

from __future__ import annotations

from pathlib import Path

from kohyakit.errors import ConfigError, Problem


def find(name: str, *, given: bool = True, download: bool = False, files: tuple[str, ...] | None = None) -> Path:
    """The folder that holds a model.

    name: a folder, or `owner/name` on the Hugging Face hub. given: by the person; a name of ours is no folder, as
    the one that a person stands in may come from a stranger. download: fetch it where the local cache lacks it.
    files: patterns of the files that are needed. Raises ConfigError saying where to put it.
    """
    place = Path(name).expanduser()
    if given and place.exists():
        return place if place.is_dir() else place.parent
    if name.count("/") != 1 or place.is_absolute() or "\\" in name:
        raise ConfigError(
            Problem(name, "there is no such folder", "give the folder that holds the model", "model_missing")
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=not download, allow_patterns=list(files or ()) or None))
    except Exception as error:  # the hub's package passes on those of whichever HTTP client it uses
        if download:
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            what = f"could not be fetched from the hub ({why})"
            cure = "look at the name and the connection, or fetch the files by hand and give their folder"
        else:
            what = "is not in the local cache of the Hugging Face hub"
            cure = f"add --download, or run `hf download {name}`, or give a folder"
        raise ConfigError(Problem(name, what, cure, "model_missing")) from None
