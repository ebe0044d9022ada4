"""A single file and a folder of the same model are the same model; true shapes; the clear sentences."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kohyakit.errors import ConfigError
from kohyakit.models import Model, build_meta, load_model
from kohyakit.models.single_file import unet_origin, vae_origin

TINY = "training/sd15-tiny"
SINGLE = "training/single/sd15-tiny.safetensors"


def parts(model: Model) -> dict[str, torch.nn.Module]:
    return {"unet": model.unet, "text_encoder": model.text_encoder, "vae": model.vae}


@pytest.fixture(scope="module")
def folder_model(goldens: Path) -> Model:
    return load_model(goldens / TINY)


@pytest.fixture(scope="module")
def file_model(goldens: Path) -> Model:
    return load_model(goldens / SINGLE)


@pytest.mark.shared
@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
def test_single_file_holds_the_folders_tensors(folder_model: Model, file_model: Model, part: str) -> None:
    ours, theirs = (parts(model)[part].state_dict() for model in (file_model, folder_model))
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor.half().float()), name


@pytest.mark.shared
def test_single_file_and_folder_compute_the_same(folder_model: Model, file_model: Model) -> None:
    generator = torch.Generator().manual_seed(1)
    latents, states = torch.randn(2, 4, 8, 16, generator=generator), torch.randn(2, 77, 32, generator=generator)
    image, ids = torch.randn(1, 3, 64, 64, generator=generator), torch.randint(0, 49408, (2, 77), generator=generator)
    time = torch.tensor([3, 977])
    for model in (file_model,):
        with torch.no_grad():
            for one, other in (
                (model.unet(latents, time, states).sample, folder_model.unet(latents, time, states).sample),
                (model.text_encoder(ids), folder_model.text_encoder(ids)),
                (model.vae.encode(image).latent_dist.mean, folder_model.vae.encode(image).latent_dist.mean),
                (model.vae.decode(latents).sample, folder_model.vae.decode(latents).sample),
            ):
                assert (one - other).abs().max() < 4e-3 * other.abs().max()


def test_folder_equals_what_diffusers_and_transformers_load(demo_model: Path) -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    unet = UNet2DConditionModel.from_pretrained(demo_model / "unet", local_files_only=True)
    vae = AutoencoderKL.from_pretrained(demo_model / "vae", local_files_only=True)
    text = CLIPTextModel.from_pretrained(demo_model / "text_encoder", local_files_only=True)
    model = load_model(demo_model)
    for theirs, ours in ((unet, model.unet), (vae, model.vae)):
        assert theirs.config.block_out_channels == ours.config.block_out_channels
        assert all(torch.equal(tensor, ours.state_dict()[name]) for name, tensor in theirs.state_dict().items())
    ids = torch.randint(0, 49408, (2, 77), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.equal(text(ids)[0], model.text_encoder(ids))


@pytest.mark.shared
def test_u_net_gives_the_recorded_prediction(goldens: Path, folder_model: Model) -> None:
    for case, batches in (("basic", (1,)), ("adafactor", (1,))):  # the LoRA is still zero there
        for batch in batches:
            t = load_file(goldens / f"training/{case}/tensors_batch{batch}.safetensors")
            with torch.no_grad():
                ours = folder_model.unet(t["noisy_latents"], t["timesteps"], t["encoder_hidden_states"]).sample
            assert (ours - t["noise_pred"]).abs().max() < 2e-6


@pytest.mark.shared
def test_loading_draws_nothing_and_leaves_nothing_on_meta(goldens: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for path in (TINY, SINGLE):
        model = load_model(goldens / path, dtype=torch.bfloat16)
        for part in parts(model).values():
            tensors = [*part.parameters(), *part.buffers()]
            assert not any(tensor.is_meta or tensor.requires_grad for tensor in tensors)
            assert {p.dtype for p in part.parameters()} == {torch.bfloat16}
            assert not part.training
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.shared
def test_without_a_dtype_the_files_own_is_kept(goldens: Path, file_model: Model) -> None:
    model = load_model(goldens / SINGLE, dtype=None)
    assert {p.dtype for part in parts(model).values() for p in part.parameters()} == {torch.float16}
    wide = model.unet.to(torch.float32).state_dict()
    assert all(torch.equal(wide[name], tensor) for name, tensor in file_model.unet.state_dict().items())


def test_original_names_of_the_true_size() -> None:
    """Spot checks written down from the published v1-5-pruned-emaonly.safetensors."""
    model = build_meta("sd1")
    config = dict(model.unet.config)
    assert sum(p.numel() for p in model.unet.parameters()) == 859_520_964
    assert sum(p.numel() for p in model.text_encoder.parameters()) == 123_060_480
    assert sum(p.numel() for p in model.vae.parameters()) == 83_653_863
    names = {name: unet_origin(name, config) for name in model.unet.state_dict()}
    assert len(set(names.values())) == len(names) == 686
    assert names["down_blocks.1.resnets.0.conv_shortcut.weight"] == "input_blocks.4.0.skip_connection.weight"
    assert names["down_blocks.2.downsamplers.0.conv.bias"] == "input_blocks.9.0.op.bias"
    assert names["up_blocks.0.upsamplers.0.conv.weight"] == "output_blocks.2.1.conv.weight"
    assert names["up_blocks.1.upsamplers.0.conv.weight"] == "output_blocks.5.2.conv.weight"
    assert names["up_blocks.3.attentions.2.proj_out.weight"] == "output_blocks.11.1.proj_out.weight"
    assert names["mid_block.resnets.1.time_emb_proj.weight"] == "middle_block.2.emb_layers.1.weight"
    vae = {name: vae_origin(name, 4) for name in model.vae.state_dict()}
    assert len(set(vae.values())) == len(vae) == 248
    assert vae["decoder.up_blocks.0.resnets.2.conv1.weight"] == "decoder.up.3.block.2.conv1.weight"
    assert vae["decoder.up_blocks.2.resnets.0.conv_shortcut.bias"] == "decoder.up.1.block.0.nin_shortcut.bias"
    assert vae["encoder.down_blocks.0.downsamplers.0.conv.weight"] == "encoder.down.0.downsample.conv.weight"
    assert vae["decoder.mid_block.attentions.0.to_out.0.weight"] == "decoder.mid.attn_1.proj_out.weight"


def test_text_encoder_names_are_the_files_names() -> None:
    names = list(build_meta("sd1").text_encoder.state_dict())
    assert "text_model.encoder.layers.11.self_attn.out_proj.weight" in names
    assert len(names) == 196


def as_sd2_file(goldens: Path, path: Path) -> None:
    """The tiny single file with its text encoder rewritten in OpenCLIP's layout, plus the layer 2.x drops."""
    state = load_file(goldens / SINGLE)
    text = {k.removeprefix("cond_stage_model.transformer.text_model."): k for k in state if "cond_stage" in k}
    new = {k: v for k, v in state.items() if "cond_stage" not in k}
    root = "cond_stage_model.model."
    new[root + "token_embedding.weight"] = state[text["embeddings.token_embedding.weight"]]
    new[root + "positional_embedding"] = state[text["embeddings.position_embedding.weight"]]
    for kind in ("weight", "bias"):
        new[f"{root}ln_final.{kind}"] = state[text[f"final_layer_norm.{kind}"]]
        for layer, source in ((0, 0), (1, 1), (2, 2), (3, 0)):
            here, there = f"{root}transformer.resblocks.{layer}.", f"encoder.layers.{source}."
            qkv = [state[text[f"{there}self_attn.{x}_proj.{kind}"]] for x in "qkv"]
            new[f"{here}attn.in_proj_{kind}"] = torch.cat(qkv)
            new[f"{here}attn.out_proj.{kind}"] = state[text[f"{there}self_attn.out_proj.{kind}"]]
            for ours, theirs in (("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"), ("mlp.c_fc", "mlp.fc1")):
                new[f"{here}{ours}.{kind}"] = state[text[f"{there}{theirs}.{kind}"]]
            new[f"{here}mlp.c_proj.{kind}"] = state[text[f"{there}mlp.fc2.{kind}"]]
    save_file({k: v.clone() for k, v in new.items()}, path)


