"""Everything a training needs, built in the order in which sd-scripts draws its random numbers."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from kohyakit.config.scripts import model_family
from kohyakit.config.sections.network import NetworkConfig
from kohyakit.config.sections.training import TrainingConfig
from kohyakit.config.train import TrainConfig
from kohyakit.dataset.augment import process_caption
from kohyakit.dataset.images import ImageRecord
from kohyakit.errors import ConfigError, Problem
from kohyakit.models import Model, load_model
from kohyakit.models.conditioning import Conditioning
from kohyakit.models.noise.process import Process
from kohyakit.networks.base import Network, NetworkBuild
from kohyakit.networks.merged import merge, read_for
from kohyakit.networks.methods.lora import arguments_of, draw_as_sd_scripts
from kohyakit.planning.lengths import learning_rates
from kohyakit.planning.plan import Plan
from kohyakit.registry.networks import NETWORKS
from kohyakit.train.callbacks import Progress
from kohyakit.train.optimizers.build import BuiltOptimizer, build_optimizer, chosen_type
from kohyakit.train.optimizers.schedulers import build_scheduler
from kohyakit.train.step.batches import TrainDataset, build_datasets
from kohyakit.train.step.latents import LatentSource
from kohyakit.train.step.npz_caches import SharedText
from kohyakit.train.step.placing import Frozen, brought
from kohyakit.train.step.precision import Precision, precision_of
from kohyakit.train.step.preservation import of_the_class
from kohyakit.train.step.rng import KohyakitOrder, Order
from kohyakit.train.step.rng_sd_scripts import SdScriptsOrder
from kohyakit.train.step.text_outputs import TextOutputs, weights_mark
from kohyakit.train.trained import Trained

MAX_SEED = 2**32

Echo = Callable[[str], None]


@dataclass(slots=True)
class Parts:
    """What `assemble` built.

    optimizer: as accelerate prepared it; built: the plain one with what is recorded about it.
    group_names: of the optimizer's groups, `textencoder` and `unet`, each also with ` plus` (LoRA+).
    held_back: photos that are measured only; a batch of theirs counts its data set on after those trained.
    """

    seed: int
    order: Order
    datasets: Sequence[TrainDataset]
    precision: Precision
    model: Model
    latents: LatentSource
    trained: Trained
    built: BuiltOptimizer
    optimizer: Any
    scheduler: Any
    group_names: list[str]
    process: Process
    train_text_encoder: bool
    text_outputs: TextOutputs | None = None
    held_back: Sequence[TrainDataset] = ()

    def adapted_rates(self) -> dict[str, float]:
        """What D-Adaptation and Prodigy really use, by group: their estimate d times the rate."""
        groups = zip(self.group_names, self.built.optimizer.param_groups, strict=True)
        return {name: float(group["d"] * group["lr"]) for name, group in groups if "d" in group}


class BuildParts(Protocol):
    """What makes the parts of a training; `assemble`, or another one's with something else to be trained."""

    def __call__(
        self, config: TrainConfig, plan: Plan, accelerator: Any, seed: int, echo: Echo, *, progress: bool
    ) -> Parts: ...


def assemble(config: TrainConfig, plan: Plan, accelerator: Any, seed: int, echo: Echo, *, progress: bool) -> Parts:
    """Load the model, cache latents, build network, optimizer and schedule, and put everything in its place."""
    training, network_config = config.training, config.network
    datasets = build_datasets(plan.datasets, config.noise_loss.prior_loss_weight)
    held = build_datasets(plan.validation.datasets if plan.validation and plan.validation.held_back else (), 1.0)
    order = _order(training, seed)
    order.begin(datasets, held, [count for data in (*datasets, *held) for count in data.source.shuffled])
    precision = precision_of(
        training.mixed_precision,
        config.saving.save_precision,
        full=training.full_fp16 or training.full_bf16,
        no_half_vae=config.model.no_half_vae,
        device=accelerator.device,
    )
    model = _model(config, order, echo)
    frozen = Frozen(
        config, precision, accelerator.device, as_sd_scripts=order.follows_sd_scripts,
        train_text_encoder=not network_config.network_train_unet_only,
    )  # fmt: skip
    if training.lowram:  # into the GPU's memory at once, so that main memory never holds what is read next beside it
        frozen.place_unet(model, echo)
        frozen.place_text_encoders(model)
    vae_weights = model.vae.state_dict()
    latents = _latents(config, model, order, precision, accelerator.device)
    latents.settle(datasets, vae_weights, echo)
    _cache(config, latents, datasets, held, echo, progress=progress and accelerator.is_main_process)
    train_text_encoder = not network_config.network_train_unet_only
    _merge_base_weights(config, model, order, precision, echo)
    network = _network(network_config, model, order, text_encoder=train_text_encoder)
    if training.joined_qkv:
        joined, layers = network.join(), len(network.text_encoder_names) + len(network.unet_names)
        echo(f"joined_qkv: {joined} of {layers} layers share the product with their input")
    groups, names = parameter_groups(config, network)
    if not order.follows_sd_scripts:
        network.train_only(parameter for group in groups for parameter in group["params"])
    built, scheduler = make_optimizer(config, groups, plan.steps)
    if not training.lowram:
        frozen.place_text_encoders(model)
    text_outputs = _text_outputs(config, model, [*datasets, *held], accelerator, echo, progress=progress)
    if not training.lowram:
        frozen.place_unet(model, echo)
    network.to(accelerator.device, precision.network)
    process = model.family.process(config.model, accelerator.device)
    return Parts(
        seed, order, datasets, precision, model, latents, network, built, accelerator.prepare(built.optimizer),
        scheduler, names, process, train_text_encoder, text_outputs, held,
    )  # fmt: skip


