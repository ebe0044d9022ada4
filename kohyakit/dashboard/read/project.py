"""The folder the dashboard was opened on, and the one rule about paths: nothing outside it is read or served."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kohyakit.errors import KohyakitError, Problem

PROJECT_VARIABLE = "KOHYAKIT_PROJECT"


class Outside(KohyakitError):
    """A path that leads out of the project, through `..`, a link, a drive letter or plainly."""


@dataclass(frozen=True)
class Project:
    """A project folder. `root` is absolute, links resolved."""

    root: Path

    @classmethod
    def open(cls, folder: Path | str) -> Project:
        """Raises KohyakitError when the folder is not there."""
        path = Path(folder).expanduser()
        if not path.is_dir():
            raise KohyakitError(
                Problem(str(folder), "is not a folder", "name the project's folder, or run kohyakit init")
            )
        return cls(path.resolve())

    @classmethod
    def current(cls) -> Project:
        """The project of this server: what `kohyakit dashboard` was given, else the working folder."""
        return cls.open(os.environ.get(PROJECT_VARIABLE) or Path.cwd())

    def enter(self) -> Project:
        """Make it the working folder, as it is of every training started here: so a relative path in a preset means
        the same when it is checked, saved and trained.
        """
        if Path.cwd() != self.root:
            os.chdir(self.root)
            os.environ[PROJECT_VARIABLE] = str(self.root)  # a relative one would now name another folder
        return self

    @property
    def label(self) -> str:
        return self.root.name or str(self.root)

    def inside(self, path: Path | str) -> Path:
        """The real path of something in the project; relative names count from its root.

        Links and `..` are followed first, so what is tested is what would be opened. Raises Outside.
        """
        try:
            real = (self.root / path).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise Outside(Problem(repr(str(path)), "is no usable path")) from error
        if not real.is_relative_to(self.root):
            raise Outside(
                Problem(
                    str(path),
                    "lies outside the project",
                    f"open the dashboard on a folder that holds it ({self.root} does not)",
                )
            )
        return real

    def holds(self, path: Path | str) -> bool:
        try:
            self.inside(path)
        except Outside:
            return False
        return True

    def name(self, path: Path | str) -> str:
        """The path as the project's own: relative, with forward slashes. Raises Outside."""
        return self.inside(path).relative_to(self.root).as_posix()