@pytest.mark.shared
def test_sd2_text_encoder_from_open_clip_names(goldens: Path, tmp_path: Path, file_model: Model) -> None:
    as_sd2_file(goldens, tmp_path / "v2.safetensors")
    model = load_model(tmp_path / "v2.safetensors", family="sd2")
    ours, theirs = model.text_encoder.state_dict(), file_model.text_encoder.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert model.text_encoder.config.hidden_act == "gelu"
    with pytest.raises(ConfigError, match=r"is a Stable Diffusion 2\.x model, but v2 is off; set v2 = true"):
        load_model(tmp_path / "v2.safetensors")
    with pytest.raises(ConfigError, match=r"1\.x model, but v2 is on; set v2 = false"):
        load_model(goldens / SINGLE, family="sd2")


@pytest.mark.shared
def test_a_ckpt_goes_through_the_weights_only_loader(goldens: Path, tmp_path: Path, file_model: Model) -> None:
    torch.save({"state_dict": load_file(goldens / SINGLE), "global_step": 3}, tmp_path / "m.ckpt")
    ours = load_model(tmp_path / "m.ckpt").unet.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in file_model.unet.state_dict().items())


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("touched-by-pickle"),))


def test_a_ckpt_with_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, tmp_path / "m.ckpt")
    with pytest.raises(ConfigError, match="unpickling could run code"):
        load_model(tmp_path / "m.ckpt")
    assert not (tmp_path / "touched-by-pickle").exists()


