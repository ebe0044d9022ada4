"""The bar that a training shows."""

from __future__ import annotations

import io
import sys

import pytest

pytest.importorskip("tqdm")
torch = pytest.importorskip("torch")

from kohyakit.train.callbacks import Progress, Seen, StepReport


def test_time_left_knows_nothing_of_samples_drawn_before_the_first_step(monkeypatch):
    """An hour of drawing, then steps of 2 s: 9 are left after the first."""
    now, shown = [1000.0], io.StringIO()
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", shown)
    bar = Progress(10, 0, show=True)
    now[0] += 3600
    bar.seen(Seen(1, 0, None, *[torch.zeros(1)] * 5))
    now[0] += 2
    bar.step(StepReport(1, 1, 0, True, 0.1, 0.1, {"unet": 1e-4}, {}, {}))
    assert "1/10 00:02<00:18" in shown.getvalue()
