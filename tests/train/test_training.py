"""Whole trainings of a tiny model: what is written, what stays equal, what stops them."""

from __future__ import annotations

import errno
import json
import signal
from collections import Counter
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors import safe_open
from safetensors.torch import load_file

try:
    import resource
except ImportError:  # Windows
    resource = None

from kohyakit.errors import ConfigError, DatasetError, KohyakitError, RunError
from kohyakit.networks.file import unwritable
from kohyakit.runs.logs.metrics import read_scalars
from kohyakit.runs.run import open_run
from kohyakit.train.callbacks import Quiet
from kohyakit.train.start import train_network
from kohyakit.train.trainer import NotFinite
from tests.train.observers import Batches, Losses, stop_at
from tests.train.reference import Reference


def train(config, **options):
    return train_network(config, progress=False, echo=lambda text: None, **options)


def weights(folder: Path, name: str = "tiny.safetensors") -> dict[str, torch.Tensor]:
    return load_file(folder / "out" / name)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[key], b[key]) for key in a)


def batches(config, **options) -> list[tuple[int, list[str], list[str]]]:
    """Train, and return what each batch held: (epoch, image names, captions)."""
    watching = Batches()
    train(config, callbacks=[watching], **options)
    return watching.held


@pytest.mark.quick
def test_a_run_leaves_files_samples_logs_and_a_record(make_config, tmp_path):
    run = train(
        make_config(save_every_n_epochs=1, sample_prompts="town --w 64 --h 64 --s 2 --d 3", sample_every_n_epochs=1,
                    logging_dir=str(tmp_path / "log"))
    )  # fmt: skip
    out = tmp_path / "out"
    assert run.status == "finished"
    assert {p.name for p in out.glob("*.safetensors")} == {"tiny-000001.safetensors", "tiny.safetensors"}
    assert len(list((out / "sample").glob("tiny_e00000[12]_00_*_3.png"))) == 2
    assert len((out / "sample" / "samples.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    frame = read_scalars(tmp_path / "log")

    assert frame[frame.tag == "loss/current"].step.tolist() == list(range(1, run.record.steps + 1))
    for name in ("source", "config.toml", "plan.json", "run.json", "log.txt"):
        assert list(run.folder.glob(f"{name}*")) or name == "source"
    with safe_open(out / "tiny.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["ss_network_dim"] == "2"
    assert metadata["ss_num_train_images"] == "13"
    assert json.loads(metadata["ss_tag_frequency"])["2_town"]["sky"] == 5
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/lora"


def test_the_same_seed_gives_the_same_file(make_config, tmp_path):
    train(make_config(max_train_epochs=1))
    first = weights(tmp_path)
    train(make_config(max_train_epochs=1))
    assert same(first, weights(tmp_path))


def test_a_second_training_of_the_same_name_keeps_the_first_ones_files(make_config, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "tiny.safetensors").write_bytes(b"somebody's")
    first = train(make_config(max_train_epochs=1, save_state_on_train_end=True))
    assert (out / "replaced" / "tiny.safetensors").read_bytes() == b"somebody's"
    trained = (out / "tiny.safetensors").read_bytes()
    second = train(make_config(max_train_epochs=1, seed=8, save_state_on_train_end=True))
    kept = first.folder / "files" / "tiny.safetensors"
    assert kept.read_bytes() == trained
    assert (first.folder / "files" / "tiny-state" / "train_state.json").exists()
    assert (out / "tiny.safetensors").read_bytes() != trained
    files = {c.kind: (c.file, c.replaced_by) for c in open_run(first.folder).record.checkpoints}
    assert files["model"] == ("runs/1a/files/tiny.safetensors", "")
    assert {c.file for c in second.record.checkpoints} == {"tiny.safetensors", "tiny-state"}


def test_every_image_is_seen_exactly_its_repeats_each_epoch(make_config):
    held = batches(make_config())
    for epoch in (1, 2):
        seen = Counter(name for e, names, _ in held if e == epoch for name in names)
        assert seen == {f"2_town/town{i}.png": 2 for i in range(5)} | {f"1_statue/statue{i}.png": 1 for i in range(3)}


def test_the_order_depends_on_the_seed_alone(make_config):
    first = batches(make_config(shuffle_caption=True))
    assert batches(make_config(shuffle_caption=True, network_dim=4, max_data_loader_n_workers=2)) == first
    assert batches(make_config(shuffle_caption=True, seed=8)) != first


def test_cached_latents_train_the_same(make_config, tmp_path):
    train(make_config(flip_aug=True))
    plain = weights(tmp_path)
    train(make_config(flip_aug=True, cache_latents=True))
    assert same(plain, weights(tmp_path))
    train(make_config(flip_aug=True, cache_latents_to_disk=True))
    assert same(plain, weights(tmp_path))


def test_gradient_checkpointing_trains_the_same(make_config, tmp_path):
    train(make_config(max_train_epochs=1))
    plain = weights(tmp_path)
    train(make_config(max_train_epochs=1, gradient_checkpointing=True))
    kept = weights(tmp_path)
    assert all(torch.allclose(plain[key], kept[key], atol=1e-6) for key in plain)


def test_prefetching_threads_change_nothing(make_config, tmp_path):
    train(make_config(random_crop=True, color_aug=True))
    plain = weights(tmp_path)
    train(make_config(random_crop=True, color_aug=True, max_data_loader_n_workers=3))
    assert same(plain, weights(tmp_path))


@pytest.fixture(scope="module")
def unstopped(config_into, tmp_path_factory):
    """unstopped(name=value, …) -> the weights after a training to its end; each trains once."""
    known: dict[str, dict[str, torch.Tensor]] = {}

    def after(**options) -> dict[str, torch.Tensor]:
        if repr(options) not in known:
            folder = tmp_path_factory.mktemp("whole")
            train(config_into(folder, **options))
            known[repr(options)] = weights(folder)
        return known[repr(options)]

    return after


@pytest.mark.parametrize("order", ["kohyakit", "sd-scripts"])
@pytest.mark.parametrize(("stops", "optimizer"), [([3], "AdamW"), ([4, 9], "AdamW"), ([4], "AdamWScheduleFree")])
def test_stopped_and_resumed_is_as_if_never_stopped(make_config, unstopped, tmp_path, order, stops, optimizer):
    schedule = "constant" if optimizer.endswith("Free") else "cosine"
    options = {"rng_order": order, "shuffle_caption": True, "network_dropout": 0.1, "lr_scheduler": schedule,
               "gradient_accumulation_steps": 1, "save_state_on_train_end": True, "optimizer_type": optimizer,
               }  # fmt: skip
    resume = {}
    for stop in stops:
        run = train(make_config(**options, **resume), callbacks=[stop_at(stop, tmp_path / "out")])
        assert run.status == "stopped"
        resume = {"resume": str(tmp_path / "out" / f"tiny-step{stop:08d}-state")}
    run = train(make_config(**options, **resume))
    assert run.status == "finished"
    assert same(unstopped(**options), weights(tmp_path))


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(make_config, tmp_path):
    class Pressed(Quiet):
        """Within the third step: its loss is known and its gradient not."""

        def seen(self, seen) -> None:
            if seen.position == 2:
                signal.raise_signal(signal.SIGINT)

    said = []
    run = train_network(make_config(), progress=False, echo=said.append, callbacks=[Pressed()])
    assert run.status == "interrupted"
    assert run.record.outcome.startswith("interrupted after step 3 of")
    assert (tmp_path / "out" / "tiny-step00000003.safetensors").exists()
    state = tmp_path / "out" / "tiny-step00000003-state"
    assert f"resume={state}" in said[-1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_stop_file_ends_the_training_after_its_step(make_config, tmp_path):
    run = train(make_config(), callbacks=[stop_at(2, tmp_path / "out")])
    assert run.status == "stopped"
    assert run.record.outcome == "stopped after step 2 of 14"
    assert not run.stop_requested()


def test_nan_stops_at_once_names_the_batch_and_keeps_the_last_good_weights(make_config, tmp_path):
    """A learning rate beyond reason: the loss is no number within a few steps."""
    with pytest.raises(NotFinite, match=r"step \d+, epoch 1: the .* for the batch .*\.png"):
        train(make_config(learning_rate=1e19, optimizer_type="SGD", max_grad_norm=0, max_train_epochs=20))
    (run,) = (tmp_path / "out" / "runs").glob("1*")
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["status"] == "failed"
    for path in (tmp_path / "out").glob("*.safetensors"):
        assert all(bool(torch.isfinite(tensor).all()) for tensor in load_file(path).values())


class Spoiling(Quiet):
    """Puts NaN into the weights once a step is done."""

    def __init__(self, step: int) -> None:
        self._step = step

    def ready(self, trained) -> None:
        self._trained = trained

    def step(self, report) -> None:
        if report.step == self._step:
            with torch.no_grad():
                next(self._trained.parameters()).fill_(torch.nan)


def test_weights_that_became_nan_are_not_kept(make_config, tmp_path):
    """An optimizer can spoil the weights itself (AdamW in full_fp16 does); the next loss tells, and nothing is left."""
    said = []
    with pytest.raises(NotFinite, match="step 4, epoch 1"):
        train_network(make_config(save_every_n_steps=2), progress=False, echo=said.append, callbacks=[Spoiling(step=3)])
    assert any("became NaN in step 3 and is not kept" in line for line in said)
    assert {p.name for p in (tmp_path / "out").glob("*.safetensors")} == {"tiny-step00000002.safetensors"}
    assert not list((tmp_path / "out").glob("*-state"))


class Room(Quiet):
    """From the second step on this process may write no file beyond 20 kB."""

    def step(self, report) -> None:
        if report.step == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.mark.skipif(resource is None, reason="Windows has no limit on the size of files")
def test_a_file_that_cannot_be_written_whole_is_one_sentence_and_no_half_file(make_config, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(RunError, match=r"tiny\.safetensors: it could not be written \(File too large\)"):
            train(make_config(max_train_epochs=1), callbacks=[Room()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "out").glob("tiny*"))


def test_a_full_disk_is_named():
    assert "the disk is full, nothing was written; free some space" in str(
        unwritable(Path("a.safetensors"), OSError(errno.ENOSPC, "No space left on device"))
    )


def _spoil(photos: Path, tmp_path: Path) -> Path:
    """A copy of the photos with one file cut off."""
    import shutil

    copy = tmp_path / "spoilt"
    shutil.copytree(photos, copy)
    cut = copy / "2_town" / "town0.png"
    cut.write_bytes(cut.read_bytes()[:800])
    return cut


def test_a_corrupt_image_is_named_before_the_first_step(make_config, photos, tmp_path):
    cut = _spoil(photos, tmp_path)
    with pytest.raises(DatasetError, match=r"town0\.png"):
        train(make_config(train_data_dir=str(cut.parent.parent)))
    assert not (tmp_path / "out").exists()


def test_bad_images_can_be_left_out_and_the_record_says_so(make_config, photos, tmp_path):
    """11 images with repeats are left of 13; the plan in the run's folder is of these and the training kept to it."""
    cut = _spoil(photos, tmp_path)
    said, watching = [], Batches()
    run = train_network(
        make_config(train_data_dir=str(cut.parent.parent), max_train_epochs=1), progress=False, echo=said.append,
        skip_bad_images=True, callbacks=[watching],
    )  # fmt: skip
    assert run.status == "finished"
    plan = json.loads((run.folder / "plan.json").read_text(encoding="utf-8"))
    assert sum(bucket["images"] for bucket in plan["buckets"]) == sum(len(names) for _, names, _ in watching.held) == 11
    assert plan["steps"] == len(watching.held) == run.record.steps
    assert run.record.image_count == 7
    assert "2_town/town0.png" not in {name for _, names, _ in watching.held for name in names}
    assert any("left out" in line and "town0.png" in line for line in said)
    assert "town0.png" in run.log_file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("option", "groups"),
    [("network_train_unet_only", {"lora_unet"}), ("network_train_text_encoder_only", {"lora_te"})],
)
def test_either_part_alone(make_config, tmp_path, option, groups):
    train(make_config(max_train_epochs=1, **{option: True}))
    assert {"_".join(key.split("_")[:2]) for key in weights(tmp_path)} == groups


@pytest.mark.parametrize(
    "options",
    [
        {"mixed_precision": "bf16", "save_precision": "bf16"},
        {"mixed_precision": "bf16", "full_bf16": True},
        {"max_token_length": 225, "clip_skip": 2, "weighted_captions": True},
        {"network_args": ["conv_dim=2", "conv_alpha=1", "rank_dropout=0.1", "module_dropout=0.1"]},
        {"network_args": ["loraplus_lr_ratio=16"], "scale_weight_norms": 1.0},
        {"noise_offset": 0.1, "adaptive_noise_scale": 0.01, "min_snr_gamma": 5, "loss_type": "huber"},
        {"multires_noise_iterations": 3, "ip_noise_gamma": 0.1, "debiased_estimation_loss": True},
        {"v_parameterization": True, "zero_terminal_snr": True, "scale_v_pred_loss_like_noise_pred": True},
        {"optimizer_type": "Adafactor"},
        {"optimizer_type": "AdamWScheduleFree", "save_every_n_steps": 3},
        {"enable_bucket": False},
        {"bucket_no_upscale": False, "gradient_accumulation_steps": 3},
    ],
    ids=lambda options: " ".join(options),
)
def test_it_trains_with(make_config, tmp_path, tiny_model, options, first_loss):
    """Every loss is the reference's, which trains beside it with diffusers, transformers and torch alone.

    The update is zero at the start, so the first loss is the bare model's, whatever is trained and how; the later
    ones are compared where the LoRA draws nothing itself, in float32 and with AdamW.
    """
    config = make_config(max_train_epochs=1, **options)
    losses, reference = Losses(), Reference(config, tiny_model)
    run = train(config, callbacks=[losses, reference])
    assert run.status == "finished"
    exact = 1e-2 if "mixed_precision" in options else 1e-4
    compared = slice(1 if _NOT_BY_THE_REFERENCE & {*options, *_names(options)} else None)
    assert reference.ours[compared] == pytest.approx(reference.theirs[compared], rel=exact)
    if not _ANOTHER_FIRST_LOSS & set(options):
        assert losses.heard[0] == pytest.approx(first_loss, rel=1e-2 if "mixed_precision" in options else 1e-5)
    assert all(0 < loss < 1e4 for loss in losses.heard)
    ups = [tensor for key, tensor in weights(tmp_path).items() if key.endswith("lora_up.weight")]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in ups)
    assert any(float(tensor.abs().max()) > 0 for tensor in ups)


def test_a_text_encoder_of_rate_0_is_not_in_the_way(make_config, tmp_path):
    """Its gradients would add up, as nothing clears them, and make up ever more of the norm that is clipped to."""
    options = {"max_train_epochs": 1, "max_grad_norm": 1e-4, "optimizer_type": "SGDNesterov", "learning_rate": 10.0}
    train(make_config(text_encoder_lr=0, **options))
    ours = {key: tensor for key, tensor in weights(tmp_path).items() if key.startswith("lora_unet")}
    assert len(weights(tmp_path)) > len(ours)
    train(make_config(network_train_unet_only=True, **options))
    assert same(weights(tmp_path), ours)


@pytest.mark.parametrize(
    ("options", "tags"),
    [  # as generate_step_logs of sd-scripts names them, its first group always "textencoder" without unet_only
        ({"network_train_text_encoder_only": True}, {"lr/textencoder"}),
        ({"network_train_unet_only": True}, {"lr/unet", "lr/group0"}),
        ({"text_encoder_lr": 0}, {"lr/unet", "lr/textencoder"}),
        (
            {"scale_weight_norms": 1.0, "network_args": ["loraplus_unet_lr_ratio=4"]},
            {"lr/textencoder", "lr/unet", "lr/unet plus", "lr/group1", "lr/group2", "max_norm/keys_scaled",
             "max_norm/max_key_norm", "norm/avg_key_norm"},
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_scalars_have_kohyas_tags(make_config, tmp_path, options, tags):
    log = tmp_path / "log"
    values = {"max_train_epochs": None, "max_train_steps": 1, "rng_order": "sd-scripts", "logging_dir": str(log)}
    train(make_config(**values, **options))
    found = set(read_scalars(log)["tag"]) - {"loss/epoch_average"}
    assert found == tags | {"loss/current", "loss/average"}


# What the reference does not do after the first step: half precision, dropout, other optimizers.
_NOT_BY_THE_REFERENCE = {"mixed_precision", "rank_dropout", "scale_weight_norms", "optimizer_type"}


def _names(options: dict) -> set[str]:
    return {argument.partition("=")[0] for argument in options.get("network_args", ())}


# What changes noise, target, text or batches, so that the first loss is another: compared with recorded runs of
# sd-scripts elsewhere.
_ANOTHER_FIRST_LOSS = {"max_token_length", "noise_offset", "multires_noise_iterations", "v_parameterization",
                       "enable_bucket", "bucket_no_upscale"}  # fmt: skip


@pytest.fixture(scope="module")
def first_loss(config_into, tiny_model, photos, tmp_path_factory) -> float:
    """The first batch's loss by diffusers and transformers alone; only which photos, noise and steps is ours."""
    import numpy as np
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from PIL import Image
    from transformers import CLIPTextModel

    from kohyakit.dataset.captions.tokens import encode
    from kohyakit.planning.make import make_plan
    from kohyakit.train.step.batches import build_datasets
    from kohyakit.train.step.rng import KohyakitOrder

    config = config_into(tmp_path_factory.mktemp("bare"))
    datasets = build_datasets(make_plan(config).datasets, 1.0)
    order = KohyakitOrder(7)
    order.begin(datasets)
    images = [datasets[0].images[i] for i in next(iter(order.batches(1))).images]
    stream = order.step(1, 0)
    vae = AutoencoderKL.from_pretrained(tiny_model / "vae")
    latents = []
    for image in images:
        place = image.placement
        picture = Image.open(image.record.path).convert("RGB")
        assert picture.size == place.resized
        left, top, side = place.crop_left, place.crop_top, place.bucket
        pixels = np.asarray(picture.crop((left, top, left + side.width, top + side.height)), dtype=np.float32)
        posterior = vae.encode(torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None]).latent_dist
        noise = torch.randn(posterior.mean.shape[1:], generator=order.posterior(f"{image.key}/False"))
        latents.append((posterior.mean + posterior.std * noise) * vae.config.scaling_factor)
    latents = torch.cat(latents).detach()
    noise = stream.randn(latents.shape, latents)
    timesteps = stream.randint(0, 1000, len(images))
    text = CLIPTextModel.from_pretrained(tiny_model / "text_encoder")
    words = [[49406, *encode(image.record.caption)] for image in images]
    ids = torch.tensor([[*row, *[49407] * (77 - len(row))] for row in words])  # the end also fills up
    noisy = DDPMScheduler.from_pretrained(tiny_model / "scheduler").add_noise(latents, noise, timesteps)
    with torch.no_grad():
        states = text(ids).last_hidden_state
        predicted = UNet2DConditionModel.from_pretrained(tiny_model / "unet")(noisy, timesteps, states).sample
    return float(((predicted - noise) ** 2).mean())


def test_older_saves_go_and_nothing_else_does(make_config, tmp_path):
    """By sd-scripts' rules. Epochs: at epoch e the one two saves back goes. Steps: what lies more than 4 back."""
    out = tmp_path / "out"
    out.mkdir()
    for name in ("tiny-000001-notes.txt", "other-000001.safetensors", "tiny-step00000002.png"):
        (out / name).write_bytes(b"somebody's")
    train(
        make_config(max_train_epochs=5, save_every_n_epochs=1, save_last_n_epochs=2, save_last_n_epochs_state=1,
                    save_every_n_steps=10, save_last_n_steps=15, save_state=True)
    )  # fmt: skip
    epochs, steps = ("000003", "000004"), ("step00000020", "step00000030")
    models = {f"tiny-{number}.safetensors" for number in (*epochs, *steps)} | {"tiny.safetensors"}
    assert {p.name for p in out.glob("tiny*.safetensors")} == models
    assert {p.name for p in out.glob("*-state")} == {"tiny-000004-state", "tiny-state"} | {
        f"tiny-{number}-state" for number in steps
    }
    assert all((out / name).read_bytes() == b"somebody's"
               for name in ("tiny-000001-notes.txt", "other-000001.safetensors", "tiny-step00000002.png"))  # fmt: skip


def test_an_odd_last_batch_steps_alone(make_config, tmp_path):
    """Seven batches of the photos, two accumulated: four steps an epoch, as sd-scripts counts."""
    run = train(make_config(gradient_accumulation_steps=2))
    assert run.record.steps == 8
    with safe_open(tmp_path / "out" / "tiny.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["ss_steps"] == "8"
    assert metadata["ss_num_batches_per_epoch"] == "7"
    assert metadata["ss_total_batch_size"] == "4"


def test_all_problems_are_said_before_anything_is_loaded(make_config, tmp_path):
    with pytest.raises(ConfigError) as caught:
        train(
            make_config(
                pretrained_model_name_or_path=str(tmp_path / "nowhere"), fp8_base=True, bucket_no_upscale=False,
                min_bucket_reso=640,
            )
        )  # fmt: skip
    text = str(caught.value)
    assert "nowhere" in text
    assert "fp8_base" in text
    assert not (tmp_path / "out").exists()


def test_a_state_of_another_order_is_refused(make_config, tmp_path):
    train(make_config(max_train_epochs=1, save_state_on_train_end=True))
    state = str(tmp_path / "out" / "tiny-state")
    with pytest.raises(KohyakitError, match="rng_order"):
        train(make_config(resume=state, rng_order="sd-scripts"))
    with pytest.raises(KohyakitError, match="other-state"):
        train(make_config(resume=str(tmp_path / "other-state")))


def test_a_file_that_cannot_be_moved_aside_is_one_sentence(make_config, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "tiny.safetensors").write_bytes(b"somebody's")
    (out / "replaced").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(RunError, match="tiny"):
        train(make_config(max_train_epochs=1))
    assert (out / "tiny.safetensors").read_bytes() == b"somebody's"
