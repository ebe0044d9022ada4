"""The slow half of checking images: does every pixel decode? One verdict, shared with audit and the trainer."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from kohyakit.dataset import faults
from kohyakit.dataset.decode import verdict
from kohyakit.dataset.images import shown
from kohyakit.dataset.layout import Scan
from kohyakit.errors import Problem


def decoded(scan: Scan, tick: Callable[[], None] = lambda: None) -> Scan:
    """The scan with a problem for every image or mask whose pixels do not decode; those found broken are skipped.

    tick: called after each image, for a progress bar.
    """
    known = {problem.where for problem in scan.problems}
    paths = [record.path for record in scan.records() if shown(record.path) not in known]
    masked = [record for record in scan.records() if record.mask and shown(record.path) not in known]
    found: list[Problem] = []
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for path, judged in zip(paths, pool.map(verdict, paths), strict=True):
            tick()
            if judged.severity:
                what, name = judged.detail.rstrip("."), judged.issue or "damaged"
                found.append(faults.before_training(faults.of_image(shown(path), name, what, judged.severity)))
        for record, judged in zip(masked, pool.map(verdict, [r.mask.path for r in masked if r.mask]), strict=True):
            if judged.severity == "error" and record.mask:
                what = f"its mask {shown(record.mask.path)} {judged.detail.rstrip('.')}"
                found.append(Problem(shown(record.path), what, "make it anew", "bad_mask"))
    return replace(scan, problems=(*scan.problems, *found))
