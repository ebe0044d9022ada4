"""Who reads a file: verdicts on made files of every method, family and fault, and diffusers asked itself."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner
from safetensors.torch import save_file

from kohyakit.cli import group
from kohyakit.config.arguments.adapters import adapter_settings
from kohyakit.config.train import TrainConfig
from kohyakit.demo.tiny_model import write_tiny_model
from kohyakit.lora.inspect import inspect
from kohyakit.lora.readers import READERS
from kohyakit.planning.unread import unread
from kohyakit.registry.networks import ALGORITHMS
from tests.lora.made import ATTENTION, REAL, TINY, made, random, renamed
from tests.train.tiny_sdxl import write_tiny_sdxl

PROGRAMS = ("A1111", "Forge", "ComfyUI", "diffusers", "sd-scripts", "InvokeAI")

# Worked out by hand from the sources: + read, ~ computed differently, - lost, in the order of PROGRAMS.
METHODS = {
    "lora": "++++++",
    "dora": "+++~~+",  # sizes of the inputs: diffusers and sd-scripts leave them out
    "dora out": "~~~~~~",  # LyCORIS' default axis
    "loha": "+++--+",
    "lokr": "+++--+",
    "lokr small": "+++---",  # InvokeAI cannot tell the model from factored LoKr
    "oft": "+-+---",
    "oft free": "--+---",  # alpha 0 is no limit to LyCORIS and ComfyUI, and a limit of 0 to A1111
    "oft bound": "+-~---",  # ComfyUI's limit is alpha, not alpha times the width
    "oft no alpha": "------",
    "oft_diag": "+-----",
    "boft": "--+---",
    "glora": "-++---",
    "ia3": "+----+",
    "full": "+++--+",
    "tlora": "------",
}


def verdicts(path: Path) -> dict[str, dict[str, str]]:
    """Program -> layer -> its state."""
    return {one.program: {name: state for name, state, _ in one.verdicts} for one in inspect(path).readings}


def written(folder: Path, state: dict[str, torch.Tensor], **metadata: str) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "a.safetensors", metadata)
    return folder / "a.safetensors"


def sign(states: dict[str, str]) -> str:
    """One sign for layers that all share a fate; ? where they do not."""
    found = set(states.values())
    return {"read": "+", "changed": "~", "lost": "-"}[found.pop()] if len(found) == 1 else "?"


def signs(path: Path) -> str:
    found = verdicts(path)
    return "".join(sign(found[program]) for program in PROGRAMS)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_every_family(tmp_path: Path, method: str, family: str) -> None:
    path = written(tmp_path, made(family, method))
    expected = METHODS[method]
    if expected[0] == "+" and method.startswith("oft") and family != "sd1":
        expected = "?" + expected[1:]  # OpenCLIP's fused attention takes no OFT in A1111
    assert inspect(path).family == family
    assert signs(path) == expected


def test_oft_in_openclips_fused_attention_is_what_a1111_loses(tmp_path: Path) -> None:
    found = verdicts(written(tmp_path, made("sdxl", "oft")))["A1111"]
    lost = {name for name, state in found.items() if state == "lost"}
    assert lost == {f"lora_te2_text_model_encoder_layers_0_self_attn_{side}_proj" for side in ("q", "k", "v", "out")}


# Network asked for -> the method of a file of it. What `check` says before a training is what these files meet.
ASKED = {
    "lora": "lora", "dylora": "lora", "loha": "loha", "lokr": "lokr", "full": "full", "ia3": "ia3", "glora": "glora",
    "diag-oft": "oft free", "boft": "boft", "tlora": "tlora",
}  # fmt: skip


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_check_says_before_a_training_who_will_not_read_its_file(algo: str) -> None:
    def said(*args: str, **values) -> set[str]:
        config = TrainConfig().with_values(
            **{"network_module": "lycoris.kohya", "network_args": (f"algo={algo}", *args), **values}
        )
        return set(unread(config, adapter_settings(config.network)))

    lost = {program for program, one in zip(PROGRAMS, METHODS[ASKED[algo]], strict=True) if one == "-"}
    assert said() == lost
    if algo == "diag-oft":
        assert said("constraint=0.01") == {p for p, one in zip(PROGRAMS, METHODS["oft"], strict=True) if one == "-"}
        assert said(network_module="networks.oft", network_args=()) == set(PROGRAMS) - {"sd-scripts"}
        sdxl = {"network_module": "networks.oft", "network_args": (), "script": "sdxl_train_network.py"}
        assert said(**sdxl) == set(PROGRAMS) - {"sd-scripts", "A1111"}
    if algo == "lora":
        assert said("use_tucker=True") == said("train_norm=True") == {"diffusers", "sd-scripts"}
        assert said("use_tucker=True", "preset=attn-mlp") == set()


NAMES = {
    # what is done to the names of which family: fate of the layers named so, and of all where the file is refused
    "te1 in sd1": ("sd1", "lora_te_", "lora_te1_", "++++--"),
    "te1 in sd2": ("sd2", "lora_te_", "lora_te1_", "-+++--"),
    "te in sdxl": ("sdxl", "lora_te1_", "lora_te_", "-+++--"),
    "no text_model": ("sd1", "text_model_", "", "---+--"),
    "a layer of no model": ("sd1", "lora_te_text_model_encoder_layers_0_mlp_fc1", "lora_te_something", "------"),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_that_only_some_programs_know(tmp_path: Path, case: str) -> None:
    family, old, new, expected = NAMES[case]
    before = made(family)
    touched = {name.partition(".")[0].replace(old, new) for name in before if old in name and "_te" in name}
    found = verdicts(written(tmp_path, {name.replace(old, new) if "_te" in name else name: tensor
                                        for name, tensor in before.items()}))  # fmt: skip
    shown = "".join(
        sign({name: state for name, state in found[program].items() if name in touched}) for program in PROGRAMS
    )
    assert shown == expected


@pytest.mark.parametrize(("family", "expected"), [("sd1", "----+-"), ("sdxl", "+---+-")])
def test_sd_scripts_own_oft(tmp_path: Path, family: str, expected: str) -> None:
    """A1111 knows its names only where they are the original ones."""
    base = ATTENTION[family].replace("lora_", "oft_")
    state = {f"{base}_attn1_to_q.oft_blocks": random(4, 80, 80), f"{base}_attn1_to_q.alpha": torch.tensor(1e-3)}
    version = {"sd1": "sd_v1", "sdxl": "sdxl_base_v1-0"}[family]
    assert signs(written(tmp_path, state, ss_base_model_version=version)) == expected


@pytest.mark.parametrize(
    ("gone", "expected"),
    [
        ("lora_down.weight", "------"),  # sd-scripts goes on without that layer, see below
        ("lora_up.weight", "------"),
    ],
)
def test_a_layer_that_lacks_a_matrix(tmp_path: Path, gone: str, expected: str) -> None:
    state = made("sd1")
    name = f"{ATTENTION['sd1']}_attn2_to_k"
    del state[f"{name}.{gone}"]
    found = verdicts(written(tmp_path, state, ss_base_model_version="sd_v1"))
    assert "".join(sign({name: found[program][name]}) for program in PROGRAMS) == expected
    others = {program: {state for layer, state in found[program].items() if layer != name} for program in PROGRAMS}
    goes_on = {"sd-scripts"} | ({"ComfyUI", "Forge"} if gone == "lora_up.weight" else set())
    assert {program for program, states in others.items() if states == {"read"}} == goes_on


def test_a_core_tensor_stops_diffusers_and_sd_scripts(tmp_path: Path) -> None:
    name = "lora_unet_down_blocks_0_resnets_0_conv1"
    state = made("sd1") | {f"{name}.lora_up.weight": random(320, 2, 1, 1), f"{name}.alpha": torch.tensor(1.0),
                           f"{name}.lora_down.weight": random(2, 320, 1, 1),
                           f"{name}.lora_mid.weight": random(2, 2, 3, 3)}  # fmt: skip
    assert signs(written(tmp_path, state)) == "+++--+"


def test_forge_loads_nothing_where_more_than_twelve_tensors_are_unknown(tmp_path: Path) -> None:
    strange = {f"lora_te_text_model_other_{n}.lora_up.weight": random(2, 2) for n in range(12)}
    state = made("sd1") | strange
    known = {name.partition(".")[0] for name in made("sd1")}
    for tensors, expected in ((state, {"read"}), (state | {"emb_params": random(2)}, {"lost"})):
        found = verdicts(written(tmp_path, tensors))["Forge"]
        assert {found[name] for name in known} == expected


def test_alphas_of_zero_and_alphas_that_only_the_metadata_tell(tmp_path: Path) -> None:
    state = made("sd1")
    zeros = {name: tensor * 0 if name.endswith("alpha") else tensor for name, tensor in state.items()}
    assert signs(written(tmp_path, zeros))[4] == "~"
    without = {name: tensor for name, tensor in state.items() if not name.endswith("alpha")}
    assert signs(written(tmp_path, without)) == "++++++"
    assert signs(written(tmp_path, without, ss_network_dim="2", ss_network_alpha="2")) == "++++++"
    assert signs(written(tmp_path, without, ss_network_dim="2", ss_network_alpha="1.0")) == "~~~~~~"


def test_attention_of_openclip_needs_all_four_in_a1111(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in made("sd2").items() if "out_proj" not in name}
    found = verdicts(written(tmp_path, state))["A1111"]
    assert {name.rpartition("_layers_0_")[2] for name, one in found.items() if one == "lost"} == {
        "self_attn_k_proj", "self_attn_q_proj", "self_attn_v_proj",
    }  # fmt: skip


def test_mixed_names_of_sdxl(tmp_path: Path) -> None:
    other = "lora_unet_down_blocks_1_attentions_1_transformer_blocks_0_attn2_to_k"
    state = made("sdxl") | {f"{other}.lora_up.weight": random(640, 2), f"{other}.lora_down.weight": random(2, 2048),
                            f"{other}.alpha": torch.tensor(1.0)}  # fmt: skip
    found = verdicts(written(tmp_path, state))
    assert {name for name, one in found["diffusers"].items() if one == "lost"} == {
        f"{ATTENTION['sdxl']}_attn2_to_k", f"{ATTENTION['sdxl']}_ff_net_2",
    }  # fmt: skip
    assert sign(found["InvokeAI"]) == "-"
    assert sign(found["A1111"]) == sign(found["ComfyUI"]) == sign(found["sd-scripts"]) == "+"


def test_names_with_dots(tmp_path: Path) -> None:
    unet = "unet.down_blocks.0.attentions.0.transformer_blocks.0"

    def pair(stem: str, out: int, inputs: int) -> dict[str, torch.Tensor]:
        return {f"{stem}.lora_A.weight": random(2, inputs), f"{stem}.lora_B.weight": random(out, 2)}

    state = pair(f"{unet}.attn2.to_k", 320, 768) | pair(f"{unet}.ff.net.2", 320, 1280)
    state |= pair("text_encoder.text_model.encoder.layers.0.mlp.fc2", 768, 3072)
    found = verdicts(written(tmp_path, state))
    read = {program: {name for name, one in states.items() if one == "read"} for program, states in found.items()}
    assert read["diffusers"] == set(found["diffusers"])
    assert len(read["ComfyUI"]) == len(read["Forge"]) == 2
    assert all("attn2" not in name for name in read["ComfyUI"])  # it knows attention only as processor.to_k
    assert not read["A1111"] | read["sd-scripts"] | read["InvokeAI"]
    adapter = {name.replace("unet.", "base_model.model.unet."): tensor for name, tensor in state.items()}
    assert signs(written(tmp_path, adapter)) == "------"


# --- diffusers itself ------------------------------------------------------------------------------


def asked_of_diffusers(pipeline, path: Path) -> dict[str, float] | None:
    """Kohya name -> the size of the update that diffusers made of it; None where it refused the file."""
    pipeline = copy.deepcopy(pipeline)  # an adapter in a text encoder cannot be taken out by every peft
    try:
        pipeline.load_lora_weights(path.parent, weight_name=path.name, local_files_only=True, adapter_name="a")
    except (ValueError, KeyError):
        return None
    return _updates(pipeline)


def _updates(pipeline) -> dict[str, float]:
    two = hasattr(pipeline, "text_encoder_2")
    prefixes = {"unet": "lora_unet", "text_encoder": "lora_te1" if two else "lora_te", "text_encoder_2": "lora_te2"}
    found = {}
    for part, prefix in prefixes.items():
        module = getattr(pipeline, part, None)
        for path, layer in module.named_modules() if module is not None else ():
            if hasattr(layer, "get_delta_weight") and "a" in layer.lora_A:
                path = path if part == "unet" else f"text_model.{path.removeprefix('text_model.')}"
                found[f"{prefix}_{path}".replace(".", "_")] = float(layer.get_delta_weight("a").norm())
    return found


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
    from transformers import CLIPTokenizer

    folder = tmp_path_factory.mktemp("models")
    one, xl = write_tiny_model(folder / "sd1"), write_tiny_sdxl(folder / "sdxl")

    def tokenizer(place: Path):
        return CLIPTokenizer.from_pretrained(place, local_files_only=True, model_max_length=77)

    return {
        "sd1": StableDiffusionPipeline.from_pretrained(
            one, local_files_only=True, safety_checker=None, tokenizer=tokenizer(one / "tokenizer")
        ),
        "sdxl": StableDiffusionXLPipeline.from_pretrained(
            xl, local_files_only=True, tokenizer=tokenizer(xl / "tokenizer"), tokenizer_2=tokenizer(xl / "tokenizer_2")
        ),
    }


def plain_sizes(state) -> dict[str, float]:
    """By the formula: the norm of up times down times alpha over rank."""
    found = {}
    for key in state:
        if key.endswith(".lora_down.weight"):
            name = key.removesuffix(".lora_down.weight")
            if f"{name}.lora_up.weight" not in state:
                continue
            down, up = state[key].flatten(1), state[f"{name}.lora_up.weight"].flatten(1)
            alpha = float(state.get(f"{name}.alpha", torch.tensor(float(len(down)))))
            found[name] = float((up @ down).norm()) * alpha / len(down)
    return found


def _mixed_alphas(state):
    """Every second layer has twice the alpha, one has none."""
    keys = sorted(name for name in state if name.endswith("alpha"))
    return {name: tensor * (2 if name in keys[::3] else 1) for name, tensor in state.items() if name != keys[1]}


def without(*parts: str):
    return lambda state: {name: tensor for name, tensor in state.items() if not any(part in name for part in parts)}


FAULTS = {
    "whole": lambda state: state,
    "no alphas": without(".alpha"),
    "alphas mixed": _mixed_alphas,
    "half a layer": without("attn2_to_k.lora_up.weight"),
    "text attention alone": without("mlp", "out_proj"),
    "no text_model": lambda state: renamed(state, "lora_te_text_model_", "lora_te_"),
    "an embedding": lambda state: state | {"bundle_emb.a.emb_params": random(2)},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize(("method", "fault"), [
    *[("lora", fault) for fault in FAULTS],
    *[(method, "whole") for method in ("dora", "dora out", "loha", "lokr", "oft free", "glora", "ia3", "full")],
])  # fmt: skip
def test_the_verdict_is_what_diffusers_does(pipelines, tmp_path: Path, family: str, method: str, fault: str) -> None:
    state = FAULTS[fault](made(family, method, shape=TINY[family]))
    path = written(tmp_path, state, format="pt")
    found = verdicts(path)["diffusers"]
    done = asked_of_diffusers(pipelines[family], path)
    if done is None:
        assert set(found.values()) == {"lost"}
        return
    sizes = plain_sizes(state)
    for name, state_of in found.items():
        place = _diffusers_name(name)
        if state_of == "lost":
            assert place not in done
        elif method.startswith("dora"):
            assert (state_of, done[place]) == ("changed", pytest.approx(sizes[name], rel=1e-5))  # as if it were plain
        else:
            assert (state_of == "read") == (done[place] == pytest.approx(sizes[name], rel=1e-5)), name


def _diffusers_name(name: str) -> str:
    name = name.replace("lora_unet_input_blocks_4_1_", "lora_unet_down_blocks_1_attentions_0_")
    return name.replace("lora_te_encoder", "lora_te_text_model_encoder")


# --- the command -----------------------------------------------------------------------------------


def run(*arguments: object):
    return CliRunner().invoke(group, ["lora", "check", *map(str, arguments)])


def test_the_exit_code_says_whether_something_would_be_lost(tmp_path: Path) -> None:
    path = written(tmp_path, made("sd1", "loha"))
    assert run(path).exit_code == 1
    shown = run(path, "--for", "ComfyUI", "--for", "A1111")
    assert shown.exit_code == 0
    assert "reads all 8 layers" in shown.output
    assert run(written(tmp_path, made("sd1"))).exit_code == 0
    (data,) = json.loads(run(path, "--json").output)
    assert [one["program"] for one in data["readers"]] == list(PROGRAMS)
    assert all(one["version"] for one in data["readers"])


def test_an_unknown_program_is_a_sentence(tmp_path: Path) -> None:
    result = run(written(tmp_path, made("sd1")), "--for", "Fooocus")
    assert "is no program of these" in str(result.exception)


def test_the_documentation_names_every_program_and_its_version() -> None:
    text = (Path(__file__).parents[2] / "docs/lora.md").read_text(encoding="utf-8")
    for reader in READERS:
        assert reader.name in text
        assert reader.version.split(",")[0] in text
    assert set(PROGRAMS) == {reader.name for reader in READERS}
    assert set(REAL) == {"sd1", "sd2", "sdxl"}