@pytest.mark.shared
def test_a_separate_vae(goldens: Path, tmp_path: Path, folder_model: Model) -> None:
    """As a folder, a file with diffusers' names, and a file with the original names, in every case that VAE."""
    shifted = {k: v + 1 for k, v in folder_model.vae.state_dict().items()}
    shutil.copytree(goldens / TINY / "vae", tmp_path / "vae")
    (tmp_path / "vae").chmod(0o755)
    (tmp_path / "vae/diffusion_pytorch_model.safetensors").unlink()
    save_file(shifted, tmp_path / "vae/diffusion_pytorch_model.safetensors")
    original = {vae_origin(k, 4): v for k, v in shifted.items()}
    save_file(original, tmp_path / "original.safetensors")
    for vae in (tmp_path / "vae", tmp_path / "original.safetensors"):
        model = load_model(goldens / SINGLE, vae=vae)
        assert all(torch.equal(v, shifted[k]) for k, v in model.vae.state_dict().items())
        assert model.source.vae == vae


@pytest.mark.shared
def test_old_folders_attention_names(goldens: Path, tmp_path: Path, folder_model: Model) -> None:
    """diffusers before 0.18 wrote `query` where today there is `to_q`; the published 1.5 folder is of that time."""
    shutil.copytree(goldens / TINY, tmp_path / "old", copy_function=shutil.copy)
    for place in [tmp_path / "old", *(tmp_path / "old").rglob("*")]:
        place.chmod(0o755)
    file = tmp_path / "old/vae/diffusion_pytorch_model.safetensors"
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for key, tensor in load_file(file).items():
        for new, old in names.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        state[key] = tensor
    assert "encoder.mid_block.attentions.0.query.weight" in state
    save_file(state, file)
    ours = load_model(tmp_path / "old").vae.state_dict()
    assert all(torch.equal(ours[k], v) for k, v in folder_model.vae.state_dict().items())


def write(path: Path, **tensors: torch.Tensor) -> Path:
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path)
    return path


