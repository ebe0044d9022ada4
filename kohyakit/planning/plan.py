"""The plan of a training in small frozen values: how long it is, what lies in which bucket, when what is written.

Made by `planning.make`; the trainer, its saves, its samples and its data take it as it is and work nothing out again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from kohyakit.dataset.buckets import Bucket, Placement
from kohyakit.dataset.images import ImageRecord
from kohyakit.dataset.layout import Dataset, Subset
from kohyakit.errors import Problem
from kohyakit.formats.prompt_lines import SamplePrompt
from kohyakit.planning.inputs.network_weights import NetworkWeights
from kohyakit.planning.machine import LACKING
from kohyakit.planning.size.architecture import Architecture
from kohyakit.planning.size.lora import LoraSize

_RUNTIME = 600 * 2**20  # bytes of CUDA context and libraries


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """An image of an epoch in its place: the bucket it goes to, and how often the epoch shows it."""

    record: ImageRecord
    subset: Subset
    placement: Placement
    repeats: int


@dataclass(frozen=True, slots=True)
class BucketCount:
    """A bucket with its load in one epoch. images: repeats included. files: different images. batches: ceil.

    members: where its files stand among the data set's images.
    """

    bucket: Bucket
    images: int
    files: int
    batches: int
    members: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DatasetPlan:
    """A data set with its images in their places and the buckets' load, sorted by (width, height)."""

    dataset: Dataset
    buckets: tuple[BucketCount, ...]
    images: tuple[PlacedImage, ...] = ()


