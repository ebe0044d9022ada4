"""Packages that a training passes over: missing while others are imported, there again afterwards."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest

from kohyakit.train.ahead import as_if_missing


def test_a_package_is_missing_meanwhile_and_there_again_afterwards(monkeypatch):
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with as_if_missing(["wave"]):
        assert importlib.util.find_spec("wave") is None  # how diffusers and transformers ask
        with pytest.raises(ImportError):
            import wave
    import wave

    assert wave.open


def test_what_is_imported_already_stays():
    with as_if_missing(["json", "no_such_package"]):
        assert sys.modules["json"] is json
    assert "no_such_package" not in sys.modules


def test_an_error_leaves_nothing_hidden(monkeypatch):
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with pytest.raises(ZeroDivisionError), as_if_missing(["wave"]):
        1 / 0  # noqa: B018
    assert importlib.util.find_spec("wave")
