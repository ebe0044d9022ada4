"""Whatever is asked for of saves, lengths, stops and resumes: what lies on disk then is what the plan said."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kohyakit.config.train import TrainConfig
from kohyakit.dataset import layout
from kohyakit.models.noise.process import Ddpm
from kohyakit.planning.lengths import training_length
from kohyakit.planning.make import make_plan
from kohyakit.planning.plan import Course, Start
from kohyakit.planning.saves import earlier_points, save_points
from kohyakit.runs import registry
from kohyakit.runs.run import Run
from kohyakit.train.assemble import Parts, make_optimizer, parameter_groups
from kohyakit.train.interruption import Interruption
from kohyakit.train.processes import Processes
from kohyakit.train.start import carry_out
from kohyakit.train.step.batches import Batch, build_datasets
from kohyakit.train.step.precision import precision_of
from kohyakit.train.step.rng import KohyakitOrder
from kohyakit.train.trainer import Trainer
from tests.train.observers import stop_at


class Dot(nn.Module):
    """A whole model of one number, in the place of a LoRA: it is trained, kept in states and written to files."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def parameter_groups(self, text_encoder_lr, unet_lr, text_encoder_ratio=None, unet_ratio=None):
        return [{"params": [self.weight], "lr": unet_lr}], ["unet"]

    def train_only(self, parameters) -> None: ...

    def see(self, timesteps) -> None: ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.load_state_dict(state)

    def save(self, path: Path, dtype, metadata: dict[str, str], *, legacy_hash: bool) -> None:
        path.write_text(json.dumps({"steps": metadata["ss_steps"], "epoch": metadata["ss_epoch"]}), encoding="utf-8")

    def is_finite(self) -> bool:
        return True

    def limit_norms(self, largest: float) -> tuple[int, float, float]:
        return 0, 0.0, 0.0


class Family:
    def predict(self, model: Model, noisy: Tensor, timesteps: Tensor, told: Tensor) -> Tensor:
        return noisy * model.unet.weight


@dataclass
class Model:
    unet: Dot
    family: Family = field(default_factory=Family)


class NoPixels:
    """Latents of one number."""

    cached = True

    def __call__(self, batch: Batch) -> Tensor:
        return torch.ones(len(batch.examples), 4, 1, 1)

    def masks_of(self, batch: Batch, latents: Tensor) -> None:
        return None


