"""Settings that sd-scripts accepts and that spoil a training or do not do what they seem to."""

from __future__ import annotations

from kohyakit.config.rules.reading import (
    Finding,
    family,
    is_schedule_free,
    network_args,
    optimizer,
    own_folders,
    rates,
    relative_step,
    rule,
    scheduler,
    trains_lora,
)
from kohyakit.config.scripts import FAMILIES
from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.registry import OPTIMIZERS
from kohyakit.registry.families import is_unet
from kohyakit.registry.networks import NETWORKS
from kohyakit.registry.optimizers import optimizer_entry

_LORAPLUS = ("loraplus_lr_ratio", "loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio")
_OTHER_ALPHA = {module for module, entry in NETWORKS.items() if not entry.by_rank}


@rule("warning")
def alpha_above_rank(config: TrainConfig) -> Finding:
    net = config.network
    rank = net.rank
    if (
        trains_lora(config)
        and net.network_alpha > rank
        and net.network_module not in _OTHER_ALPHA
        and not net.dim_from_weights
    ):
        times = net.network_alpha / rank
        return (
            f"network_alpha {net.network_alpha:g} is above network_dim {rank}: its effect is multiplied by {times:.3g}",
            (f"set network_alpha to {rank} or less, usually half of it"),
        )
    return None


@rule("warning")
def conv_alpha_above_rank(config: TrainConfig) -> Finding:
    args = network_args(config)
    if trains_lora(config) and args.conv_dim and args.conv_alpha and args.conv_alpha > args.conv_dim:
        return f"conv_alpha {args.conv_alpha:g} is above conv_dim {args.conv_dim}", f"set it to {args.conv_dim} or less"
    return None


@rule("warning")
def rank_not_given(config: TrainConfig) -> Finding:
    if trains_lora(config) and config.network.network_dim is None and not config.network.dim_from_weights:
        return "network_dim is not given; sd-scripts takes 4", "set it, for example to 16"
    return None


@rule("warning")
def dropout_of_everything(config: TrainConfig) -> Finding:
    args = network_args(config)
    found = {
        "network_dropout": config.network.network_dropout,
        "rank_dropout": args.rank_dropout,
        "module_dropout": args.module_dropout,
        "caption_dropout_rate": config.dataset.caption_dropout_rate,
    }
    full = [name for name, rate in found.items() if rate == 1]
    if full:
        return f"{' and '.join(full)} is 1, which drops everything, every time", "0.1 is a usual value"
    return None


@rule("warning")
def rate_of_whole_models(config: TrainConfig) -> Finding:
    found = rates(config) if trains_lora(config) else {}
    default = SPECS()["learning_rate"].default
    if not relative_step(config) and default in found.values():
        parts = " and ".join(part for part, rate in found.items() if rate == default)
        return f"the learning rate of the {parts} is {default:g}, sd-scripts' default for whole models", (
            "set learning_rate, for example 1e-4; a LoRA learns next to nothing otherwise"
        )
    return None


@rule("warning")
def rate_too_small_for_optimizer(config: TrainConfig) -> Finding:
    entry = optimizer_entry(optimizer(config))
    if entry is None or not entry.finds_rate:
        return None
    found = rates(config) if trains_lora(config) else {"model": config.optimizer.learning_rate}
    used = [rate for rate in found.values() if rate]
    if used and max(used) <= 0.1:
        return f"{config.optimizer.optimizer_type} finds its own step size and multiplies it by {max(used):g}", (
            "set the learning rates to 1"
        )
    return None


@rule("warning")
def adafactor_ignores_rates(config: TrainConfig) -> Finding:
    if not relative_step(config):
        return None
    asked = config.optimizer
    named = [name for name in ("unet_lr", "text_encoder_lr") if config[name] not in (None, ())]
    if not asked.lr_scheduler.startswith(("adafactor", "constant")) and not asked.lr_scheduler_type:
        named.append("lr_scheduler")
    if named:
        return f"Adafactor's relative step is on, so it ignores {' and '.join(named)}", (
            "add scale_parameter=False relative_step=False warmup_init=False to optimizer_args, or take them out"
        )
    return None


@rule("warning")
def schedule_free_ignores_schedule(config: TrainConfig) -> Finding:
    asked = config.optimizer
    named = [name for name in ("lr_warmup_steps", "lr_scheduler_type", "lr_scheduler_args") if config[name]]
    if asked.lr_scheduler != "constant":
        named.insert(0, "lr_scheduler")
    if is_schedule_free(config) and named:
        return f"{asked.optimizer_type} makes its own schedule and ignores {' and '.join(named)}", (
            "take them out; warm-up is warmup_steps=100 in optimizer_args"
        )
    return None


