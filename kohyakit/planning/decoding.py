"""The slow half of checking images: does every pixel decode? One verdict, shared with audit and the trainer."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from kohyakit.dataset.decode import verdict
from kohyakit.dataset.images import shown
from kohyakit.dataset.layout import Scan
from kohyakit.errors import Problem


def decoded(scan: Scan) -> Scan:
    """The scan with a problem for every image whose pixels do not decode; images found broken before are skipped."""
    known = {problem.where for problem in scan.problems}
    paths = [record.path for record in scan.records() if shown(record.path) not in known]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        verdicts = pool.map(verdict, paths)
        found = [
            Problem(
                shown(path),
                judged.detail.rstrip("."),
                "" if judged.ok else "replace it, or leave it out with --skip-bad-images",
                f"image_{judged.issue or 'damaged'}",
                judged.severity,
            )
            for path, judged in zip(paths, verdicts, strict=True)
            if judged.severity
        ]
    return replace(scan, problems=(*scan.problems, *found))
