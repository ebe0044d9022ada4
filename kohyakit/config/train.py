"""TrainConfig: everything a person asked for, in sd-scripts' own words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kohyakit.config.param import Spec, specs
from kohyakit.config.sections.bucket import BucketConfig
from kohyakit.config.sections.dataset import DatasetConfig
from kohyakit.config.sections.finetune import FinetuneConfig
from kohyakit.config.sections.launch import LaunchConfig
from kohyakit.config.sections.model import ModelConfig
from kohyakit.config.sections.network import NetworkConfig
from kohyakit.config.sections.noise_loss import NoiseLossConfig
from kohyakit.config.sections.optimizer import OptimizerConfig
from kohyakit.config.sections.other_families import FamiliesConfig
from kohyakit.config.sections.sampling import SamplingConfig
from kohyakit.config.sections.saving import SavingConfig
from kohyakit.config.sections.training import TrainingConfig
from kohyakit.errors import Problem


@dataclass(frozen=True, slots=True)
class Note:
    """What happened to one key on reading: mapped, defaulted, repaired, unknown or dropped, and why."""

    key: str
    action: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a config came from: the untouched text, its format, a note per key, and what reading it found odd.

    format: gui-json, toml or values. path is None for values given in Python. problems: warnings and hints only, as an
    error leaves no config.
    """

    path: Path | None
    format: str
    text: str
    notes: tuple[Note, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """The sections, frozen. A parameter's name is the same in every section, file, option and form.

    extras: keys of the source that no parameter has, kept so that nothing is lost on writing. allowed_code: names of
    code of one's own that the person gave in this call; no file can set it.
    """

    model: ModelConfig = ModelConfig()
    dataset: DatasetConfig = DatasetConfig()
    bucket: BucketConfig = BucketConfig()
    network: NetworkConfig = NetworkConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    noise_loss: NoiseLossConfig = NoiseLossConfig()
    training: TrainingConfig = TrainingConfig()
    saving: SavingConfig = SavingConfig()
    sampling: SamplingConfig = SamplingConfig()
    launch: LaunchConfig = LaunchConfig()
    families: FamiliesConfig = FamiliesConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    extras: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    source: Source | None = None
    allowed_code: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Any:
        """The value of a parameter by its flat name. Raises KeyError for an unknown name."""
        return getattr(getattr(self, SPECS()[name].section), name)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Every parameter with its value, in the order of declaration."""
        for name in SPECS():
            yield name, self[name]

    def allowing(self, names: Iterable[str]) -> TrainConfig:
        """A copy for which code of these names may be imported (see config.named_code)."""
        return replace(self, allowed_code=(*self.allowed_code, *names))

    def with_values(self, **values: Any) -> TrainConfig:
        """A copy with parameters replaced by flat name, taken as they are (see config.read for checking)."""
        by_section: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            by_section.setdefault(SPECS()[name].section, {})[name] = value
        return replace(self, **{s: replace(getattr(self, s), **v) for s, v in by_section.items()})


def SPECS() -> dict[str, Spec]:
    """Every parameter by name."""
    return specs(TrainConfig)
