"""Model families: what people, sd-scripts, its GUI and files call each, and where the code is that trains it.

One entry a family. Everything else that tells families apart (programs, check boxes, bucket steps, sizes, records)
is a view of this table. sd1 and sd2 share sd-scripts' programs, which tell them apart by `v2`: they are one group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from kohyakit.registry.table import Entry, Table


@dataclass(frozen=True, slots=True)
class LatentSpace:
    """What a family's VAE makes of a picture. factor: pixels a side of each latent pixel. scale: what a U-Net is given
    is the VAE's times this."""

    channels: int = 4
    factor: int = 8
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class TextPart:
    """One text encoder: its folder beside the U-Net's, and what its names begin with in a single file and in a LoRA.

    open_clip: a single file has it in OpenCLIP's layout. left_out: how many of its last layers are not used.
    projection: with the matrix behind the pooled state.
    """

    prefix: str
    folder: str = "text_encoder"
    lora: str = "lora_te"
    open_clip: bool = False
    left_out: int = 0
    projection: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """What sd-scripts' records (`ss_base_model_version`, `modelspec.architecture`) call a base model.

    side: of the pictures it was made for, in pixels.
    """

    version: str
    architecture: str
    side: int
    implementation: str = "diffusers"


@dataclass(frozen=True, slots=True)
class FamilyEntry(Entry):
    """target: the behaviour that trains it, "" where only sd-scripts does.

    title: its whole name; short: its usual model's; trained: what its programs are said to train. group: what
    sd-scripts' programs are for. scripts: by the GUI's tab. bucket_steps: what bucket_reso_steps must divide by;
    tuning_steps: where it is another in full training. boxes: of the GUI, that stand for it. pipeline: what a diffusers
    folder's class begins with, where that tells the family. flow: flow matching instead of DDPM's noise. context: width
    of its text states. blocks: of its U-Net, as options count that give a number for each. original_names: a LoRA has
    its U-Net's layers under the names of the original code. kept: KiB a latent pixel (1/64 of an image pixel) that the
    U-Net keeps for the backward pass, plainly and with gradient checkpointing: then the inputs of its blocks only, and
    the largest once more. records: of a model that predicts noise, and of one that predicts v. networks: modules that
    fit it beside those whose own entries say so.
    """

    title: str = ""
    short: str = ""
    trained: str = ""
    group: str = ""
    v2: bool = False
    scripts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    bucket_steps: int = 32
    tuning_steps: int = 0
    boxes: tuple[str, ...] = ()
    pipeline: str = ""
    flow: bool = False
    latent: LatentSpace = LatentSpace()
    texts: tuple[TextPart, ...] = ()
    context: int = 0
    blocks: int = 25
    original_names: bool = False
    kept: tuple[int, int] = (0, 0)
    records: tuple[Record, ...] = ()
    networks: tuple[str, ...] = ()

    @property
    def a_model(self) -> str:
        return f"a {self.title} model"

    @property
    def box(self) -> str:
        """The GUI's word for it: v2, sdxl, flux1 …; "" for SD 1.x, which has no box."""
        return "v2" if self.v2 else self.boxes[0].removesuffix("_checkbox") if self.boxes else ""

    def record(self, *, v: bool) -> Record:
        """v: the model predicts v and not noise."""
        return self.records[v]


def _scripts(lora: str, tune: str = "", *, dreambooth: str = "", ti: str = "") -> Mapping[str, str]:
    """tab -> program. dreambooth: where that tab starts another than `tune`, or - for none."""
    found = {"lora": lora, "dreambooth": dreambooth or tune, "finetune": tune, "ti": ti}
    return MappingProxyType({tab: name for tab, name in found.items() if name not in ("", "-")})


_SD_SCRIPTS = _scripts(
    "train_network.py", "fine_tune.py", dreambooth="train_db.py", ti="train_textual_inversion.py"
)  # fmt: skip
_SDXL_RECORD = Record(
    "sdxl_base_v1-0", "stable-diffusion-xl-v1-base", 1024, "https://github.com/Stability-AI/generative-models"
)  # of every SDXL, whatever it predicts
_SD = LatentSpace(scale=0.18215)

