"""Names people may write, and where the code behind each is. Data only: nothing heavy is imported here.

A table is what `--help`, the schema, the dashboard's forms, the docs and the test suites walk, so a new
network, optimizer, scheduler, model family, audit check or captioner is one entry and one file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any

from kohyakit.errors import ConfigError, MissingExtra, Problem


@dataclass(frozen=True, slots=True)
class Entry:
    """`target` is "module:object"; `package` and `extra` name what must be installed beyond the base.

    arguments: what an optimizer takes from optimizer_args, or a schedule from lr_scheduler_args. state_bytes: what an
    optimizer keeps for each number that is trained.
    """

    target: str
    help: str
    aliases: tuple[str, ...] = ()
    package: str = ""
    extra: str = ""
    arguments: tuple[str, ...] = ()
    state_bytes: int = 0


class Table(Mapping[str, Entry]):
    """A named set of entries; names are matched without regard to case."""

    def __init__(self, kind: str, entries: dict[str, Entry]) -> None:
        self.kind = kind
        self._entries = MappingProxyType(dict(entries))
        self._names = {
            name.lower(): canonical for canonical, entry in entries.items() for name in (canonical, *entry.aliases)
        }

    def __getitem__(self, name: str) -> Entry:
        return self._entries[self.canonical(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._names

    def canonical(self, name: str) -> str:
        """The table's own spelling of a name or alias. Raises ConfigError with the nearest names."""
        try:
            return self._names[name.lower()]
        except KeyError:
            near = difflib.get_close_matches(name.lower(), self._names, n=1)
            cure = f"did you mean '{self._names[near[0]]}'?" if near else f"choose one of {', '.join(self)}"
            raise ConfigError(Problem("", f"unknown {self.kind} '{name}'", cure)) from None

    def load(self, name: str) -> Any:
        """Import the entry's object. Raises MissingExtra when its optional package is not installed."""
        canonical = self.canonical(name)
        entry = self._entries[canonical]
        module, _, attribute = entry.target.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if entry.package and (error.name or "").split(".")[0] != "kohyakit":
                raise MissingExtra(f"{self.kind} '{canonical}'", entry.package, entry.extra) from error
            raise


MODELS = Table(
    "model family",
    {
        "sd1": Entry("kohyakit.models.sd15:SD15", "Stable Diffusion 1.x and its fine-tunes", ("sd15",)),
        "sd2": Entry("kohyakit.models.sd2:SD2", "Stable Diffusion 2.x (v2 = true)", ("v2",)),
        "sdxl": Entry("kohyakit.models.sdxl:SDXL", "Stable Diffusion XL (sdxl_train_network.py)", ("xl",)),
    },
)


NETWORKS = Table(
    "network",
    {
        "networks.lora": Entry(
            "kohyakit.networks.methods.lora:LoraNetwork", "LoRA, and LoCon with conv_dim",
            arguments=("conv_dim", "conv_alpha", "rank_dropout", "module_dropout", "loraplus_lr_ratio",
                       "loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio"),
        ),
        "lycoris.kohya": Entry(
            "kohyakit.networks.lycoris:LycorisNetwork", "the networks of LyCORIS 3.x, chosen by algo", ("lycoris",)
        ),
        "networks.loha": Entry(
            "kohyakit.networks.lycoris:LycorisNetwork", "sd-scripts' own LoHa, for SDXL",
            arguments=("conv_dim", "conv_alpha", "rank_dropout", "module_dropout", "use_tucker", "exclude_patterns",
                       "include_patterns", "network_reg_dims"),
        ),
        "networks.lokr": Entry(
            "kohyakit.networks.lycoris:LycorisNetwork", "sd-scripts' own LoKr, for SDXL",
            arguments=("conv_dim", "conv_alpha", "rank_dropout", "module_dropout", "use_tucker", "factor",
                       "exclude_patterns", "include_patterns", "network_reg_dims"),
        ),
    },
)  # fmt: skip

_LAYERS = "algo preset conv_dim conv_alpha module_dropout train_norm"
_MATRIX = f"{_LAYERS} rank_dropout rank_dropout_scale"
_TUCKER = (
    f"{_MATRIX} dropout use_tucker use_cp use_conv_cp disable_conv_cp use_scalar dora_wd wd_on_output bypass_mode "
    "rs_lora"
)