def choose_seed(training: TrainingConfig, resumed: int | None) -> int:
    """The seed asked for, else that of the state that is resumed, else a random one."""
    if training.seed is not None:
        return training.seed
    return random.SystemRandom().randint(0, MAX_SEED) if resumed is None else resumed


def _order(training: TrainingConfig, seed: int) -> Order:
    if training.rng_order == "kohyakit":
        return KohyakitOrder(seed)
    workers = min(training.max_data_loader_n_workers, os.cpu_count() or 1)
    return SdScriptsOrder(seed, workers, training.persistent_data_loader_workers)


def _model(config: TrainConfig, order: Order, echo: Echo) -> Model:
    asked = config.model
    name = asked.pretrained_model_name_or_path or ""
    echo(f"loading {Path(name).name}")
    model = load_model(
        name,
        vae=asked.vae,
        family=model_family(config.launch.script, v2=asked.v2),
        v_parameterization=asked.v_parameterization,
        dtype=None,  # the file's own: everything is converted once, when it is put in its place
        mmap=not asked.disable_mmap_load_safetensors,
        as_sd_scripts=config.training.rng_order == "sd-scripts",
    )
    for note in model.notes:
        echo(f"{note.severity}: {note}")
    if model.family.drawn_when_built:
        order.unet_loaded(model.unet)
    return model


def _latents(
    config: TrainConfig, model: Model, order: Order, precision: Precision, device: torch.device
) -> LatentSource:
    return LatentSource(
        model.vae.to(device, precision.vae),
        order,
        scale=model.vae_scale,
        latent_dtype=precision.weights,
        vae_batch_size=config.dataset.vae_batch_size,
        resize_interpolation=config.dataset.resize_interpolation,
        family=model.family.name,
        as_npz=config.dataset.cache_format == "sd-scripts",
    )


def _cache(
    config: TrainConfig,
    latents: LatentSource,
    datasets: Sequence[TrainDataset],
    held: Sequence[TrainDataset],
    echo: Echo,
    *,
    progress: bool,
) -> None:
    """Every photo's latents, where that is asked for: first those trained, so that a file is made before it is read."""
    dataset = config.dataset
    if not (dataset.cache_latents or dataset.cache_latents_to_disk):
        return
    total = sum(len(d.images) for d in (*datasets, *held))
    bar = Progress(total, 0, show=progress, what="caching latents", unit="image")
    for part, first in ((datasets, 0), (held, len(datasets))):
        latents.cache(part, to_disk=dataset.cache_latents_to_disk, progress=bar.advance, say=echo, first=first)
    bar.end()
    if config.training.highvram:
        return
    latents.vae.to("cpu")
    torch.cuda.empty_cache()  # what the VAE needed is of other sizes than what the steps need


def _text_outputs(
    config: TrainConfig,
    model: Model,
    datasets: Sequence[TrainDataset],
    accelerator: Any,
    echo: Echo,
    *,
    progress: bool,
) -> TextOutputs | None:
    """Every caption encoded once, where that is asked for; the text encoders leave the device afterwards."""
    dataset, asked = config.dataset, config.model
    to_disk = dataset.cache_text_encoder_outputs_to_disk
    if not (dataset.cache_text_encoder_outputs or to_disk):
        return None

    def encode(captions: Sequence[str]) -> Conditioning:
        with brought(model.text_encoders, accelerator.device), accelerator.autocast():
            return model.family.condition(model, captions, asked, None)

    facts = (
        model.family.name, weights_mark(model.text_encoders) if to_disk else "", str(model.text_encoder.dtype),
        asked.max_token_length, asked.weighted_captions, asked.clip_skip, config.training.mixed_precision,
    )  # fmt: skip
    captions = {
        process_caption(image.record.caption, image.subset.captions, random.Random(0), 1):
        image.record.path.parent if to_disk else None
        for data in datasets
        for image in data.images
    }  # fmt: skip
    if config.noise_loss.preservation_class:
        captions |= {of_the_class(caption, config.noise_loss): None for caption in captions} | captions
    outputs = TextOutputs(encode, repr(facts), _shared_text(config, model, datasets, echo) if to_disk else None)
    shown = progress and accelerator.is_main_process
    bar = Progress(len(captions), 0, show=shown, what="caching captions", unit="caption")
    outputs.fill(captions, dataset.text_encoder_batch_size or dataset.train_batch_size, bar.advance)
    bar.end()
    if not config.training.highvram:
        for encoder in model.text_encoders:
            encoder.to("cpu")
    return outputs


