"""Short trainings, one a method of a network, and the losses that the method's own code has on the same weights.

The code is that of LyCORIS 3.4 (`lycoris.kohya`) and of sd-scripts 0.10 (`networks.…`), beside this same training: it
was given the first weights, the latents, the noise and the timesteps, and took its steps with torch's AdamW. LyCORIS
3.4 does not find its own iA3 by name, so the layer was named to it; its `full` fails in the first step, so that one is
of 3.2. T-LoRA is of 4.1, which was told before each step which ranks count at its timestep.
"""

from __future__ import annotations

from pathlib import Path

from kohyakit.config.read import read_values
from kohyakit.config.train import TrainConfig
from kohyakit.demo.pictures import draw
from kohyakit.train.callbacks import Callback
from kohyakit.train.start import train_network

LYCORIS = "lycoris.kohya"
_ON_INPUTS = """unet_target_module = []
unet_target_name = [".*to_k", ".*net.2"]
text_encoder_target_module = []
text_encoder_target_name = [".*k_proj", ".*fc2"]
[name_algo_map.".*net.2"]
train_on_input = true
[name_algo_map.".*fc2"]
train_on_input = true
"""

# name: (network_module, network_args, the loss of each step)
CASES = {
    "lora": (
        LYCORIS, ("algo=lora", "conv_dim=2", "conv_alpha=1"), (1.0142007, 1.0187476, 1.1117562),
    ),
    "lora tucker": (
        LYCORIS, ("algo=lora", "use_tucker=True", "use_scalar=True"), (1.0142007, 1.0179491, 1.1110132),
    ),
    "lora rs norm": (
        LYCORIS, ("algo=lora", "rs_lora=True", "train_norm=True"), (1.0142007, 1.0200231, 1.1132468),
    ),
    "dora": (LYCORIS, ("algo=lora", "dora_wd=True"), (1.0142006, 1.0193753, 1.1119661)),
    "dora on inputs": (
        LYCORIS, ("algo=loha", "dora_wd=True", "wd_on_output=False"), (1.0142004, 1.0202854, 1.1126356),
    ),
    "loha tucker": (LYCORIS, ("algo=loha", "use_tucker=True"), (1.0664310, 1.0727227, 1.0882984)),
    "lokr factor": (
        LYCORIS, ("algo=lokr", "factor=3", "decompose_both=True", "use_scalar=True"),
        (1.0142007, 1.0178537, 1.1108688),
    ),
    "lokr full": (LYCORIS, ("algo=lokr", "full_matrix=True"), (1.0142007, 1.0186695, 1.1150323)),
    "lokr tucker": (LYCORIS, ("algo=lokr", "factor=2", "use_tucker=True"), (1.0142007, 1.0152074, 1.1058884)),
    "full": (LYCORIS, ("algo=full",), (1.0142007, 1.0183002, 1.1790373)),
    "ia3": (LYCORIS, ("algo=ia3", "preset={folder}/inputs.toml"), (1.0142007, 1.0179797, 1.1110035)),
    "dylora": (LYCORIS, ("algo=dylora", "block_size=2"), (1.0142007, 1.0190852, 1.1114922)),
    "glora": (LYCORIS, ("algo=glora",), (1.0142007, 1.0186237, 1.1169790)),
    "diag-oft": (
        LYCORIS, ("algo=diag-oft", "constraint=1e-4", "rescaled=True"), (1.0142007, 1.0186977, 1.1117383),
    ),
    "boft": (LYCORIS, ("algo=boft", "constraint=1e-4", "rescaled=True"), (1.0142007, 1.0194165, 1.1122496)),
    "tlora": (LYCORIS, ("algo=tlora", "preset=attn-mlp", "alpha_rank_scale=0.7"), (1.0142007, 1.0206332, 1.1127717)),
    "sd-scripts lora_fa": ("networks.lora_fa", ("conv_dim=2",), (1.0142007, 1.0196371, 1.1119447)),
    "sd-scripts dylora": ("networks.dylora", ("unit=2",), (1.0142007, 1.0184975, 1.1113348)),
    "sd-scripts oft": ("networks.oft", ("enable_all_linear=True",), (1.0142007, 1.0206312, 1.1184828)),
    "sd-scripts loha": ("networks.loha", ("conv_dim=2", "use_tucker=True"), (0.8617876, 1.0197380, 1.0172120)),
    "sd-scripts lokr": ("networks.lokr", ("conv_dim=2", "factor=3"), (1.0566018, 1.1127923, 1.1678855)),
}  # fmt: skip
FOR_SDXL = ("sd-scripts loha", "sd-scripts lokr")
WITH_MISTAKES = ("loha tucker", "sd-scripts loha")  # crossed gradients, repeated in sd-scripts' order only


def photos_into(folder: Path) -> Path:
    for number in range(3):
        path = folder / "1_town" / f"town{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw("town", (64, 64), number).save(path)
        path.with_suffix(".txt").write_text(f"town, picture {number}, sky", encoding="utf-8")
    (folder / "inputs.toml").write_text(_ON_INPUTS, encoding="utf-8")
    return folder


def trained(case: str, model: Path, photos: Path, folder: Path, *callbacks: Callback, **values: object) -> TrainConfig:
    """Three steps, and the config that they were taken with."""
    module, args, _ = CASES[case]
    config, problems = read_values(
        {
            "pretrained_model_name_or_path": str(model), "train_data_dir": str(photos), "output_dir": str(folder),
            "caption_extension": ".txt", "resolution": "64,64", "max_train_steps": 3, "cache_latents": True, "seed": 7,
            "network_dim": 4, "network_alpha": 1e-2 if module == "networks.oft" else 2, "learning_rate": 1e-3,
            "optimizer_type": "AdamW", "max_data_loader_n_workers": 0,
            "rng_order": "sd-scripts" if case in WITH_MISTAKES else "kohyakit",
            "script": "sdxl_train_network.py" if case in FOR_SDXL else "train_network.py", "network_module": module,
            "network_args": [text.format(folder=photos) for text in args], **values,
        },
        "test",
    )  # fmt: skip
    assert not [problem for problem in problems if problem.severity == "error"], problems
    train_network(config, progress=False, echo=lambda text: None, callbacks=callbacks)
    return config