# name: (class under networks/, help, what it takes from network_args)
_ALGORITHMS = {
    "lora": (
        "locon:LoconLayer", "LoRA and LoCon: up times down",
        f"{_TUCKER} loraplus_lr_ratio loraplus_unet_lr_ratio loraplus_text_encoder_lr_ratio",
    ),
    "loha": ("loha:LohaLayer", "two low-rank products, multiplied number by number", _TUCKER),
    "lokr": (
        "lokr:LokrLayer", "a Kronecker product of a small and a large matrix",
        f"{_TUCKER} factor decompose_both full_matrix unbalanced_factorization",
    ),
    "full": ("full:FullLayer", "the whole difference, weights and biases: fine-tuning in a LoRA's file", _MATRIX),
    "ia3": ("ia3:Ia3Layer", "a factor for each output or input of a layer", f"{_LAYERS} train_on_input"),
}  # fmt: skip

ALGORITHMS = Table(
    "algo of LyCORIS",
    {
        name: Entry(
            f"kohyakit.networks.methods.{target}", text, ("locon",) if name == "lora" else (),
            arguments=tuple(arguments.split()),
        )
        for name, (target, text, arguments) in _ALGORITHMS.items()
    },
)  # fmt: skip


# name: (help, what it takes from lr_scheduler_args)
_SCHEDULERS = {
    "constant": ("the same rate throughout; no warm-up", ""),
    "constant_with_warmup": ("climbs over lr_warmup_steps, then stays", ""),
    "linear": ("falls in a straight line to 0", ""),
    "cosine": ("falls slowly, quickly, slowly to 0", "num_cycles"),
    "cosine_with_restarts": ("lr_scheduler_num_cycles cosines in a row", ""),
    "polynomial": ("falls by the power lr_scheduler_power to lr_end, 1e-7", "lr_end"),
    "inverse_sqrt": ("falls with the root of the steps, from lr_scheduler_timescale on", ""),
    "cosine_with_min_lr": ("a cosine that stops at lr_scheduler_min_lr_ratio", "min_lr"),
    "warmup_stable_decay": ("climbs, stays, and falls over the last lr_decay_steps", "warmup_type decay_type"),
    "piecewise_constant": ("steps down by lr_scheduler_args step_rules='1:500,0.1:800,0.01'", "step_rules"),
    "adafactor": ("reports the rate that Adafactor with a relative step chooses itself", ""),
}

SCHEDULERS = Table(
    "learning rate scheduler",
    {
        name: Entry(f"kohyakit.train.optimizers.schedulers:{name}", text, arguments=tuple(arguments.split()))
        for name, (text, arguments) in _SCHEDULERS.items()
    },
)


_BNB = "bitsandbytes"
_ADAM = "betas eps weight_decay"
_8BITS = "min_8bit_size percentile_clipping block_wise"
_8BIT = f"{_ADAM} {_8BITS}"
_ADEMAMIX = f"{_ADAM} min_8bit_size alpha t_alpha t_beta3"
_DADAPT = "betas weight_decay log_every d0"
_FREE = "weight_decay r weight_lr_power foreach"