@rule("hint")
def short_name_of_ours(config: TrainConfig) -> Finding:
    """sd-scripts names them in its help, and then looks for them in torch.optim."""
    name = optimizer(config)
    dotted = [alias for alias in OPTIMIZERS[name].aliases if "." in alias] if name in OPTIMIZERS else []
    if dotted and "." not in name:
        return f"sd-scripts knows {OPTIMIZERS.canonical(name)} only as {dotted[0]}", "write that where it is to train"
    return None


@rule("warning")
def adafactor_ignores_schedule_args(config: TrainConfig) -> Finding:
    if scheduler(config) == "adafactor" and config.optimizer.lr_scheduler_args:
        listed = " ".join(config.optimizer.lr_scheduler_args)
        return f"Adafactor with a relative step has no schedule, so lr_scheduler_args ({listed}) have no effect", (
            "take them out, or add relative_step=False to optimizer_args and choose an lr_scheduler"
        )
    return None


@rule("warning")
def weights_decide_the_network(config: TrainConfig) -> Finding:
    """sd-scripts makes such a network from the file alone and drops the rest without a word."""
    if not trains_lora(config) or not config.network.dim_from_weights:
        return None
    args = network_args(config)
    dropped = [
        name
        for name in ("conv_dim", "conv_alpha", "rank_dropout", "module_dropout", *_LORAPLUS, "block_dims")
        if getattr(args, name) is not None
    ]
    if config.network.network_dropout is not None:
        dropped.insert(0, "network_dropout")
    if dropped:
        return f"dim_from_weights makes the network as the file has it: no effect has {', '.join(dropped)}", (
            "take dim_from_weights out and set network_dim as the file has it, or take the others out"
        )
    return None


@rule("warning")
def warmup_longer_than_run(config: TrainConfig) -> Finding:
    warmup = config.optimizer.lr_warmup_steps
    if not scheduler(config):
        return None
    if isinstance(warmup, float) and warmup > 1:
        return (
            f"lr_warmup_steps is {warmup:g}, and a number with a point is a share of the run, here {warmup:g} runs",
            (f"write {int(warmup)} without a point for steps, or a share below 1"),
        )
    return None


@rule("warning")
def second_text_rate_unused(config: TrainConfig) -> Finding:
    asked = config.optimizer.text_encoder_lr or ()
    if trains_lora(config) and is_unet(family(config)) and len(set(asked)) > 1:
        return f"text_encoder_lr has {len(asked)} values, but this network uses only the first, {asked[0]:g}", (
            "write one value"
        )
    return None


@rule("warning")
def text_rate_unused(config: TrainConfig) -> Finding:
    net, asked = config.network, config.optimizer
    if trains_lora(config) and net.network_train_unet_only and asked.text_encoder_lr and any(asked.text_encoder_lr):
        return (
            "text_encoder_lr is given, but network_train_unet_only leaves the text encoder out",
            "take one of them out",
        )
    if trains_lora(config) and net.network_train_text_encoder_only and asked.unet_lr:
        return "unet_lr is given, but network_train_text_encoder_only leaves the U-Net out", "take one of them out"
    return None


@rule("warning")
def half_vae_on_sdxl(config: TrainConfig) -> Finding:
    model = config.model
    if (
        family(config) == "sdxl"
        and config.training.mixed_precision == "fp16"
        and not model.no_half_vae
        and model.vae is None
    ):
        return "SDXL's own VAE overflows in fp16: black samples, NaN latents", (
            "set no_half_vae, use mixed_precision bf16, or name the fp16-fix VAE in vae"
        )
    return None


@rule("warning")
def clip_skip_without_effect(config: TrainConfig) -> Finding:
    if config.model.clip_skip is None or config.model.clip_skip == 1:
        return None
    if family(config) not in ("", "sd"):
        return f"clip_skip {config.model.clip_skip} has no effect on this model family", "take it out"
    if config.model.v2:
        return "clip_skip with v2 counts from a layer that SD 2.x was not trained on", "take it out"
    return None


@rule("warning")
def zero_terminal_snr_without_v(config: TrainConfig) -> Finding:
    if config.model.zero_terminal_snr and not config.model.v_parameterization:
        return "zero_terminal_snr is meant for v-prediction, but v_parameterization is off", "switch one of the two"
    return None


@rule("warning")
def two_noise_changes(config: TrainConfig) -> Finding:
    loss = config.noise_loss
    if loss.noise_offset is not None and loss.multires_noise_iterations is not None:
        return (
            "noise_offset and multires_noise_iterations both change the noise, and together too much",
            "keep one of them",
        )
    return None


