"""What can go wrong, said so that a person knows what to do next.

KohyakitError
├── ConfigError     problems of a preset, a TOML or an option; carries all of them
├── DatasetError    problems of folders, images or captions; carries all of them
├── RunError        a run that cannot start, go on or be read
└── MissingExtra    an optional package is not installed
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SEVERITIES = ("error", "warning", "hint")
"""Worst first: what stops a training, what spoils it or surprises, what is worth knowing."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where it stands, what it is, what to do next.

    name: the trap's plain name, for programs (`alpha_above_rank`). severity: one of SEVERITIES; `good` in what is said
    of a run that did well.
    """

    where: str
    what: str
    cure: str = ""
    name: str = ""
    severity: str = "error"

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}; {self.cure}" if self.cure else text

    @property
    def rank(self) -> int:
        """To sort by, the worst first."""
        return rank_of(self.severity)


def rank_of(severity: str | None) -> int:
    """Place of a severity in SEVERITIES; what is no fault, such as `good` news of a run, comes behind them."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


class KohyakitError(Exception):
    """Base of every error that this package raises on purpose; its text is one clear sentence a problem."""

    exit_code = 2

    def __init__(self, problems: Problem | str | Iterable[Problem]) -> None:
        if isinstance(problems, str):
            problems = Problem("", problems)
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ConfigError(KohyakitError):
    """A preset, a TOML or an option cannot be used as it stands."""


class DatasetError(KohyakitError):
    """Folders, images or captions cannot be used as they stand."""


class RunError(KohyakitError):
    """A run cannot start, go on or be read."""


class MissingExtra(KohyakitError):
    """An optional package is not installed; the message carries the pip line that installs it."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(Problem(what, f"needs the package {package}", f'pip install "kohyakit[{extra}]"'))
        self.package = package
        self.extra = extra


# Import name of a package that an extra brings: (its name for pip, the smallest extra that has it).
_EXTRAS = {
    **{name: (name, "audit") for name in ("ftfy", "numpy", "pandas", "pyarrow", "simplejpeg", "tokenizers")},
    **{name: (name, "train") for name in ("accelerate", "diffusers", "peft", "safetensors", "torch", "transformers")},
    "tqdm": ("tqdm", "train"),
    "yaml": ("pyyaml", "yaml"),
    "PIL": ("pillow", "audit"),
    "cv2": ("opencv-python-headless", "audit"),
    **{name: (name, "dashboard") for name in ("starlette", "streamlit", "uvicorn")},
    **{name: (name, "caption") for name in ("huggingface_hub", "onnxruntime")},
    "jpeglib": ("jpeglib", "lossless"),
    "tensorboard": ("tensorboard", "train"),
}


def missing_extra(error: ModuleNotFoundError, what: str) -> MissingExtra | None:
    """The sentence for a package of an extra that is not installed; None when it is any other package.

    what: what was wanted, such as `kohyakit audit`.
    """
    known = _EXTRAS.get((error.name or "").partition(".")[0])
    return MissingExtra(what, *known) if known else None