# name: (file and object under train/optimizers/, help, package it needs, bytes of state a trained number, what it takes
# from optimizer_args)
_OPTIMIZERS = {
    "AdamW": (
        "plain:adamw", "the usual choice: moments of the gradient, decoupled weight decay", "", 8,
        f"{_ADAM} amsgrad maximize foreach capturable fused",
    ),
    "AdamW8bit": ("eight_bit:adamw_8bit", "AdamW with states of 8 bits", _BNB, 2, f"{_8BIT} is_paged"),
    "PagedAdamW8bit": ("eight_bit:paged_adamw_8bit", "the same, moved out of GPU memory when full", _BNB, 2, _8BIT),
    "PagedAdamW": ("eight_bit:paged_adamw", "AdamW, moved out of GPU memory when full", _BNB, 8, _8BIT),
    "PagedAdamW32bit": ("eight_bit:paged_adamw_32bit", "the same with states of 32 bits", _BNB, 8, _8BIT),
    "Adafactor": (
        "adafactor:adafactor", "little memory; finds its own rate unless relative_step=False", "", 0,
        "eps clip_threshold decay_rate beta1 weight_decay scale_parameter relative_step warmup_init",
    ),
    "Lion": (
        "plain:lion", "the sign of the momentum; wants a third of AdamW's rate", "lion-pytorch", 4,
        "betas weight_decay use_triton decoupled_weight_decay",
    ),
    "Lion8bit": (
        "eight_bit:lion_8bit", "Lion with states of 8 bits", _BNB, 1, f"betas weight_decay {_8BITS} is_paged",
    ),
    "PagedLion8bit": (
        "eight_bit:paged_lion_8bit", "the same, moved out of GPU memory when full", _BNB, 1,
        f"betas weight_decay {_8BITS}",
    ),
    "Prodigy": (
        "adaptive:prodigy", "finds the rate itself; set the learning rates to 1", "prodigyopt", 16,
        f"{_ADAM} beta3 decouple use_bias_correction safeguard_warmup d0 d_coef growth_rate slice_p",
    ),
    "DAdaptation": (
        "adaptive:dadapt_adam_preprint", "finds the rate itself; rates of 1", "dadaptation", 12,
        f"{_DADAPT} growth_rate eps decouple",
    ),
    "DAdaptAdaGrad": (
        "adaptive:dadapt_adagrad", "AdaGrad that finds the rate itself", "dadaptation", 12,
        "momentum log_every weight_decay eps d0 growth_rate",
    ),
    "DAdaptAdam": (
        "adaptive:dadapt_adam", "Adam that finds the rate itself", "dadaptation", 12,
        f"{_DADAPT} growth_rate eps decouple use_bias_correction",
    ),
    "DAdaptAdan": (
        "adaptive:dadapt_adan", "Adan that finds the rate itself", "dadaptation", 16,
        f"{_DADAPT} growth_rate eps no_prox",
    ),
    "DAdaptAdanIP": (
        "adaptive:dadapt_adan_ip", "the same by another estimate", "dadaptation", 16,
        f"{_DADAPT} growth_rate eps no_prox",
    ),
    "DAdaptLion": ("adaptive:dadapt_lion", "Lion that finds the rate itself", "dadaptation", 8, _DADAPT),
    "DAdaptSGD": (
        "adaptive:dadapt_sgd", "SGD that finds the rate itself", "dadaptation", 8,
        "momentum weight_decay log_every d0 growth_rate",
    ),
    "AdamWScheduleFree": (
        "schedule_free:adamw", "AdamW that needs no schedule", "schedulefree", 8, f"betas eps warmup_steps {_FREE}",
    ),
    "RAdamScheduleFree": (
        "schedule_free:radam", "RAdam that needs no schedule and no warm-up", "schedulefree", 8,
        f"betas eps silent_sgd_phase {_FREE}",
    ),
    "SGDScheduleFree": (
        "schedule_free:sgd", "SGD that needs no schedule", "schedulefree", 4, f"momentum warmup_steps {_FREE}",
    ),
    "AdEMAMix8bit": (
        "eight_bit:ademamix_8bit", "AdamW with a second, slower momentum, 8 bits", _BNB, 3, f"{_ADEMAMIX} is_paged",
    ),
    "PagedAdEMAMix8bit": (
        "eight_bit:paged_ademamix_8bit", "the same, moved out of GPU memory when full", _BNB, 3, _ADEMAMIX,
    ),
    "SGDNesterov": (
        "plain:sgd_nesterov", "plain gradient descent with momentum", "", 4,
        "momentum weight_decay maximize foreach fused",
    ),
    "SGDNesterov8bit": (
        "eight_bit:sgd_nesterov_8bit", "the same with states of 8 bits", _BNB, 1, f"momentum weight_decay {_8BITS}",
    ),
}  # fmt: skip

OPTIMIZERS = Table(
    "optimizer",
    {
        name: Entry(
            f"kohyakit.train.optimizers.{target}",
            text,
            ("DAdaptAdamPreprint",) if name == "DAdaptation" else (),
            package,
            _BNB if package == _BNB else "optimizers" if package else "",
            tuple(arguments.split()),
            state_bytes,
        )
        for name, (target, text, package, state_bytes, arguments) in _OPTIMIZERS.items()
    },
)