def of_one_number(config: TrainConfig, plan, accelerator, seed: int, echo, *, progress: bool) -> Parts:
    """What `assemble` builds, without a model to load."""
    dot, order = Dot(), KohyakitOrder(seed)
    datasets = build_datasets(plan.datasets, 1.0)
    order.begin(datasets)
    groups, names = parameter_groups(config, dot)
    built, scheduler = make_optimizer(config, groups, plan.steps)
    return Parts(
        seed, order, datasets, precision_of("no", None, full=False, no_half_vae=False, device=torch.device("cpu")),
        Model(dot), NoPixels(), dot, built, accelerator.prepare(built.optimizer), scheduler, names,
        Ddpm.of(config.model, torch.device("cpu")), False, lambda captions, sizes: torch.zeros(1),
    )  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A training of the eight photos; stop: the step after which it is asked to end, and then gone on with."""

    values: dict[str, Any]
    stop: int | None = None

    @property
    def batches(self) -> int:
        """Batches of an epoch: of the 13 photos with repeats 10 are of one size, 2 of another and 1 of a third."""
        return sum(-(-images // self.values["train_batch_size"]) for images in (10, 2, 1))

    @property
    def steps(self) -> int:
        epochs = self.values.get("max_train_epochs")
        per_epoch = -(-self.batches // self.values["gradient_accumulation_steps"])
        return epochs * per_epoch if epochs else self.values["max_train_steps"]


def few(*numbers: int) -> st.SearchStrategy[int | None]:
    return st.one_of(st.none(), st.sampled_from(numbers))


@st.composite
def trainings(draw: st.DrawFn) -> Asked:
    length = draw(
        st.sampled_from([("max_train_epochs", n) for n in (1, 2, 3, 4)] + [("max_train_steps", n) for n in (1, 5, 11)])
    )
    values = {
        length[0]: length[1],
        "train_batch_size": draw(st.sampled_from((3, 4, 12))),
        "gradient_accumulation_steps": draw(st.sampled_from((1, 2, 3))),
        "save_every_n_epochs": draw(few(1, 2)),
        "save_n_epoch_ratio": draw(few(2)),
        "save_last_n_epochs": draw(few(1, 2)),
        "save_last_n_epochs_state": draw(few(1)),
        "save_every_n_steps": draw(few(1, 2, 3)),
        "save_last_n_steps": draw(few(1, 2, 4)),
        "save_last_n_steps_state": draw(few(1, 3)),
        "save_state": draw(st.booleans()),
        "save_state_on_train_end": draw(st.booleans()),
    }
    asked = Asked({"max_train_epochs": None} | {k: v for k, v in values.items() if v is not None})
    stop = draw(st.one_of(st.none(), st.integers(1, asked.steps - 1))) if asked.steps > 1 else None
    return Asked(asked.values, stop)


def written(asked: Asked, *, done: int = 0, stop: int | None = None) -> set[str]:
    """What lies in output_dir, walked batch by batch with sd-scripts' rules of what is saved and what goes.

    done: steps of an earlier training that is gone on from: only its state is left of it.
    """
    value = asked.values.get
    states, own, step = value("save_state"), asked.batches, 0
    per_epoch = -(-own // value("gradient_accumulation_steps"))
    epochs = -(-asked.steps // per_epoch)
    ratio, every_epochs, every_steps = (
        value("save_n_epoch_ratio"),
        value("save_every_n_epochs"),
        value("save_every_n_steps"),
    )
    every_epochs = max(1, epochs // ratio) if ratio else every_epochs
    there = {f"n-step{done:08d}-state"} if done else set()

    def save(name: str) -> None:
        there.update({f"{name}.safetensors"} | ({f"{name}-state"} if states else set()))

    for epoch in range(1, epochs + 1):
        for number in range(1, own + 1):
            if number % value("gradient_accumulation_steps") and number < own:
                continue
            step += 1
            if every_steps and step % every_steps == 0 and step > done:
                save(f"n-step{step:08d}")
                kept = value("save_last_n_steps")
                for span, ending in ((kept, ".safetensors"), (value("save_last_n_steps_state") or kept, "-state")):
                    if span and (states or ending != "-state"):
                        older = step - span - 1
                        there.discard(f"n-step{older - older % every_steps:08d}{ending}")
            if step == stop and number < own:
                return there | {f"n-step{step:08d}.safetensors", f"n-step{step:08d}-state"}
            if step == asked.steps:
                break
        if every_epochs and epoch % every_epochs == 0 and epoch < epochs and step > done:
            save(f"n-{epoch:06d}")
            kept = value("save_last_n_epochs")
            for count, ending in ((kept, ".safetensors"), (value("save_last_n_epochs_state") or kept, "-state")):
                if count and (states or ending != "-state"):
                    there.discard(f"n-{epoch - every_epochs * count:06d}{ending}")
        if step == stop:
            return there | {f"n-step{step:08d}.safetensors", f"n-step{step:08d}-state"}
    save_last = states or value("save_state_on_train_end")
    return there | {"n.safetensors"} | ({"n-state"} if save_last else set())


def promised(plan: dict[str, Any], stop: int | None = None) -> set[str]:
    """What `check` says that will lie there after the last step, or after a stop on the way."""
    end = stop or plan["steps"]
    found = {f"n-step{stop:08d}.safetensors", f"n-step{stop:08d}-state"} if stop else set()
    for row in plan["files"]:
        last = row["file"] == "n.safetensors"
        for name, gone in ((row["file"], row["deleted_at_step"]), (row["state"], row["state_deleted_at_step"])):
            if name and row["step"] <= end and not (gone and gone <= end) and not (last and stop):
                found.add(name)
    return found


def lying(folder: Path) -> set[str]:
    return {path.name for path in (folder / "out").iterdir() if path.name.startswith("n")}


def plan_of(run: Run) -> dict[str, Any]:
    return json.loads((run.folder / "plan.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def processes() -> Processes:
    return Processes("no")


def trained(config: TrainConfig, processes: Processes, stop: int | None = None) -> Run:
    """The plan and what comes of it, without looking for a base model first, as there is none."""
    scan = layout.scan(config)
    plan = make_plan(config, scan, backend="kohyakit")
    run = registry.start(config, plan=plan, scan=scan)
    callbacks = [stop_at(stop, Path(config.saving.output_dir))] if stop else []
    trainer = Trainer(
        config, plan, run, processes, echo=quiet, progress=False, callbacks=callbacks, build=of_one_number
    )
    carry_out(trainer, Interruption(quiet), quiet)
    assert run.status == ("stopped" if stop else "finished")
    return run


def quiet(text: str) -> None: ...


@settings(max_examples=300)
@given(trainings())
def test_the_plan_is_what_the_rules_leave(asked):
    """The same without training, so that many more combinations are seen."""
    config = TrainConfig().with_values(output_name="n", **asked.values)
    length = training_length(config, asked.batches)
    assert length.steps == asked.steps

    def rows(start: Start) -> dict[str, Any]:
        points = save_points(config, Course(length, start))
        return {"steps": asked.steps, "files": [
            {"file": p.file, "state": p.state, "step": p.step, "deleted_at_step": p.deleted_at,
             "state_deleted_at_step": p.state_deleted_at} for p in points
        ]}  # fmt: skip

    assert promised(rows(Start()), asked.stop) == written(asked, stop=asked.stop)
    if asked.stop:
        epoch, step = divmod(asked.stop, length.steps_per_epoch)
        start = Start(asked.stop, epoch + 1, step * length.accumulation)
        state = f"n-step{asked.stop:08d}-state"
        assert promised(rows(start)) - {state} == written(asked, done=asked.stop) - {state}
        gone = {p.state for p in earlier_points(config, Course(length, start)) if p.state_deleted_at}
        assert (state in gone) == (state not in written(asked, done=asked.stop))


@given(trainings())
def test_the_files_on_disk_are_the_plans(config_into, processes, asked):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = config_into(folder, output_name="n", pretrained_model_name_or_path=None, **asked.values)
        run = trained(config, processes, asked.stop)
        assert lying(folder) == written(asked, stop=asked.stop) == promised(plan_of(run), asked.stop)
        if asked.stop:
            state = folder / "out" / f"n-step{asked.stop:08d}-state"
            run = trained(config.with_values(resume=str(state)), processes)
            assert lying(folder) == written(asked, done=asked.stop)
            assert lying(folder) - {state.name} == promised(plan_of(run)) - {state.name}
        for row in plan_of(run)["files"]:
            if (folder / "out" / row["file"]).exists():
                told = json.loads((folder / "out" / row["file"]).read_text(encoding="utf-8"))
                assert int(told["steps"]) == row["step"]
