"""preservation_class: the difference of the model's answers with and without the LoRA, beside the loss."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F

from kohyakit.config.sections.model import ModelConfig
from kohyakit.config.sections.noise_loss import NoiseLossConfig
from kohyakit.models import load_model
from kohyakit.networks.methods.lora import LoraNetwork, LoraSettings
from kohyakit.planning.make import check_plan
from kohyakit.runs.logs.metrics import read_scalars
from kohyakit.train.callbacks import Quiet
from kohyakit.train.start import train_network
from kohyakit.train.step.preservation import of_the_class

VALUES = {"max_train_epochs": 1, "max_train_steps": 3, "preservation_class": "place", "preservation_trigger": "town"}


@pytest.mark.parametrize(
    ("caption", "trigger", "expected"),
    [
        ("photo of ohwx dog, grass", "ohwx dog", "photo of dog, grass"), ("", "ohwx dog", "dog"),
        ("grass", "ohwx dog", "dog"), ("photo of ohwx dog", None, "dog"),
    ],
)  # fmt: skip
def test_the_class_stands_for_the_trigger(caption, trigger, expected):
    asked = NoiseLossConfig(preservation_class="dog", preservation_trigger=trigger)
    assert of_the_class(caption, asked) == expected


class Watching(Quiet):
    """Keeps what a step saw and the LoRA as it was then."""

    def __init__(self) -> None:
        self.seen_all, self.loras = [], []

    def ready(self, trained) -> None:
        self.trained = trained

    def seen(self, seen) -> None:
        self.seen_all.append(seen)
        self.loras.append({key: tensor.detach().clone() for key, tensor in self.trained.state_dict().items()})


@pytest.fixture(scope="module")
def held(config_into, tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("held")
    watching = Watching()
    config = config_into(folder, **VALUES, logging_dir=str(folder / "tb"))
    assert train_network(config, progress=False, echo=lambda text: None, callbacks=[watching]).status == "finished"
    return watching, read_scalars(folder / "tb"), load_model(tiny_model)


def test_the_loss_has_the_distance_to_the_base_models_own_answer(held):
    """Worked out once more: two models side by side, the LoRA added to the weights of one."""
    watching, frame, base = held
    logged = frame[frame.tag == "loss/preservation"].value.tolist()
    assert logged[0] == 0.0  # the LoRA begins as nothing
    assert logged[2] > 0
    seen, lora = watching.seen_all[2], watching.loras[2]
    captions = [e.caption.replace("town", "place") if "town" in e.caption else "place" for e in seen.batch.examples]
    answers = []
    for moved in (False, True):
        network = LoraNetwork.over(base, LoraSettings(dim=2, alpha=1), None)
        network.load_state_dict(lora)
        if moved:
            with torch.no_grad():
                for _, layer in network.layers():
                    layer.layer.weight += layer.weight_update()
        states = base.family.condition(base, captions, ModelConfig(), None).states
        answers.append(base.unet(seen.noisy, seen.timesteps, states).sample)
    assert float(F.mse_loss(*answers)) == pytest.approx(logged[2], rel=1e-3)
    total = frame[frame.tag == "loss/current"].value.tolist()
    assert float(seen.losses.mean()) == pytest.approx(total[2], rel=1e-6)
    assert total[2] > logged[2]


def test_check_tells_the_cost_and_a_trigger_that_stands_nowhere(make_config):
    found = {p.name: p for p in check_plan(make_config(**VALUES)).findings}
    assert found["preservation_cost"].severity == "hint"
    assert "preservation_trigger" not in found
    found = {p.name: p for p in check_plan(make_config(**{**VALUES, "preservation_trigger": "ohwx"})).findings}
    assert "stands in no caption" in found["preservation_trigger"].what
    found = {p.name: p for p in check_plan(make_config(**{**VALUES, "preservation_class": "a town"})).findings}
    assert found["preservation_class"].severity == "error"
    found = {p.name for p in check_plan(make_config(**VALUES), backend="sd-scripts").findings}
    assert "preservation_unknown" in found
    kept = [check_plan(make_config(**values, cache_latents=True)).memory for values in (VALUES, {})]
    assert kept[0].activations == 2 * kept[1].activations
