"""What an audit found, as pandas frames that a stranger can use at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from kohyakit.audit.check import Check
from kohyakit.audit.report import caption_statistics as caption_facts
from kohyakit.audit.resolution import bucket_table, what_if
from kohyakit.audit.settings import AuditSettings, at_resolution
from kohyakit.errors import rank_of

if TYPE_CHECKING:
    import pandas as pd

    from kohyakit.audit.look.survey import Survey


@dataclass(frozen=True)
class Frames:
    """images: one row an image. issues: one row a finding (path, issue, severity, detail, action, group), the worst
    first. summary: one row an issue name (issue, title, its worst severity, count of all). captions: one row a caption.
    subsets: one row a subset. root: the folder that was audited.
    """

    root: Path
    settings: AuditSettings
    images: pd.DataFrame
    issues: pd.DataFrame
    summary: pd.DataFrame
    captions: pd.DataFrame
    subsets: pd.DataFrame

    @classmethod
    def of(cls, survey: Survey, issues: pd.DataFrame, checks: Mapping[str, Check]) -> Self:
        titles = {name: title for check in checks.values() for name, title in check.issues.items()}
        return cls(
            survey.tree.root,
            survey.settings,
            survey.images,
            issues,
            _summary(issues, titles),
            survey.captions,
            _subset_table(survey),
        )

    @property
    def ok(self) -> bool:
        """Whether nothing would break or silently spoil a training: no errors, no warnings."""
        return not self.issues["severity"].isin(("error", "warning")).any()

    def count(self, severity: str) -> int:
        return int((self.issues["severity"] == severity).sum())

    @cached_property
    def counts(self) -> pd.DataFrame:
        """One row an issue name and severity: issue, title, severity, count; they add up to the findings."""
        import pandas as pd

        titles = dict(zip(self.summary["issue"], self.summary["title"], strict=True))
        found = self.issues.groupby(["severity", "issue"], sort=False).size()
        rows = [(name, titles[name], severity, int(count)) for (severity, name), count in found.items()]
        rows.sort(key=lambda row: (rank_of(row[2]), -row[3], row[0]))
        return pd.DataFrame(rows, columns=["issue", "title", "severity", "count"])

    @cached_property
    def buckets(self) -> pd.DataFrame:
        """One row a bucket: bucket, width, height, images, samples, mean_scale, mean_cropped."""
        return bucket_table(self.images)

    def what_if(self, *resolutions: int | tuple[int, int]) -> pd.DataFrame:
        """How the same images would fall at other resolutions; without any, those that were asked for."""
        sizes = [(r, r) if isinstance(r, int) else r for r in resolutions] or list(self.settings.what_if)
        if not resolutions and self.settings.buckets.resolution not in sizes:
            sizes.insert(0, self.settings.buckets.resolution)
        settings = [at_resolution(self.settings.buckets, size) for size in sizes]
        return what_if(self.images, settings, self.settings.batch_size)

    def tags(self, *, separator: str = ",", by_subset: bool = False) -> pd.DataFrame:
        """Tags with counts; see caption_statistics.tag_table."""
        return caption_facts.tag_table(self.captions, separator=separator, by_subset=by_subset)

    def co_occurrence(self, *, top: int = 30, separator: str = ",") -> pd.DataFrame:
        """Which tags stand together; see caption_statistics.co_occurrence."""
        return caption_facts.co_occurrence(self.captions, top=top, separator=separator)

    def caption_lengths(self) -> pd.DataFrame:
        """Tokens, tags and characters per subset; see caption_statistics.length_table."""
        return caption_facts.length_table(self.captions)

    def groups(self) -> dict[str, list[str]]:
        """Duplicates by group name: the paths of each, the one to keep first."""
        rows = self.issues[self.issues["group"] != ""]
        found: dict[str, list[str]] = {}
        for group, path, severity in zip(rows["group"], rows["path"], rows["severity"], strict=True):
            members = found.setdefault(group, [])
            if path not in members:
                members.insert(0, path) if severity == "hint" else members.append(path)
        return found

    def at(self, resolution: int | tuple[int, int]) -> Self:
        """The same report with pictures placed for another resolution; issues stay as they were judged."""
        from kohyakit.audit.resolution import placements

        size = (resolution, resolution) if isinstance(resolution, int) else resolution
        settings = replace(self.settings, buckets=at_resolution(self.settings.buckets, size))
        sizes = self.images[["trained_width", "trained_height"]].set_axis(["width", "height"], axis=1)
        sizes = sizes.where(self.images["verdict_severity"] != "error")
        placed = placements(sizes, settings.buckets)
        return replace(self, settings=settings, images=self.images.assign(**placed))


def _summary(issues: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    import pandas as pd

    rows = [
        (name, titles.get(name, name.replace("_", " ")), min(group["severity"], key=rank_of), len(group))
        for name, group in issues.groupby("issue", sort=False)
    ]
    rows.sort(key=lambda row: (rank_of(row[2]), -row[3], row[0]))
    return pd.DataFrame(rows, columns=["issue", "title", "severity", "count"])


def _subset_table(survey: Survey) -> pd.DataFrame:
    """subset, repeats, is_reg, class_tokens, images, samples (an epoch), captions, and issues are counted elsewhere."""
    import os

    import pandas as pd

    counts = survey.images.groupby("subset").agg(images=("path", "size"), captions=("caption", "count"))
    rows = []
    for folder in survey.subset_folders():
        name = folder.relative.replace(os.sep, "/") or "."
        images, captions = counts.loc[name] if name in counts.index else (0, 0)
        rows.append(
            (
                name,
                folder.repeats,
                folder.is_reg,
                folder.class_tokens,
                int(images),
                int(images) * folder.repeats,
                int(captions),
            )
        )
    names = ["subset", "repeats", "is_reg", "class_tokens", "images", "samples", "captions"]
    return pd.DataFrame(rows, columns=names)