CHECKS = Table(
    "check",
    {
        "decode": Entry("kohyakit.audit.checks.decode:CHECK", "Does not decode, or decodes with damage"),
        "exif_orientation": Entry("kohyakit.audit.checks.exif_orientation:CHECK", "Stored turned or mirrored"),
        "format": Entry("kohyakit.audit.checks.format:CHECK", "Extension, animation, alpha, palette, CMYK, 16 bits"),
        "sideways": Entry("kohyakit.audit.checks.sideways:CHECK", "Lies on its side, by its looks and not its EXIF"),
        "resolution": Entry("kohyakit.audit.checks.resolution:CHECK", "Too small, extreme shape, much cropped, alone"),
        "blur": Entry("kohyakit.audit.checks.blur:CHECK", "Out of focus, shaken or enlarged"),
        "exposure": Entry("kohyakit.audit.checks.exposure:CHECK", "Too dark, too bright"),
        "information": Entry("kohyakit.audit.checks.information:CHECK", "Nearly nothing to see"),
        "borders": Entry("kohyakit.audit.checks.borders:CHECK", "Bars around the picture, as in screenshots"),
        "exact_duplicate": Entry("kohyakit.audit.checks.exact_duplicate:CHECK", "The same file twice"),
        "near_duplicate": Entry("kohyakit.audit.checks.near_duplicate:CHECK", "The same picture twice"),
        "burst": Entry("kohyakit.audit.checks.burst:CHECK", "Series of one scene that dominate a subset"),
        "captions": Entry("kohyakit.audit.checks.captions:CHECK", "Missing, empty, unreadable, orphaned"),
        "caption_length": Entry("kohyakit.audit.checks.caption_length:CHECK", "More tokens than are trained"),
        "caption_content": Entry("kohyakit.audit.checks.caption_content:CHECK", "All the same, or against the folder"),
        "layout": Entry("kohyakit.audit.checks.layout:CHECK", "Folders and names that a training trips over"),
        "names": Entry("kohyakit.audit.checks.names:CHECK", "Names that collide or that another system refuses"),
        "balance": Entry("kohyakit.audit.checks.balance:CHECK", "Subsets of very unequal weight"),
    },
)

_TAGGER, _DESCRIBER, _CHAT = (
    f"kohyakit.captioning.{name}" for name in ("tagger:Tagger", "describer:Describer", "chat:Chat")
)

# name: (class, help, package it needs, extra)
_CAPTIONERS = {
    "wd-eva02": (_TAGGER, "WD v3 tagger, EVA02 large: the most exact one", "onnxruntime", "caption"),
    "wd-vit-large": (_TAGGER, "WD v3 tagger, ViT large", "onnxruntime", "caption"),
    "wd-swinv2": (_TAGGER, "WD v3 tagger, SwinV2: good and quick", "onnxruntime", "caption"),
    "wd-convnext": (_TAGGER, "WD v3 tagger, ConvNeXt", "onnxruntime", "caption"),
    "wd-vit": (_TAGGER, "WD v3 tagger, ViT: the quickest", "onnxruntime", "caption"),
    "pixai": (_TAGGER, "PixAI tagger v0.9: knows the newest characters", "onnxruntime", "caption"),
    "cl": (_TAGGER, "CL tagger: also artists, quality, model", "onnxruntime", "caption"),
    "blip": (_DESCRIBER, "BLIP: one short sentence; the beginners' guide's", "transformers", "train"),
    "blip2": (_DESCRIBER, "BLIP-2: one better sentence, 15 GB", "transformers", "train"),
    "git": (_DESCRIBER, "GIT: one short sentence", "transformers", "train"),
    "florence2": ("kohyakit.captioning.florence:Florence", "Florence-2: sentences of three lengths, quick",
                  "transformers", "train"),
    "qwen-vl": (_CHAT, "Qwen-VL with a prompt of your own", "transformers", "train"),
    "joycaption": (_CHAT, "JoyCaption (LLaVA): long captions made for training", "transformers", "train"),
    "chat": (_CHAT, "any chat model that sees, by --model", "transformers", "train"),
    "server": ("kohyakit.captioning.server:Server", "a server like Ollama, llama.cpp, vLLM or LM Studio", "", ""),
}  # fmt: skip

CAPTIONERS = Table(
    "captioner",
    {name: Entry(target, text, (), package, extra) for name, (target, text, package, extra) in _CAPTIONERS.items()},
)