@dataclass(frozen=True, slots=True)
class Length:
    """A training's length. decided_by: max_train_epochs, max_train_steps or epoch, whichever is in force.

    processes, accumulation: what shares an epoch's batches into steps. own_batches: those of an epoch for each process.
    """

    batches_per_epoch: int
    steps_per_epoch: int
    epochs: int
    steps: int
    decided_by: str
    warmup_steps: int = 0
    decay_steps: int = 0
    processes: int = 1
    accumulation: int = 1

    @property
    def own_batches(self) -> int:
        return -(-self.batches_per_epoch // self.processes)

    def ends_step(self, number: int) -> bool:
        """Whether a process' batch of an epoch, from 1, ends an optimizer step; the epoch's last always does."""
        return number == self.own_batches or number % self.accumulation == 0


@dataclass(frozen=True, slots=True)
class Start:
    """Where a training begins: steps that are done, the epoch it goes on with (from 1), batches of it that are done.

    changed: something was changed on purpose since the state that it goes on from. anew: it was the data, so that the
    epoch begins anew. as_sd_scripts: it ends with the last epoch, however many steps are done by then.
    """

    step: int = 0
    epoch: int = 1
    batches_done: int = 0
    changed: bool = False
    anew: bool = False
    as_sd_scripts: bool = False


@dataclass(frozen=True, slots=True)
class Course:
    """The way of a training from its start to its last step: which epoch ends with which step."""

    length: Length
    start: Start = Start()

    def end_of(self, epoch: int) -> int:
        """The step that an epoch ends with."""
        per_epoch, start = self.length.steps_per_epoch, self.start
        first = start.step + per_epoch - start.batches_done // self.length.accumulation
        return min(self.length.steps, first + (epoch - start.epoch) * per_epoch)

    def epoch_of(self, step: int) -> int:
        """The epoch that a step belongs to."""
        past = step - self.end_of(self.start.epoch)
        return self.start.epoch + max(0, -(-past // self.length.steps_per_epoch))

    @property
    def last_epoch(self) -> int:
        """The one that the last step belongs to: where the data changed on the way, not always the last of `length`."""
        reached = self.epoch_of(self.length.steps)
        return min(reached, self.length.epochs) if self.start.as_sd_scripts else reached

    @property
    def last_step(self) -> int:
        return max(self.start.step, self.end_of(self.last_epoch))


@dataclass(frozen=True, slots=True)
class SavePoint:
    """A file written at the end of a step. file: without a folder. state: the state folder saved with it, or None.

    deleted_at, state_deleted_at: the step at whose save it is removed by save_last_n_*, or None where it stays.
    by: what it is written for: the "step", the "epoch" that ends with it, the "end", or a "stop" on the way.
    """

    step: int
    epoch: int
    file: str
    state: str | None = None
    deleted_at: int | None = None
    state_deleted_at: int | None = None
    by: str = "end"

    @property
    def told_epoch(self) -> int:
        """The epoch that the file itself tells (ss_epoch): sd-scripts counts those that ended before a step's save."""
        return self.epoch - (self.by == "step")


@dataclass(frozen=True, slots=True)
class DrawPoint:
    """Samples are drawn after a step, 0 being before the first. epoch: the one that ends with it; None within one."""

    step: int
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class ValidationPoint:
    """The loss is measured after a step. epoch: the one that ends with it; None within one."""

    step: int
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Validation:
    """How the loss is measured on the way.

    datasets: the photos, each once, that are held back or, where not, the training's own. batches: how many are looked
    at each time. noises: how often each photo is. timesteps: those that sd-scripts measures at, where it is as there,
    with its draws and its running mean. overlap: photos held back that are trained on too. patience: so many times
    without a lower loss end the training.
    """

    datasets: tuple[DatasetPlan, ...]
    batches: int
    noises: int
    points: frozenset[ValidationPoint]
    held_back: bool = True
    timesteps: tuple[int, ...] = ()
    overlap: int = 0
    patience: int | None = None

    @property
    def as_sd_scripts(self) -> bool:
        return bool(self.timesteps)

    @property
    def tag(self) -> str:
        """What the logs call it: only photos that are not trained are a validation."""
        return "loss/validation" if self.held_back else "loss/fixed_noise"

    @property
    def images(self) -> int:
        return sum(len(part.images) for part in self.datasets)

    @property
    def in_order(self) -> list[ValidationPoint]:
        return sorted(self.points, key=lambda point: (point.step, point.epoch or 0))

    def due(self, step: int, epoch: int | None) -> bool:
        return ValidationPoint(step, epoch) in self.points

    def follows(self, batch: int, length: Length) -> bool:
        """Whether it comes after a micro-batch, counted from 0 over all epochs from the first."""
        epochs, place = divmod(batch, length.own_batches)
        if not length.ends_step(place + 1):
            return False
        step = epochs * length.steps_per_epoch + -(-(place + 1) // length.accumulation)
        return self.due(step, None) or (place + 1 == length.own_batches and self.due(step, epochs + 1))


@dataclass(frozen=True, slots=True)
class LearningRates:
    """Rates in force; 0 means that the part is not trained. relative: the optimizer sets its own and ignores them."""

    unet: float
    text_encoder: tuple[float, ...]
    relative: bool = False


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes on the GPU, an estimate.

    weights: of the frozen models that stay there while training. activations: of the largest step. allocator: what
    torch's allocator holds on to beside the tensors of that step, as pieces of memory fit them badly. samples and
    caching: what the largest sample picture, and encoding pictures and captions ahead of the first step, take in
    their turn. caches: what is kept of that in main memory, and waiting: the transformer blocks that wait there, both
    no part of the total.
    """

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    samples: int = 0
    caching: int = 0
    caches: int = 0
    waiting: int = 0
    allocator: int = 0
    runtime: int = _RUNTIME

    @property
    def phases(self) -> dict[str, int]:
        """What is in use at the highest in a step, while a sample is drawn, and while caches are made."""
        trained = self.adapter + self.optimizer
        return {
            "step": self.runtime + self.weights + trained + self.gradients + self.activations + self.allocator,
            "sample": self.runtime + self.weights + trained + self.samples if self.samples else 0,
            "caching": self.runtime + self.caching if self.caching else 0,
        }

    @property
    def total(self) -> int:
        return max(self.phases.values())

    @property
    def highest(self) -> str:
        """The phase that needs the most: step, sample or caching."""
        return max(self.phases, key=lambda name: self.phases[name])


@dataclass(frozen=True, slots=True)
class Plan:
    """What a training will do. Computed from a config and what lies on disk; nothing goes back into the config.

    steps: optimizer steps. misfits: images that no bucket takes, with the reason. lora: the file's size, or None for
    a network or a model whose layers are not known; metadata_bytes: about what the metadata add. weights: the LoRA
    that gives each layer its rank, with dim_from_weights. unused: folders of regularisation images that no training
    image stands beside. findings: what is wrong or surprising, worst first.

    start: where it begins, which is not the first step where it goes on from a state. saves: every file that it
    writes, in the order of writing, the last one at its end. earlier: files of the training that it goes on from, as
    far as one of its own saves removes them. name, ending: what every file of it is called by. validation: how the
    loss is measured on the way, if it is. best: the file of the best measurement, written anew with each better one.
    """

    datasets: tuple[DatasetPlan, ...]
    misfits: tuple[tuple[ImageRecord, str], ...]
    length: Length
    learning_rates: LearningRates
    saves: tuple[SavePoint, ...]
    samples: tuple[SamplePrompt, ...]
    draws: tuple[DrawPoint, ...] = ()
    output_dir: str | None = None
    model: Architecture | None = None
    lora: LoraSize | None = None
    metadata_bytes: int = 0
    memory: MemoryEstimate | None = None
    gui_steps: int | None = None
    weights: NetworkWeights | None = None
    unused: tuple[Subset, ...] = ()
    findings: tuple[Problem, ...] = ()
    start: Start = Start()
    earlier: tuple[SavePoint, ...] = ()
    name: str = "last"
    ending: str = ".safetensors"
    validation: Validation | None = None
    best: str | None = None

    @property
    def trains(self) -> bool:
        """Is there anything to train at all? Without it nothing else in the plan means anything."""
        return self.length.steps_per_epoch > 0 and self.length.steps > 0

    @property
    def steps(self) -> int:
        return self.length.steps

    @property
    def epochs(self) -> int:
        return self.length.epochs

    @property
    def course(self) -> Course:
        return Course(self.length, self.start)

    @property
    def sample_steps(self) -> tuple[int, ...]:
        """After which steps samples are drawn, 0 being before the first."""
        return tuple(point.step for point in self.draws)

    @property
    def batches_per_epoch(self) -> int:
        return self.length.batches_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        return self.length.steps_per_epoch

    @property
    def warmup_steps(self) -> int:
        return self.length.warmup_steps

    @property
    def lora_bytes(self) -> int | None:
        """The LoRA file without its metadata, exact."""
        return self.lora.file_bytes() if self.lora else None

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The findings that stop a training."""
        return tuple(problem for problem in self.findings if problem.severity == "error")

    @property
    def lacking_here(self) -> tuple[Problem, ...]:
        """The findings that stop a training on this machine only: a package or a GPU that it has not."""
        return tuple(problem for problem in self.findings if problem.name in LACKING)

    def best_at(self, step: int, epoch: int | None, within: int) -> SavePoint:
        """The file of the best measurement so far. epoch: the one that ended with the step, else within which."""
        return SavePoint(step, epoch or within, self.best or "", by="step" if epoch is None else "epoch")

    def ended_at(self, step: int, epoch: int) -> SavePoint:
        """The last file, of a training that needs no more steps."""
        return replace(self.saves[-1], step=step, epoch=epoch)

    def stopped_at(self, step: int, epoch: int) -> SavePoint:
        """What is written where the training ends on the way, asked to or in trouble."""
        name = f"{self.name}-step{step:08d}"
        return SavePoint(step, epoch, name + self.ending, f"{name}-state", by="stop")

    def called(self, renamed: Callable[[str], str]) -> Plan:
        """The same plan with the names of all files renamed, such as by the version of the run that it became."""

        def named(points: tuple[SavePoint, ...]) -> tuple[SavePoint, ...]:
            return tuple(
                replace(point, file=renamed(point.file), state=point.state and renamed(point.state)) for point in points
            )

        return replace(
            self, name=renamed(self.name), saves=named(self.saves), earlier=named(self.earlier),
            best=self.best and renamed(self.best),
        )  # fmt: skip
