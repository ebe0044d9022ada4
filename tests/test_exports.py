"""The front of the package: the names that `import kohyakit` offers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import kohyakit

PACKAGE = Path(kohyakit.__file__).parent


def test_all_is_what_the_front_offers():
    # In a fresh interpreter: a submodule that another test imported is an attribute of the package too.
    code = "import kohyakit; print(*(n for n in dir(kohyakit) if n != '__version__'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.split() == kohyakit.__all__
    assert kohyakit.__all__ == sorted(set(kohyakit.__all__))


@pytest.mark.parametrize("name", kohyakit.__all__)
def test_name_is_there_and_explained(name):
    if kohyakit._WHERE[name].startswith("kohyakit.train."):
        pytest.importorskip("torch")
    offered = getattr(kohyakit, name)
    assert offered.__name__ == name
    assert offered.__module__ == kohyakit._WHERE[name] or offered.__module__.startswith(kohyakit._WHERE[name] + ".")
    assert offered.__doc__, f"{name} has no docstring"
    if isinstance(offered, type) and issubclass(offered, tuple):
        return
    assert not offered.__doc__.startswith(f"{name}("), f"{name} has only the docstring that dataclass makes"


def test_no_name_equals_a_part_of_the_package():
    """`import kohyakit.audit` would silently replace a function of that name by the package."""
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert "audit" in parts
    assert not parts & set(kohyakit.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'trane_network'"):
        _ = kohyakit.trane_network


def test_the_version_is_the_one_of_pyproject():
    import tomllib

    file = PACKAGE.parent / "pyproject.toml"
    assert kohyakit.__version__ == tomllib.loads(file.read_text(encoding="utf-8"))["project"]["version"]
