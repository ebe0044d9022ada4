"""What differs between runs: settings side by side, data sets, and both in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kohyakit.config.train import SPECS
from kohyakit.dataset.fingerprint import Difference, difference, in_words
from kohyakit.runs.comparison.meaning import in_force, is_open, is_place, same_place
from kohyakit.runs.run import Record, Run

# Where things are written and what they are called; no picture comes out differently for these.
BOOKKEEPING = frozenset(
    {
        "output_dir",
        "output_name",
        "logging_dir",
        "log_with",
        "log_trackio",
        "log_prefix",
        "log_tracker_name",
        "log_tracker_config",
        "log_config",
        "wandb_run_name",
        "output_config",
        "console_log_level",
        "console_log_file",
        "console_log_simple",
        "training_comment",
        "metadata_title",
        "metadata_author",
        "metadata_description",
        "metadata_license",
        "metadata_tags",
        "metadata_usage_hint",
        "metadata_thumbnail",
        "metadata_merged_from",
        "metadata_trigger_phrase",
        "metadata_preprocessor",
        "metadata_is_negative_embedding",
        "config_file",
        "resume",
    }
)
NOT_RECORDED = object()


@dataclass(frozen=True, slots=True)
class Row:
    """One setting in several runs. values: one a run, NOT_RECORDED where a run kept no record of it.

    bookkeeping: the setting only says where things go or what they are called.
    """

    name: str
    section: str
    values: tuple[Any, ...]
    bookkeeping: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(show(value) for value in self.values)


def settings_in_force(run: Run) -> dict[str, Any]:
    """Every setting of a run, defaults filled in; of an imported run only what its files tell."""
    if not run.settings or run.record.imported.get("partial"):
        return run.settings
    return {**{name: spec.default for name, spec in SPECS().items()}, **run.settings}


def not_default(run: Run) -> dict[str, Any]:
    """A run's settings that are not the default."""
    settings = settings_in_force(run)
    return {
        name: settings[name]
        for name in _names([settings])
        if name not in SPECS() or in_force(name, settings) != in_force(name, {**settings, name: SPECS()[name].default})
    }


def settings_table(runs: Sequence[Run], *, only_differences: bool = True) -> tuple[Row, ...]:
    """One row a setting, in the order of declaration, defaults filled in; only rows whose values differ."""
    recorded = [settings_in_force(run) for run in runs]
    rows = []
    for name in _names(recorded):
        values = tuple(settings.get(name, NOT_RECORDED) for settings in recorded)
        if only_differences and _same(name, recorded, [run.record.cwd for run in runs]):
            continue
        section = SPECS()[name].section if name in SPECS() else "extras"
        rows.append(Row(name, section, values, name in BOOKKEEPING))
    return tuple(rows)


def _same(name: str, settings: Sequence[Mapping[str, Any]], bases: Sequence[str]) -> bool:
    """Whether a setting means the same in all runs that recorded it; a path, whether it is the same place."""
    if all(is_open(name, one) for one in settings if name in one):
        return True
    known = [(in_force(name, one), base) for one, base in zip(settings, bases, strict=True) if name in one]
    first, start = known[0]
    if is_place(name):
        return all(same_place(first, value, (start, base)) for value, base in known)
    return all(value == first for value, _ in known)


def settings_changes(before: Run, after: Run) -> tuple[str, ...]:
    """The settings that differ, in words: "network_dim 16 → 32". Bookkeeping is left out."""
    rows = (row for row in settings_table((before, after)) if not row.bookkeeping)
    return tuple(f"{row.name} {row.texts[0]} → {row.texts[1]}" for row in rows)


def dataset_difference(before: Run, after: Run) -> Difference:
    """What became of the images and captions between two runs, entry by entry."""
    return difference(before.dataset, after.dataset)


def changes(before: Run, after: Run) -> tuple[str, ...]:
    """What differs between two runs, in words: images first, then settings."""
    return (*_dataset_words(before, after), *settings_changes(before, after))


def lineage(run: Run, runs: Sequence[Run]) -> tuple[Run, ...]:
    """The run's forebears and itself, oldest first."""
    by_version = {str(other.version): other for other in runs}
    chain, seen = [run], {str(run.version)}
    while (parent := by_version.get(chain[-1].record.parent)) and str(parent.version) not in seen:
        chain.append(parent)
        seen.add(str(parent.version))
    return tuple(reversed(chain))


def story(run: Run, runs: Sequence[Run]) -> str:
    """The lineage in words: "1c → 2a: 14 photos added, 2 removed; 2a → 2b: network_dim 16 → 32"."""
    steps = [other for other in lineage(run, runs) if other.record.parent]
    return "; ".join(
        f"{other.record.parent} → {other.record.version}: {', '.join(other.record.changes) or 'nothing changed'}"
        for other in steps
    )


def show(value: Any) -> str:
    """A setting's value as people read it."""
    if value is NOT_RECORDED:
        return "?"
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}" if f"{value:g}" == repr(value) or float(f"{value:g}") == value else repr(value)
    if isinstance(value, (list, tuple)):
        return " ".join(show(item) for item in value) or "none"
    return str(value)


def _names(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names that any of the runs has: parameters as declared, then others by name."""
    found = {name for one in settings for name in one}
    return [*(name for name in SPECS() if name in found), *sorted(found - set(SPECS()))]


def same_images(one: Record, other: Record) -> bool:
    """The same bytes; where one run was imported and its files are not known, the same folders and numbers."""
    if one.imported or other.imported:
        return bool(one.images_by_name) and one.images_by_name == other.images_by_name
    return one.images == other.images


def _dataset_words(before: Run, after: Run) -> tuple[str, ...]:
    """From the lists where both have one, else from the counts and fingerprints."""
    if before.dataset.entries and after.dataset.entries:
        return in_words(dataset_difference(before, after))
    old, new = before.record, after.record
    phrases = []
    known = old.images_by_name if old.imported or new.imported else old.images
    if known and not same_images(old, new):
        if old.image_count != new.image_count:
            phrases.append(f"photos {old.image_count} → {new.image_count}")
        else:
            phrases.append("other photos")
    comparable = old.captions and new.captions and bool(old.imported) == bool(new.imported)
    if comparable and old.captions != new.captions and same_images(old, new):
        phrases.append("other captions")
    return tuple(phrases)