@rule("warning")
def two_loss_weights(config: TrainConfig) -> Finding:
    loss = config.noise_loss
    if loss.min_snr_gamma is not None and loss.debiased_estimation_loss:
        return "min_snr_gamma and debiased_estimation_loss both weigh the loss by noise level", "keep one of them"
    return None


@rule("warning")
def timesteps_upside_down(config: TrainConfig) -> Finding:
    low, high = config.noise_loss.timesteps
    if low >= high:
        return (
            f"min_timestep {low} is not below max_timestep {high}, so only noise level {high} is trained",
            "swap them",
        )
    return None


@rule("warning")
def mask_without_source(config: TrainConfig) -> Finding:
    data = config.dataset
    if config.noise_loss.masked_loss and own_folders(config) and not (data.alpha_mask or data.conditioning_data_dir):
        return "masked_loss is on, but no masks reach it, so the whole picture counts", (
            "set alpha_mask for PNGs with transparency, or conditioning_data_dir for pictures that are masks"
        )
    return None


@rule("hint")
def samples_never_drawn(config: TrainConfig) -> Finding:
    asked = config.sampling
    if asked.sample_prompts and not (
        asked.sample_every_n_epochs or asked.sample_every_n_steps or asked.sample_at_first
    ):
        return "sample_prompts is given, but nothing says when to draw", "set sample_every_n_epochs, for example to 1"
    return None


@rule("hint")
def only_the_last_is_saved(config: TrainConfig) -> Finding:
    asked = config.saving
    if not (asked.save_every_n_epochs or asked.save_every_n_steps or asked.save_n_epoch_ratio or asked.save_at_epochs):
        return (
            "only the final file is saved; if it overfits there is nothing to fall back on",
            "set save_every_n_epochs to 1",
        )
    return None


@rule("warning")
def keeping_without_saving(config: TrainConfig) -> Finding:
    asked = config.saving
    pairs = (
        (
            ("save_last_n_epochs", "save_last_n_epochs_state"),
            asked.save_every_n_epochs or asked.save_n_epoch_ratio,
            "save_every_n_epochs",
        ),
        (("save_last_n_steps", "save_last_n_steps_state"), asked.save_every_n_steps, "save_every_n_steps"),
    )
    for names, saves, wanted in pairs:
        named = [name for name in names if config[name] is not None]
        if named and not saves:
            return f"{named[0]} has no effect without {wanted}", f"set {wanted} or take it out"
    return None


@rule("warning")
def epoch_is_not_read(config: TrainConfig) -> Finding:
    run, source = config.training, config.source
    dropped = source is not None and any(note.key == "epoch" and note.action == "dropped" for note in source.notes)
    untouched = run.max_train_epochs is None and run.max_train_steps == SPECS()["max_train_steps"].default
    if dropped and untouched:
        return (
            f"epoch is read by no sd-scripts program; the run lasts {run.max_train_steps} steps",
            "write max_train_epochs for the number of epochs",
        )
    return None


@rule("warning")
def fp8_base_not_supported(config: TrainConfig) -> Finding:
    eight = config.model.fp8_base or config.model.fp8_base_unet
    if eight and family(config) in ("anima", "hunyuan_image") and not config.families.fp8_scaled:
        return "fp8_base does not work on this model family", (
            "set fp8_scaled" if family(config) == "hunyuan_image" else "take it out"
        )
    return None


@rule("hint")
def multi_gpu_with_one_process(config: TrainConfig) -> Finding:
    if config.launch.multi_gpu and config.launch.num_processes == 1:
        return "multi_gpu is on, but num_processes is 1, so one GPU is used", "set num_processes to the number of GPUs"
    return None


@rule("warning")
def secret_in_file(config: TrainConfig) -> Finding:
    named = [name for name, spec in SPECS().items() if spec.about.secret and config[name]]
    if named and config.source is not None and config.source.path is not None:
        return f"the file carries {' and '.join(named)} in clear; whoever gets the file can use it", (
            "log in with the service's own tool and take it out"
        )
    return None


@rule("error")
def script_unknown(config: TrainConfig) -> Finding:
    if config.launch.script not in FAMILIES:
        return f"script {config.launch.script!r} is no training program of sd-scripts that kohyakit knows", (
            f"choose one of {', '.join(FAMILIES)}"
        )
    return None


@rule("hint")
def old_names(config: TrainConfig) -> Finding:
    named = [name for name, spec in SPECS().items() if spec.about.deprecated and config[name] not in (None, False)]
    if named:
        return f"{', '.join(named)}: old name(s) that sd-scripts may drop", "; ".join(
            f"{name}: {SPECS()[name].about.tip.rstrip('.').lower()}" for name in named
        )
    return None
