"""What only an NVIDIA GPU shows. The rest of tests/train runs there too, on the GPU."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file

from kohyakit.errors import RunError
from kohyakit.train.callbacks import Quiet
from kohyakit.train.start import train_network
from kohyakit.train.trainer import NotFinite

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def train(config, **options):
    return train_network(config, progress=False, echo=lambda text: None, **options)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"optimizer_type": "AdamW"},
        {"optimizer_type": "Adafactor", "gradient_accumulation_steps": 2},
        {"cache_latents": True, "flip_aug": True, "vae_batch_size": 4, "sample_every_n_epochs": 1,
         "sample_prompts": "town --w 64 --h 64 --s 2"},
        {"no_half_vae": True, "network_train_unet_only": True},
        {"optimizer_type": "SGD", "full": True},
        {"optimizer_type": "SGD", "full": True, "max_grad_norm": 0},
    ],
    ids=" ".join,
)  # fmt: skip
def test_half_precision_trains(make_config, tmp_path, precision, checkpointing, options):
    options = dict(options)
    full = {f"full_{precision}": options.pop("full", False)}
    run = train(
        make_config(max_train_epochs=1, mixed_precision=precision, gradient_checkpointing=checkpointing, **full,
                    **options)
    )  # fmt: skip
    assert run.status == "finished"
    assert torch.cuda.get_device_name() in run.record.device
    ups = [t for key, t in load_file(tmp_path / "out" / "tiny.safetensors").items() if key.endswith("lora_up.weight")]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in ups)
    assert any(float(tensor.abs().max()) > 0 for tensor in ups)


def test_the_same_seed_draws_the_same_noise_as_on_the_cpu(make_config, monkeypatch):
    """In the default order only rounding differs between devices; convolutions use TF32 unless told otherwise."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    from kohyakit.train.step.noise import sample_noise
    from kohyakit.train.step.rng import KohyakitOrder

    config = make_config(noise_offset=0.1, multires_noise_iterations=2).noise_loss
    drawn = [
        sample_noise(torch.zeros((2, 4, 8, 8), device=device), config, KohyakitOrder(3).step(1, 0)).cpu()
        for device in ("cpu", "cuda")
    ]
    assert torch.allclose(*drawn, atol=1e-6)


def test_a_gradient_that_never_gets_finite_ends_an_fp16_training(make_config):
    class Endless(Quiet):
        def ready(self, trained) -> None:
            for parameter in trained.parameters():
                parameter.register_hook(lambda gradient: gradient * float("inf"))

    with pytest.raises(NotFinite, match="the gradient stays not finite"):
        train(make_config(mixed_precision="fp16", max_train_epochs=20), callbacks=[Endless()])


def test_a_full_card_is_one_sentence(make_config):
    """The card is made small for this process; eight pictures of 512x512 do not fit into it."""
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + 96 * 2**20
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
    try:
        with pytest.raises(RunError, match=r"the GPU's memory is full \(.* GiB: .*gradient_checkpointing"):
            train(make_config(resolution="512,512", enable_bucket=False, train_batch_size=8, mixed_precision="fp16"))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