ONE = torch.zeros(1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lora_unet_mid_block.alpha", "is a LoRA, not a base model"),
        ("conditioner.embedders.0.x", "Stable Diffusion XL model without its U-Net"),
        ("model.diffusion_model.joint_blocks.0.x", "Stable Diffusion 3"),
        ("double_blocks.0.img_attn", "Flux"),
        ("encoder.conv_in.weight", "is a VAE alone; give it as vae"),
        ("down_blocks.0.resnets.0.x", "give the folder that holds model_index.json"),
        ("control_model.input_blocks.0", "ControlNet"),
        ("emb_params", "textual inversion"),
        ("something.else", "holds no model that is known here"),
    ],
)
def test_foreign_files_are_named_for_what_they_are(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_model(write(tmp_path / "m.safetensors", **{name: ONE}))


def test_an_sdxl_file_with_the_same_u_net_prefix(tmp_path: Path) -> None:
    tensors = {"model.diffusion_model.input_blocks.0.0.weight": ONE, "conditioner.embedders.1.model.x": ONE}
    with pytest.raises(ConfigError, match=r"is a Stable Diffusion XL model, but .*; set script = sdxl_train_"):
        load_model(write(tmp_path / "m.safetensors", **tensors))


@pytest.mark.shared
def test_incomplete_and_damaged_files(goldens: Path, tmp_path: Path) -> None:
    whole = (goldens / SINGLE).read_bytes()
    cases = {
        "half.safetensors": (whole[: len(whole) // 2], "incomplete or damaged .*; download or copy it again"),
        "empty.safetensors": (b"", "the file is empty"),
        "page.safetensors": (b"<!DOCTYPE html><title>Log in</title>", "is a web page"),
        "pointer.safetensors": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        "cut.ckpt": (b"PK\x03\x04 cut", "incomplete or damaged|unpickling"),
        "model.gguf": (b"GGUF", "'.gguf' is not a weight file's ending"),
    }
    for name, (content, said) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=said) as caught:
            load_model(tmp_path / name)
        assert len(str(caught.value).splitlines()) == 1
    state = load_file(goldens / SINGLE)
    del state["model.diffusion_model.middle_block.1.norm.weight"], state["first_stage_model.decoder.conv_in.weight"]
    write(tmp_path / "lacking.safetensors", **state)
    with pytest.raises(ConfigError, match=r"1 tensors of the U-Net are missing \(middle_block\.1\.norm\.weight\)"):
        load_model(tmp_path / "lacking.safetensors")


@pytest.mark.shared
def test_missing_places_and_incomplete_folders(goldens: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nor in the Hugging Face cache; download it once with `hf download a/b-v1"):
        load_model("a/b-v1.5")
    with pytest.raises(ConfigError) as both:
        load_model(tmp_path / "none.safetensors", vae=tmp_path / "vae.pt")
    assert [problem.where for problem in both.value.problems] == ["pretrained_model_name_or_path", "vae"]
    with pytest.raises(ConfigError, match=r"did you mean '.*sd15-tiny\.safetensors'"):
        load_model(goldens / "training/single/sd15_tiny.safetensor")
    with pytest.raises(ConfigError, match="no base model is given"):
        load_model("")
    (tmp_path / "loose").mkdir()
    shutil.copyfile(goldens / SINGLE, tmp_path / "loose/my model.safetensors")
    with pytest.raises(ConfigError, match=r"did you mean the file my model\.safetensors in it"):
        load_model(tmp_path / "loose")
    half = tmp_path / "half"
    (half / "unet").mkdir(parents=True)
    shutil.copyfile(goldens / TINY / "unet/config.json", half / "unet/config.json")
    with pytest.raises(ConfigError) as caught:
        load_model(half)
    assert [Path(problem.where).parent.name for problem in caught.value.problems] == ["text_encoder", "vae"]
    (half / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionXLPipeline"}), encoding="utf-8")
    with pytest.raises(ConfigError, match="set script = sdxl_train_network"):
        load_model(half)


@pytest.mark.shared
def test_prediction_type_is_compared_with_the_folder(goldens: Path) -> None:
    assert load_model(goldens / TINY).notes == ()
    model = load_model(goldens / TINY, v_parameterization=True)
    assert model.prediction_type == "v_prediction"
    assert [note.severity for note in model.notes] == ["warning"]