def _shared_text(config: TrainConfig, model: Model, datasets: Sequence[TrainDataset], echo: Echo) -> SharedText | None:
    """sd-scripts' own files of text outputs, which only models of two text encoders have."""
    if len(model.text_encoders) < 2:
        return None
    records: dict[str, list[ImageRecord]] = {}
    for image in (image for data in datasets for image in data.images):
        caption = process_caption(image.record.caption, image.subset.captions, random.Random(0), 1)
        records.setdefault(caption, []).append(image.record)
    first, second = (encoder.config.hidden_size for encoder in model.text_encoders)
    tokens = config.model.tokens + 2
    return SharedText(records, (first, second), tokens, config.dataset.cache_format == "sd-scripts", echo)


def _merge_base_weights(config: TrainConfig, model: Model, order: Order, precision: Precision, echo: Echo) -> None:
    """The LoRAs that the new one is trained on top of. sd-scripts encodes captions for the cache before."""
    dataset = config.dataset
    cached = dataset.cache_text_encoder_outputs or dataset.cache_text_encoder_outputs_to_disk
    strengths = config.network.base_weights_multiplier or ()
    for number, name in enumerate(config.network.base_weights or ()):
        strength = strengths[number] if number < len(strengths) else 1.0
        found = read_for(model, Path(name))
        if order.follows_sd_scripts and config.network.module == "networks.lora":
            draw_as_sd_scripts(model, found.tensors(), order.fill)
        count = merge(
            model, found, strength, lambda target: precision.text_encoder if target.part else precision.weights,
            text_encoders=not (cached and order.follows_sd_scripts),
        )  # fmt: skip
        echo(f"merged {Path(name).name} into the base model at strength {strength:g}, {count} layers")


def _network(asked: NetworkConfig, model: Model, order: Order, *, text_encoder: bool) -> Network:
    """Layers are made for both models, as sd-scripts does, and those that are not trained dropped again."""
    file = asked.network_weights or ""
    weights = read_for(model, Path(file)).tensors() if file else {}
    build: NetworkBuild = NETWORKS.load(asked.module)
    as_sd_scripts = order.follows_sd_scripts
    network = build(model, asked, fill=order.fill, weights=weights, as_sd_scripts=as_sd_scripts)
    network.attach(text_encoder=text_encoder, unet=not asked.network_train_text_encoder_only)
    if file:
        network.load_kohya_state(weights, file, alphas=asked.dim_from_weights or as_sd_scripts)
    return network


def parameter_groups(config: TrainConfig, trained: Trained) -> tuple[list[dict[str, Any]], list[str]]:
    """The optimizer's groups and their names. Raises ConfigError where every rate is 0."""
    arguments = arguments_of(config.network)
    rates = learning_rates(config)
    groups, names = trained.parameter_groups(
        rates.text_encoder[0],
        rates.unet,
        arguments.loraplus_text_encoder_lr_ratio or arguments.loraplus_lr_ratio,
        arguments.loraplus_unet_lr_ratio or arguments.loraplus_lr_ratio,
    )
    if not groups:
        raise ConfigError(Problem("learning_rate", "every learning rate in force is 0", "set unet_lr or learning_rate"))
    return groups, names


def make_optimizer(config: TrainConfig, groups: list[dict[str, Any]], steps: int) -> tuple[BuiltOptimizer, Any]:
    """Optimizer and schedule. Raises ConfigError or MissingExtra."""
    asked = config.optimizer
    training = config.training
    built = build_optimizer(
        chosen_type(asked), groups, asked.learning_rate, asked.optimizer_args, allow_code=config.allowed_code,
        fused=training.rng_order == "kohyakit" and training.mixed_precision != "fp16",  # there a step may be skipped
    )  # fmt: skip
    built.train()  # a schedule-free one refuses a step until it is told so
    if built.lr_scheduler is not None:
        asked = replace(asked, lr_scheduler=built.lr_scheduler, lr_warmup_steps=0)
    scheduler = build_scheduler(
        built.optimizer, asked, steps, schedule_free=built.schedule_free, allow_code=config.allowed_code
    )
    return built, scheduler
