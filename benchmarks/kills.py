"""Kill a training at random points and look at what it left behind.

    python benchmarks/kills.py                       50 times each: SIGKILL, SIGTERM, SIGHUP
    python benchmarks/kills.py --times 3 --seed 7    quicker, at other points

A tiny model trains eight steps with saves and states on the way; the process is killed at a moment drawn from the whole
of its life. Afterwards every LoRA is read and its hash compared, every state looked through, every record parsed, and
preset and photos compared with what they were. Then the training goes on from the state that the next start names,
and its result must equal, bit for bit, that of a training nobody killed. Children are forked, so that 150 kills do
not import torch 150 times; it needs a system with fork and no GPU in use.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from kohyakit.config.read import read_values
from kohyakit.config.train import TrainConfig
from kohyakit.demo.pictures import draw
from kohyakit.demo.tiny_model import write_tiny_model
from kohyakit.formats.weights import safetensors_header, state_folder
from kohyakit.planning.make import check_plan
from kohyakit.runs.registry import list_runs

SIGNALS = ("SIGKILL", "SIGTERM", "SIGHUP")


def project(folder: Path) -> dict[str, object]:
    images = folder / "img" / "2_town"
    images.mkdir(parents=True)
    for i, size in enumerate([(96, 64), (64, 64), (130, 65), (64, 64), (64, 96), (80, 80), (64, 64)]):
        draw("town", size, i).save(images / f"{i}.png")
        (images / f"{i}.txt").write_text(f"town, picture {i}, sky", encoding="utf-8")
    return {
        "pretrained_model_name_or_path": str(write_tiny_model(folder / "model", layers=1)),
        "train_data_dir": str(folder / "img"),
        "output_name": "town", "caption_extension": ".txt", "resolution": "128,128", "enable_bucket": True,
        "bucket_no_upscale": True, "min_bucket_reso": 64, "max_bucket_reso": 256, "train_batch_size": 2,
        "max_train_epochs": 1, "seed": 7, "network_module": "networks.lora", "network_dim": 2, "network_alpha": 1,
        "learning_rate": 1e-2, "optimizer_type": "AdamW", "max_data_loader_n_workers": 0, "save_every_n_steps": 2,
        "save_state": True, "save_last_n_steps": 4, "shuffle_caption": True,
        "lr_scheduler": "cosine", "network_dropout": 0.1,
    }  # fmt: skip


def config_of(values: dict[str, object], out: Path, **more: object) -> TrainConfig:
    config, problems = read_values({**values, "output_dir": str(out), **more}, "kills")
    assert not [problem for problem in problems if problem.severity == "error"], problems
    return config


def forked(config: TrainConfig) -> int:
    """A training in a child of its own, as the command line runs it."""
    child = os.fork()
    if child:
        return child
    from kohyakit.train.start import train_network

    code = 1
    try:
        code = 130 if train_network(config, progress=False, echo=lambda text: None).status == "interrupted" else 0
    except KeyboardInterrupt:
        code = 130
    finally:
        os._exit(code)


def damage(out: Path) -> list[str]:
    """Everything in the folder that is not whole."""
    found = []
    for file in out.rglob("*.safetensors"):
        try:
            header = safetensors_header.read(file)
            digest = hashlib.sha256(file.read_bytes()[header.data_start :])
        except Exception as error:
            found.append(f"{file.name}: {error}")
            continue
        if header.metadata.get("sshs_model_hash") != digest.hexdigest():
            found.append(f"{file.name}: its hash is another")
    for file in out.rglob("*.json"):
        try:
            json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            found.append(f"{file.name}: {error}")
    for folder in out.glob("*-state"):
        try:
            state_folder.look(folder)
        except Exception as error:
            found.append(f"{folder.name}: {error}")
    return found


def tensors(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()[safetensors_header.read(file).data_start :]).hexdigest()


def tree(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def ended(out: Path) -> str:
    """How the record says it ended, or that there was none yet."""
    runs = list_runs(out)
    return runs[-1].status if runs else "before its run was made"


def goes_on(values: dict[str, object], out: Path, whole: str) -> str:
    """Start again with the line that the next start prints. Returns what came of it."""
    hints = [p for p in check_plan(config_of(values, out)).findings if p.name == "unfinished_run"]
    if not hints:
        return "nothing to go on from"
    if "resume=" not in hints[0].cure:
        return "no state yet"
    state = hints[0].cure.rpartition("resume=")[2].strip('"')
    os.waitpid(forked(config_of(values, out, resume=state)), 0)
    return "equal, bit for bit" if tensors(out / "town.safetensors") == whole else "OTHER WEIGHTS"


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill trainings at random points.")
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    import torch

    import kohyakit.train.trainer  # noqa: F401  (children inherit what is imported)

    torch.set_num_threads(1)
    chance, report, broken = random.Random(given.seed), {}, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values = project(folder)
        before, out = tree(folder), folder / "whole"
        os.waitpid(forked(config_of(values, out)), 0)  # the first one warms up
        shutil.rmtree(out)
        began = time.perf_counter()
        os.waitpid(forked(config_of(values, out)), 0)
        life, whole = time.perf_counter() - began, tensors(out / "town.safetensors")
        shutil.rmtree(out)
        for signal_name in SIGNALS:
            ends, after, left = Counter(), Counter(), Counter()
            turn = 0
            while turn < given.times:
                child = forked(config_of(values, out))
                time.sleep(chance.uniform(0, life))
                if os.waitpid(child, os.WNOHANG)[0]:  # it was quicker than the one that was measured: no kill
                    life *= 0.9
                    shutil.rmtree(out, ignore_errors=True)
                    continue
                turn += 1
                os.kill(child, signal.Signals[signal_name])
                os.waitpid(child, 0)
                faults = damage(out)
                broken += len(faults)
                for fault in faults:
                    print(f"{signal_name}: {fault}", file=sys.stderr)
                ends[ended(out)] += 1
                left.update(p.suffix for p in out.rglob("*") if p.suffix in (".part", ".old", ".tmp", ".lock"))
                if signal_name == "SIGKILL" or turn % 5 == 0:
                    after[goes_on(values, out, whole)] += 1
                shutil.rmtree(out, ignore_errors=True)
            report[signal_name] = {"ended": dict(ends), "went on": dict(after), "left over": dict(left)}
        changed = sum(tree(folder).get(file) != digest for file, digest in before.items())
    report |= {"damaged files": broken, "photos, captions or model changed": changed, "life": round(life, 2)}
    if given.json:
        print(json.dumps(report))
    else:
        for title, value in report.items():
            print(f"{title:<36} {value}")
    wrong = sum(one["went on"].get("OTHER WEIGHTS", 0) for one in report.values() if isinstance(one, dict))
    return 1 if broken or changed or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
