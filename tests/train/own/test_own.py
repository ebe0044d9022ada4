"""A model family and a network method of somebody's own train through the real trainer: one file and one entry each.

Both train in one process that is not the tests': their entries are made first there, as a package of somebody's own
would make them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent

FAMILY = """
from kohyakit.registry.families import MODELS, FamilyEntry, LatentSpace, Record
MODELS.add("tiny_flow", FamilyEntry(
    "tiny_flow:FAMILY", "a flow in miniature", title="Tiny Flow", trained="Tiny Flow", group="tiny_flow", flow=True,
    scripts={"lora": "tiny_flow_train_network.py"}, latent=LatentSpace(channels=3, scale=2.0),
    records=(Record("tiny_v1", "tiny-flow", 64),) * 2, networks=("networks.lora",),
))
"""
METHOD = """
from kohyakit.registry.networks import ALGORITHMS, AlgorithmEntry
ALGORITHMS.add("gain", AlgorithmEntry("gain:GainLayer", "a gain for each output", arguments=("algo", "preset"),
    shapes="gain:shapes"))
"""
TRAIN = """
import json, sys
from kohyakit.config.read import read_values
from kohyakit.errors import ConfigError
from kohyakit.planning.make import check_plan
from kohyakit.train.callbacks import Callback
from kohyakit.train.start import train_network

class Listen(Callback):
    def __init__(self):
        self.losses = []
    def step(self, report):
        self.losses.append(report.loss)

for values in json.loads(sys.argv[1]):
    config, problems = read_values(values, "test")
    plan = check_plan(config)
    listen = Listen()
    try:
        run = train_network(config, progress=False, echo=lambda text: None, callbacks=[listen])
    except ConfigError as refused:
        print(json.dumps({"status": "refused", "problems": [str(problem) for problem in refused.problems]}))
        continue
    told = plan.lora and [plan.lora.tensors, plan.lora.data_bytes, plan.lora.header_bytes]
    errors = [str(problem) for problem in plan.errors]
    print(json.dumps({"status": run.status, "losses": listen.losses, "told": told, "problems": errors}))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model: Path) -> tuple[tuple[dict, Path], ...]:
    """What a training tells and its file: of the family, of the method, and of the family where it is to draw."""
    home = tmp_path_factory.mktemp("own")
    shared = {
        "train_data_dir": str(grey_pictures(home)), "output_name": "own", "resolution": "64,64",
        "caption_extension": ".txt", "enable_bucket": False, "train_batch_size": 2, "max_train_steps": 3, "seed": 7,
        "learning_rate": 0.05, "optimizer_type": "AdamW", "save_precision": "float", "max_data_loader_n_workers": 0,
        "network_dim": 2, "network_train_unet_only": True,
    }  # fmt: skip
    asked = (
        {"output_dir": str(home / "family"), "pretrained_model_name_or_path": str(tiny_flow(home)),
         "script": "tiny_flow_train_network.py", "network_module": "networks.lora", "min_timestep": 500,
         "max_timestep": 500},
        {"output_dir": str(home / "method"), "pretrained_model_name_or_path": str(tiny_model),
         "network_module": "lycoris.kohya", "network_args": ["algo=gain", "preset=attn-mlp"]},
    )  # fmt: skip
    asked += (asked[0] | {"output_dir": str(home / "drawn"), "sample_prompts": "grey", "sample_at_first": True},)
    path = os.pathsep.join([str(HERE), *filter(None, (os.environ.get("PYTHONPATH"),))])
    done = subprocess.run(
        [sys.executable, "-c", FAMILY + METHOD + TRAIN, json.dumps([shared | values for values in asked])],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, cwd=HERE.parents[2], check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"status"')]
    return tuple((one, Path(values["output_dir"], "own.safetensors")) for one, values in zip(told, asked, strict=True))


def grey_pictures(home: Path) -> Path:
    """Two pictures of one grey: 200 of 255 is 0.5686 in [-1, 1]."""
    folder = home / "img/1_grey"
    folder.mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (64, 64), (200, 200, 200)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text("grey", encoding="utf-8")
    return folder.parent


def tiny_flow(home: Path) -> Path:
    letters = torch.randn(128, 8, generator=torch.Generator().manual_seed(1))
    model = home / "tiny.safetensors"
    save_file({"channels.weight": torch.eye(3), "caption.weight": torch.zeros(3, 8), "letters": letters}, model)
    return model


def test_a_family_of_ones_own_trains(trained: tuple[tuple[dict, Path], ...]) -> None:
    """Latents are c = 2 × 0.5686 throughout. At s = 0.5 the model answers (c + n) / 2 where n - c is to be found, so
    the loss is the mean of (1.5 c - 0.5 n)², which is 2.25 c² + 0.25 = 3.16, but for the noise drawn."""
    told, file = trained[0]
    c = 2 * (200 / 127.5 - 1)
    assert told["losses"][0] == pytest.approx(2.25 * c**2 + 0.25, rel=0.1)
    assert (told["status"], len(told["losses"])) == ("finished", 3)
    assert told["losses"][-1] < told["losses"][0]  # what is wrong is the brightness, which one weight mends
    with safe_open(file, "pt") as weights:
        assert {key.split(".")[0] for key in weights.keys()} == {"lora_unet_channels", "lora_unet_caption"}  # noqa: SIM118
        assert weights.get_tensor("lora_unet_channels.lora_up.weight").abs().max() > 0
        metadata = weights.metadata()
    assert (metadata["ss_base_model_version"], metadata["modelspec.architecture"]) == ("tiny_v1", "tiny-flow/lora")


def test_a_method_of_ones_own_trains_and_its_size_is_told(trained: tuple[tuple[dict, Path], ...]) -> None:
    told, file = trained[1]
    assert (told["status"], told["problems"], len(told["losses"])) == ("finished", [], 3)
    with safe_open(file, "pt") as weights:
        held = {key: weights.get_tensor(key) for key in weights.keys()}  # noqa: SIM118
    assert {key.split(".")[1] for key in held} == {"gain"}
    assert all(tensor.abs().max() > 0 for tensor in held.values())
    header = int.from_bytes(file.read_bytes()[:8], "little")
    tensors, data, _ = told["told"]
    assert (len(held), file.stat().st_size - 8 - header) == (tensors, data)


def test_a_family_that_cannot_draw_is_told_before_anything_is_written(trained: tuple[tuple[dict, Path], ...]) -> None:
    told, file = trained[2]
    assert told["status"] == "refused"
    (problem,) = told["problems"]
    assert problem == (
        "model family tiny_flow: it has no condition_sample and no sampler; write them as kohyakit/models/sdxl.py "
        "does, or take sample_prompts out"
    )
    assert not file.parent.exists()
