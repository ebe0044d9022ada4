"""The real cause of a failed training, out of its log: accelerate itself only says "non-zero exit status 1"."""

from __future__ import annotations

import re

_ENDED = re.compile(
    r"^(?P<kind>[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning)?)(?::\s*(?P<text>.*))?$", re.DOTALL
)
_LAUNCHER = ("CalledProcessError", "ChildFailedError", "ProcessExitedException")
_TRACEBACK = re.compile(r"^(?:\[rank\d+\]:\s?)?Traceback \(most recent call last\):$", re.MULTILINE)

# What the last line of the last traceback looks like -> what that means, what to do. Tried in this order.
_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        r"out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED|not enough memory: you tried to allocate",
        "the graphics card ran out of memory",
        "switch gradient_checkpointing and cache_latents on, lower train_batch_size or resolution, or start from the "
        "template low-memory",
    ),
    (
        r"No module named '(?P<x>[\w.]+)'",
        "the Python that runs sd-scripts has no package {x}",
        "{python} -m pip install {x}, or install the checkout's requirements.txt",
    ),
    (
        r"No (?P<x>bitsandbytes|lion_pytorch|dadaptation|Prodigy|schedulefree|xformers|wandb)\b",
        "the Python that runs sd-scripts has no package {x}",
        "install it there, or choose another optimizer or attention",
    ),
    (
        r"CUDA Setup failed|libbitsandbytes|bitsandbytes.*CUDA",
        "bitsandbytes does not work with this graphics driver",
        "set optimizer_type to AdamW, Adafactor or Prodigy, which do not need it",
    ),
    (
        r"Torch not compiled with CUDA enabled|No CUDA GPUs are available|Found no NVIDIA driver",
        "torch found no usable graphics card",
        "install the CUDA build of torch in that Python, or look at the graphics driver",
    ),
    (
        r"no kernel image is available",
        "the installed torch has no code for this graphics card",
        "install a newer CUDA build of torch in that Python",
    ),
    (
        r"NaN detected in latents",
        "the VAE gave NaN latents, as SDXL's does in half precision",
        "set no_half_vae, or name the fp16-fix VAE in vae",
    ),
    (
        r"size mismatch for|Missing key\(s\) in state_dict|Error\(s\) in loading state_dict",
        "the model file is not of the kind that this script trains",
        "choose the script of the model's family (SD 1.x, SDXL, Flux …), and look at v2",
    ),
    (
        r"Can't load tokenizer|couldn't connect to|LocalEntryNotFoundError|offline mode|MaxRetryError|Connection error",
        "sd-scripts wanted a file from the Hugging Face hub and could not reach it",
        "run once with a network, or set tokenizer_cache_dir to a folder that holds the tokenizer",
    ),
    (r"No space left on device|disk is full|ENOSPC", "the disk is full", "make room in output_dir"),
    (r"caption file is empty", "a caption file is empty, and sd-scripts stops at those", "write or delete it"),
    (
        r"image file is truncated|cannot identify image file|UnidentifiedImageError",
        "a picture is damaged",
        "kohyakit audit names it",
    ),
    (r"illegal char in file|can't decode byte", "a caption file is not UTF-8", "kohyakit audit names it"),
    (r"min_bucket_reso must be equal or less", "min_bucket_reso is above the resolution", "lower min_bucket_reso"),
    (r"max_bucket_reso must be equal or greater", "max_bucket_reso is below the resolution", "raise max_bucket_reso"),
    (r"does not require `num_warmup_steps`", "this scheduler takes no warm-up", "set lr_warmup_steps to 0"),
    (r"optimizer got an empty parameter list", "nothing is left to train", "set a learning rate that is not 0"),
    (
        r"Setting different lr values in different parameter groups",
        "this optimizer needs one learning rate for all parts",
        "set unet_lr and text_encoder_lr to the same value",
    ),
    (r"does not appear to have a file named|is not a file or directory|No such file or directory: '(?P<x>[^']+)'",
     "a file is missing", "look at the paths in the settings"),
    (r"Address already in use", "another run uses the same port", "set main_process_port to another number"),
)  # fmt: skip
# Words in the output of a run that ended without an error and yet did nothing.
_QUIET = (
    (
        "No data found. Please verify",
        "no pictures were found",
        "train_data_dir must hold <repeats>_<name> folders with pictures",
    ),
    ("No prompt file", "", ""),
)
_CODES = {
    -9: ("the system ended it, most likely because main memory ran out", "close other programs, or switch lowram on"),
    137: ("the system ended it, most likely because main memory ran out", "close other programs, or switch lowram on"),
    -11: ("it crashed in native code", "update torch, xformers and the graphics driver in that Python"),
    139: ("it crashed in native code", "update torch, xformers and the graphics driver in that Python"),
    3221225477: (
        "it crashed with an access violation",
        "update torch, xformers and the graphics driver in that Python",
    ),
    3221225786: ("it was ended with Ctrl-C", ""),
    -15: ("another program ended it", ""),
}


def cause(output: str, code: int, *, python: str = "python") -> tuple[str, str]:
    """(what went wrong, what to do) from the end of a training's output and its exit code; ("", "") when nothing did.

    Looks at the last traceback that is not the launcher's own, then at argparse's complaint, then at the code.
    """
    if code == 0:
        return next(((what, cure) for words, what, cure in _QUIET if words in output), ("", ""))
    final = _final_error(output)
    complaint = re.findall(r"^\S*\.py: error: (.+)$", output, flags=re.MULTILINE)
    text = final or (complaint[-1] if complaint else "")
    for pattern, what, cure in _KNOWN:
        found = re.search(pattern, text, flags=re.IGNORECASE)
        if found:
            names = {name: value or "" for name, value in found.groupdict().items()}
            shown = {"x": "", **names, "python": python}
            detail = f" ({_english(text)})" if what in ("a file is missing", "a picture is damaged") else ""
            return what.format(**shown) + detail, cure.format(**shown)
    if text:
        return _english(text), ""
    if code in _CODES:
        return _CODES[code]
    last = [line.strip() for line in output.splitlines() if line.strip() and "non-zero exit status" not in line]
    said = f"; the last it said was: {last[-1][:300]}" if last else ""
    return f"it ended with exit code {code}{said}", ""


def _final_error(output: str) -> str:
    """The last error of the last traceback that is the training's own, its message in full."""
    for block in reversed(_TRACEBACK.split(output)[1:]):
        message: list[str] = []
        for line in block.splitlines():
            line = re.sub(r"^\[rank\d+\]:\s?", "", line)
            if message or (line and not line[0].isspace() and _ENDED.match(line)):
                if message and not line.strip():
                    break
                message.append(line)
        text = "\n".join(message)
        if text and not any(name in message[0] for name in _LAUNCHER):
            return text
    return ""


def _english(text: str) -> str:
    """One line for a person: the error's name where it says something, sd-scripts' Japanese half left out."""
    found = _ENDED.match(text)
    kind, said = (found["kind"], found["text"] or "") if found else ("", text)
    first = said.strip().splitlines()[0] if said.strip() else ""
    half = re.split(r" / (?=[^\x00-\x7f]|[^/]*[^\x00-\x7f])", first)[0].strip()
    short = kind.rsplit(".", 1)[-1]
    if not half:
        return short
    return half if short in ("AssertionError", "ValueError", "RuntimeError", "") else f"{short}: {half}"