MODELS: Table[FamilyEntry] = Table(
    "model family",
    {
        "sd1": FamilyEntry(
            "kohyakit.models.sd1:SD1", "Stable Diffusion 1.x and its fine-tunes", ("sd15",),
            title="Stable Diffusion 1.x", short="SD 1.5", trained="Stable Diffusion 1.x and 2.x", group="sd",
            scripts=_SD_SCRIPTS, bucket_steps=64, latent=_SD,
            texts=(TextPart("cond_stage_model.transformer."),), context=768, kept=(221, 37 + 28),
            records=(Record("sd_v1", "stable-diffusion-v1", 512), Record("sd_v1_v", "stable-diffusion-v1", 512)),
        ),
        "sd2": FamilyEntry(
            "kohyakit.models.sd2:SD2", "Stable Diffusion 2.x (v2 = true)", ("v2",),
            title="Stable Diffusion 2.x", short="SD 2.1", trained="Stable Diffusion 1.x and 2.x", group="sd", v2=True,
            scripts=_SD_SCRIPTS, bucket_steps=64, latent=_SD,
            texts=(TextPart("cond_stage_model.model.", open_clip=True, left_out=1),), context=1024, kept=(221, 37 + 28),
            records=(
                Record("sd_v2", "stable-diffusion-v2-512", 512), Record("sd_v2_v", "stable-diffusion-v2-768-v", 768),
            ),
        ),
        "sdxl": FamilyEntry(
            "kohyakit.models.sdxl:SDXL", "Stable Diffusion XL (sdxl_train_network.py)", ("xl",),
            title="Stable Diffusion XL", short="SDXL", trained="SDXL", group="sdxl",
            scripts=_scripts("sdxl_train_network.py", "sdxl_train.py", ti="sdxl_train_textual_inversion.py"),
            boxes=("sdxl", "sdxl_checkbox"), pipeline="StableDiffusionXL", latent=LatentSpace(scale=0.13025),
            texts=(
                TextPart("conditioner.embedders.0.transformer.", lora="lora_te1"),
                TextPart(
                    "conditioner.embedders.1.model.", "text_encoder_2", "lora_te2", open_clip=True, projection=True,
                ),
            ),
            context=2048, blocks=23, original_names=True, kept=(406, 34 + 41), records=(_SDXL_RECORD, _SDXL_RECORD),
        ),
        "flux": FamilyEntry(
            "", "Flux", title="Flux", short="Flux", trained="Flux", group="flux", flow=True, tuning_steps=16,
            scripts=_scripts("flux_train_network.py", "flux_train.py"), boxes=("flux1_checkbox",), pipeline="Flux",
        ),
        "sd3": FamilyEntry(
            "", "Stable Diffusion 3", title="Stable Diffusion 3", short="SD3", trained="Stable Diffusion 3",
            group="sd3", flow=True, tuning_steps=8, scripts=_scripts("sd3_train_network.py", "sd3_train.py"),
            boxes=("sd3_checkbox",), pipeline="StableDiffusion3",
        ),
        "hunyuan_image": FamilyEntry(
            "", "HunyuanImage", title="HunyuanImage", short="HunyuanImage", trained="HunyuanImage",
            group="hunyuan_image", flow=True, scripts=_scripts("hunyuan_image_train_network.py"),
            boxes=("hunyuan_image_checkbox",), pipeline="HunyuanImage",
        ),
        "anima": FamilyEntry(
            "", "Anima", title="Anima", short="Anima", trained="Anima", group="anima", flow=True, bucket_steps=16,
            scripts=_scripts("anima_train_network.py", "anima_train.py", dreambooth="-"), boxes=("anima_checkbox",),
        ),
        "lumina": FamilyEntry(
            "", "Lumina", title="Lumina", short="Lumina", trained="Lumina", group="lumina", flow=True, bucket_steps=16,
            scripts=_scripts("lumina_train_network.py", "lumina_train.py", dreambooth="-"), boxes=("lumina_checkbox",),
            pipeline="Lumina",
        ),
    },
)  # fmt: skip


def trained_here() -> tuple[str, ...]:
    """The families that the built-in trainer has code for."""
    return tuple(name for name, entry in MODELS.items() if entry.target)


def titles_here() -> str:
    """These in a row, with what two of them begin with said once: Stable Diffusion 1.x, 2.x and XL."""
    found: list[str] = []
    before = ""
    for name in trained_here():
        begin, _, last = MODELS[name].title.rpartition(" ")
        found.append(last if found and begin == before else MODELS[name].title)
        before = begin
    return ", ".join(found[:-1]) + f" and {found[-1]}"


def group_of(family: str) -> str:
    """What sd-scripts' programs are for; a family that is not in the table is taken for a group of its own."""
    return MODELS[family].group if family in MODELS else family


def in_group(group: str, *, v2: bool = False) -> str:
    """The family of a group: sd is sd1 or, with v2, sd2. Empty for a group nobody knows."""
    found = [name for name, entry in MODELS.items() if entry.group == group]
    return next((name for name in found if MODELS[name].v2 == v2), found[0] if found else "")


def is_unet(group: str) -> bool:
    """Whether a group's models are U-Nets that find DDPM's noise, as Stable Diffusion's up to XL are."""
    return any(entry.group == group and not entry.flow for entry in MODELS.values())
