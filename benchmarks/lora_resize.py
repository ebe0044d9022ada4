"""Resizing a LoRA by QR of its factors against the singular value decomposition of the full matrix, in one run.

    python benchmarks/lora_resize.py              SDXL's U-Net, 722 layers, rank 64 -> 16
    python benchmarks/lora_resize.py --full 6     so many layers by the full matrix too, spread over the sizes

The full way is what sd-scripts' resize_lora.py does, in its cheaper form (full_matrices=False).
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from kohyakit.lora.resize import Shrink, resize
from kohyakit.planning.size.architecture import standard
from kohyakit.planning.size.lora import lora_layers, lora_shapes


def write(path: Path, rank: int) -> dict[str, tuple[int, int]]:
    """A LoRA of the true shape with random numbers; the layers' sizes."""
    torch.manual_seed(1)
    state, sizes = {}, {}
    for name, layer in lora_layers(standard("sdxl"), text_encoder=False):
        for key, shape in lora_shapes(name, layer, rank).items():
            state[key] = torch.randn(shape, dtype=torch.float16) if shape else torch.tensor(float(rank))
        sizes[name] = (layer.outputs, layer.inputs)
    save_file(state, path)
    return sizes


def peak_of(work: object) -> float:
    """MiB of resident memory above the start, looked at every few milliseconds while `work` runs."""
    page, over = 4096, threading.Event()
    statm = Path("/proc/self/statm")
    if not statm.exists():
        work()
        return float("nan")
    start = most = int(statm.read_text().split()[1])

    def watch() -> None:
        nonlocal most
        while not over.wait(0.005):
            most = max(most, int(statm.read_text().split()[1]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    over.set()
    watcher.join()
    return (most - start) * page / 2**20


def by_full_matrix(out: int, inputs: int, rank: int) -> float:
    up, down = torch.randn(out, rank), torch.randn(rank, inputs)
    began = time.perf_counter()
    torch.linalg.svd(up @ down, full_matrices=False)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", type=int, default=4, help="layers that are decomposed by the full matrix too")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "64.safetensors"
        sizes = write(path, 64)
        megabytes = path.stat().st_size / 2**20
        began, used = time.perf_counter(), time.process_time()
        peak = peak_of(lambda: resize(path, Path(folder) / "16.safetensors", Shrink(16)))
        seconds, used = time.perf_counter() - began, time.process_time() - used
    print(f"{len(sizes)} layers, rank 64 -> 16, {megabytes:.0f} MiB: {seconds:.1f} s, {used:.1f} s of processor time")
    print(f"peak memory above the start: {peak:.0f} MiB, {peak / megabytes:.1f} times the file")
    kinds = sorted(set(sizes.values()), key=lambda one: one[0] * one[1])
    chosen = kinds[:: max(1, len(kinds) // asked.full)][: asked.full] if asked.full else []
    counts = {kind: sum(1 for size in sizes.values() if size == kind) for kind in chosen}
    mine = seconds / len(sizes)
    for kind in chosen:
        full = by_full_matrix(*kind, 64)
        print(f"{kind[0]:5} x {kind[1]:5} ({counts[kind]:3} such): {full:6.2f} s by the full matrix, "
              f"{full / mine:5.0f} times the mean layer here")  # fmt: skip


if __name__ == "__main__":
    main()
