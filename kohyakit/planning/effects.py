"""Settings that cannot take effect beside the others, or in a run as short as this one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from kohyakit.config.rules.reading import network_args, own_folders, scheduler, scheduler_args, trains_lora
from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.dataset.layout import Scan
from kohyakit.errors import Problem
from kohyakit.planning.saves import epoch_interval
from kohyakit.registry import SCHEDULERS
from kohyakit.registry.networks import NETWORKS
from kohyakit.registry.schedules import schedule_entry

if TYPE_CHECKING:
    from kohyakit.planning.plan import Plan


def warmup_beyond_the_run(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    warmup, steps = plan.warmup_steps, plan.steps
    if not plan.trains or not scheduler(config) or isinstance(config.optimizer.lr_warmup_steps, float):
        return
    if warmup >= steps:
        most = "comes only at its end to all" if warmup == steps else f"never gets above {100 * steps / warmup:.0f} %"
        yield Problem(
            "lr_warmup_steps",
            f"the warm-up of {warmup:,} steps is {'as long as' if warmup == steps else 'longer than'} the run of "
            f"{steps:,}, so the rate {most} of what is set",
            "set lr_warmup_steps to 0.1 (a number below 1 is a share of the run)",
            "warmup_beyond_the_run",
            "warning",
        )


def restarts_beyond_the_run(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    cycles, room = config.optimizer.lr_scheduler_num_cycles, max(0, plan.steps - plan.warmup_steps)
    if plan.trains and scheduler(config) == "cosine_with_restarts" and cycles > max(1, room):
        yield Problem(
            "lr_scheduler_num_cycles",
            f"{cycles:,} restarts do not fit into {room:,} steps, so the rate jumps instead of falling",
            f"set it to {max(1, min(plan.epochs, room // 10))}",
            "restarts_beyond_the_run",
            "warning",
        )


def samples_beyond_the_run(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    asked = config.sampling
    if not plan.trains or not asked.sample_prompts:
        return
    epochs, steps = asked.sample_every_n_epochs, asked.sample_every_n_steps
    if epochs and steps:
        what = f"sample_every_n_epochs {epochs} goes before it, so samples are drawn by epochs only"
        yield Problem("sample_every_n_steps", what, "take one of the two out", "sample_steps_unused", "warning")
    for name, every, room in (
        ("sample_every_n_epochs", epochs, plan.epochs),
        ("sample_every_n_steps", None if epochs else steps, plan.steps),
    ):
        if every and every > room:
            what = f"it is {every:,}, but the run has only {room:,}, so no sample is drawn on its way"
            yield Problem(name, what, f"set it to {room:,} or less", "samples_beyond_the_run", "warning")


def saves_beyond_the_run(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    if not plan.trains:
        return
    for name, every, room in (
        ("save_every_n_epochs", epoch_interval(config, plan.epochs), plan.epochs),
        ("save_every_n_steps", config.saving.save_every_n_steps, plan.steps),
        ("save_from_epoch", config.saving.save_from_epoch, plan.epochs),
    ):
        if every and every > room:
            what = f"it is {every:,}, but the run has only {room:,}, so only the final file is saved"
            yield Problem(name, what, f"set it below {room:,}" if room > 1 else "", "saves_beyond_the_run", "hint")
    beyond = [str(epoch) for epoch in sorted(config.saving.save_at_epochs) if epoch > plan.epochs]
    if beyond:
        what = f"the run has only {plan.epochs:,} epochs, so none is saved at {', '.join(beyond[:5])}"
        yield Problem("save_at_epochs", what, "take them out", "saves_beyond_the_run", "hint")


def max_steps_unused(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    run, source = config.training, config.source
    written = source is not None and source.format == "toml" and "max_train_steps" in source.text
    if run.max_train_epochs and written and run.max_train_steps not in (0, 1600):
        what = f"max_train_epochs {run.max_train_epochs} goes before it, so the run has {plan.steps:,} steps"
        yield Problem("max_train_steps", what, "take one of the two out", "max_steps_unused", "hint")


# Option of a schedule -> the schedules that look at it.
_READERS = {
    option: [name for name in SCHEDULERS if option in SCHEDULERS[name].reads]
    for option in dict.fromkeys(option for entry in SCHEDULERS.values() for option in entry.reads)
}


def _looked_at(option: str, config: TrainConfig, scan: Scan) -> bool:
    """By the schedule in force; a warm-up that is refused, or that goes with all schedules, is told as that."""
    entry = schedule_entry(scheduler(config))
    if option == "lr_warmup_steps" and (entry is None or entry.refuses_warmup):
        return True
    return entry is not None and option in entry.reads


def _unless(names: Sequence[str]) -> str:
    if len(names) > 3:
        return "the schedule does not look at it"
    return f"lr_scheduler is not {' or '.join((', '.join(names[:-1]), names[-1]) if names[1:] else names)}"


Works = Callable[[TrainConfig, Scan], bool]
# Parameters that do something only where the condition holds, and what else is so.
_NEEDS: tuple[tuple[tuple[str, ...], Works, str], ...] = (
    (
        ("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale"),
        lambda c, s: c.bucket.enable_bucket or not own_folders(c),
        "enable_bucket is off",
    ),
    (
        ("huber_schedule", "huber_c", "huber_scale"),
        lambda c, s: c.noise_loss.loss_type in ("huber", "smooth_l1"),
        "loss_type is neither huber nor smooth_l1",
    ),
    (("noise_offset_random_strength",), lambda c, s: bool(c.noise_loss.noise_offset), "there is no noise_offset"),
    (("ip_noise_gamma_random_strength",), lambda c, s: bool(c.noise_loss.ip_noise_gamma), "there is no ip_noise_gamma"),
    (
        ("multires_noise_discount",),
        lambda c, s: bool(c.noise_loss.multires_noise_iterations),
        "there are no multires_noise_iterations",
    ),
    (
        ("prior_loss_weight",),
        lambda c, s: any(subset.is_reg for subset in s.subsets()),
        "there are no regularisation images",
    ),
    *(((option,), partial(_looked_at, option), _unless(readers)) for option, readers in _READERS.items()),
    (("lr_scheduler",), lambda c, s: not c.optimizer.lr_scheduler_type, "lr_scheduler_type goes before it"),
    (
        ("keep_tokens", "keep_tokens_separator"),
        lambda c, s: (
            not own_folders(c)
            or bool(c.dataset.shuffle_caption or c.dataset.caption_tag_dropout_rate or c.dataset.token_warmup_step)
        ),
        "no tag is shuffled or dropped",
    ),
    (("token_warmup_min",), lambda c, s: bool(c.dataset.token_warmup_step), "there is no token_warmup_step"),
    (
        ("vae_batch_size", "skip_cache_check"),
        lambda c, s: c.dataset.cache_latents or c.dataset.cache_latents_to_disk,
        "latents are not cached",
    ),
    (
        ("validation_seed", "validate_every_n_steps", "validate_every_n_epochs", "max_validation_steps"),
        lambda c, s: bool(c.dataset.validation_split or c.training.fixed_noises) or not own_folders(c),
        "there is neither validation_split nor fixed_noises",
    ),
    (
        ("keep_best", "early_stop_patience"),
        lambda c, s: bool(c.dataset.validation_split or c.training.fixed_noises or s.held_back),
        "nothing is measured without validation_split or fixed_noises",
    ),
    (
        ("preservation_trigger", "preservation_weight"),
        lambda c, s: bool(c.noise_loss.preservation_class),
        "there is no preservation_class",
    ),
    (("base_weights_multiplier",), lambda c, s: bool(c.network.base_weights), "there are no base_weights"),
    (
        ("network_dim", "network_alpha"),
        lambda c, s: not c.network.dim_from_weights,
        "dim_from_weights takes rank and alpha of each layer from the file",
    ),
    (
        ("save_from_epoch",),
        lambda c, s: bool(c.saving.save_every_n_epochs or c.saving.save_n_epoch_ratio),
        "no save_every_n_epochs asks for epochs",
    ),
    (("save_last_n_epochs_state", "save_last_n_steps_state"), lambda c, s: c.saving.save_state, "save_state is off"),
    (("training_comment",), lambda c, s: not c.saving.no_metadata, "no_metadata is on"),
    (("resume_from_huggingface",), lambda c, s: bool(c.training.resume), "resume names nothing"),
    (
        ("huggingface_path_in_repo", "huggingface_repo_visibility", "save_state_to_huggingface", "async_upload"),
        lambda c, s: bool(c.saving.huggingface_repo_id),
        "there is no huggingface_repo_id",
    ),
)


def without_effect(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    """Whatever is set and idle, one finding a reason."""
    for names, works, reason in _NEEDS:
        named = [name for name in names if config[name] not in (SPECS()[name].default, None)]
        if named and not works(config, scan):
            verb = "have" if len(named) > 1 else "has"
            what = f"{verb} no effect, because {reason}"
            yield Problem(" and ".join(named), what, "", "without_effect", "hint")
    args = network_args(config)
    module = config.network.network_module or ""
    plain = module in NETWORKS and NETWORKS[module].low_rank
    if plain and trains_lora(config) and args.conv_alpha is not None and args.conv_dim is None:
        what = "conv_alpha has no effect, because there is no conv_dim"
        yield Problem("network_args", what, "", "without_effect", "hint")


def schedule_refused(config: TrainConfig, plan: Plan) -> Iterator[Problem]:
    """What kohyakit's own trainer stops for where rate and schedule do not go together in a run of this length."""
    name, length = scheduler(config), plan.length
    if not plan.trains or config.optimizer.lr_scheduler_type:
        return
    if name == "warmup_stable_decay" and length.warmup_steps + length.decay_steps > length.steps:
        what = (
            f"{length.warmup_steps} warm-up and {length.decay_steps} decay steps do not fit into {length.steps} steps"
        )
        yield Problem("lr_scheduler", what, "lower lr_warmup_steps or lr_decay_steps", "schedule_too_long")
    usual = SCHEDULERS["polynomial"].arguments["lr_end"]
    rate, end = config.optimizer.learning_rate, scheduler_args(config).get("lr_end", usual)
    if name == "polynomial" and isinstance(end, (int, float)) and rate <= end:
        what = f"is {rate:g}, but the polynomial schedule falls to {end:g}"
        yield Problem("learning_rate", what, "choose a larger learning_rate or another lr_scheduler", "rate_too_low")


Effect = Callable[[TrainConfig, Scan, "Plan"], Iterable[Problem]]
EFFECTS: tuple[Effect, ...] = (
    warmup_beyond_the_run, restarts_beyond_the_run, samples_beyond_the_run, saves_beyond_the_run, max_steps_unused,
    without_effect,
)  # fmt: skip
