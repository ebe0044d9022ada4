"""AuditReport: the frames of an audit, and how they become text, pages and files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kohyakit.audit.report.frames import Frames


@dataclass(frozen=True)
class AuditReport(Frames):
    """See Frames for what is in it."""

    def to_dict(self) -> dict[str, Any]:
        """One object of plain values: images, issues, summary (what `--json` prints)."""
        from kohyakit.audit.report.render import as_plain

        return as_plain(self)

    def to_html(self, path: Path | str) -> Path:
        """Write the self-contained report with thumbnails and charts."""
        from kohyakit.audit.report.html import write_html

        return write_html(self, Path(path))

    def to_csv(self, path: Path | str) -> tuple[Path, ...]:
        """Write the images to `path` and the issues beside it (`NAME.issues.csv`)."""
        from kohyakit.audit.report.render import write_tables

        return write_tables(self, Path(path), "csv")

    def to_parquet(self, path: Path | str) -> tuple[Path, ...]:
        """Write the images to `path` and the issues beside it (`NAME.issues.parquet`)."""
        from kohyakit.audit.report.render import write_tables

        return write_tables(self, Path(path), "parquet")

    def __str__(self) -> str:
        from kohyakit.audit.report.table import as_text

        return as_text(self)
