"""What a data set is: a fingerprint of the images' bytes, another of the captions, and the list behind both.

Adding, removing, cropping or rotating an image (its orientation tag alone, too) makes other images; renaming,
moving and re-ordering do not. Captions, repeats and class tokens are not images.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from kohyakit.files import open_regular, read_bytes, read_text, refuse_links, write_text

_CACHE_LIMIT = 256 << 20  # bytes; a hundred thousand photos take a tenth of it
_LINE_END = re.compile(r"\r\n|\r|\n")
_RACY_SECONDS = 2.0  # a file younger than this may change again without its times showing it (FAT counts in 2 s)


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """One image of a data set. `file` is relative to `root`, with forward slashes.

    sha256: of the file's bytes; "" when the file could not be read. caption: the caption file's text, None without one.
    """

    root: str
    file: str
    sha256: str
    bytes: int
    caption: str | None = None
    is_reg: bool = False

    @property
    def path(self) -> Path:
        return Path(self.root, self.file)


@dataclass(frozen=True, slots=True)
class SubsetEntry:
    """One folder of images with what the training makes of it."""

    folder: str
    num_repeats: int
    class_tokens: str
    is_reg: bool
    images: int


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`images` and `captions` are equal for equal sets (24 hexadecimal digits; "" for a set without images)."""

    images: str
    captions: str
    entries: tuple[ImageEntry, ...] = ()
    subsets: tuple[SubsetEntry, ...] = ()

    @property
    def image_count(self) -> int:
        return sum(not entry.is_reg for entry in self.entries)

    @property
    def reg_count(self) -> int:
        return sum(entry.is_reg for entry in self.entries)

    @property
    def by_name(self) -> str:
        """The mark that an imported run of the same folders has: see mark_by_name."""
        folders: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        for subset in self.subsets:
            folders[subset.is_reg][subset.folder] += subset.images
        return mark_by_name(*folders)

    @property
    def caption_count(self) -> int:
        return sum(entry.caption is not None for entry in self.entries)

    def to_json(self) -> dict[str, Any]:
        return {
            "images": self.images, "captions": self.captions,
            "entries": [_as_dict(entry) for entry in self.entries],
            "subsets": [_as_dict(subset) for subset in self.subsets],
        }  # fmt: skip

    def dumps(self) -> str:
        """The same as JSON text, a line an image: of 100,000 images in a third of the time that an indent takes."""
        data = self.to_json()
        lists = {name: ",\n".join(json.dumps(one, ensure_ascii=False) for one in data[name]) for name in _LISTS}
        head = "".join(f'"{name}": {json.dumps(data[name])},\n' for name in ("images", "captions"))
        return "{" + head + ",\n".join(f'"{name}": [\n{lines}\n]' for name, lines in lists.items()) + "}\n"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fingerprint:
        """Raises KeyError or TypeError for a record that is not one."""
        return cls(
            images=data["images"],
            captions=data["captions"],
            entries=tuple(ImageEntry(**entry) for entry in data["entries"]),
            subsets=tuple(SubsetEntry(**subset) for subset in data["subsets"]),
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """What became of a data set. `changed`: the same file name with other bytes (cropped, rotated, edited)."""

    added: tuple[ImageEntry, ...] = ()
    removed: tuple[ImageEntry, ...] = ()
    changed: tuple[tuple[ImageEntry, ImageEntry], ...] = ()
    renamed: tuple[tuple[ImageEntry, ImageEntry], ...] = ()
    recaptioned: tuple[tuple[ImageEntry, ImageEntry], ...] = ()
    subsets: tuple[tuple[SubsetEntry, SubsetEntry], ...] = ()

    def __bool__(self) -> bool:
        return any((self.added, self.removed, self.changed, self.renamed, self.recaptioned, self.subsets))

    @property
    def other_images(self) -> bool:
        return bool(self.added or self.removed or self.changed)


_LISTS = ("entries", "subsets")


def _as_dict(value: ImageEntry | SubsetEntry) -> dict[str, Any]:
    """dataclasses.asdict without its deep copies."""
    return {name: getattr(value, name) for name in value.__slots__}


def fingerprint(scan: Any, *, cache: Path | None = None, keep: bool = True) -> Fingerprint:
    """The fingerprint of a `layout.Scan`: every image of every subset once, however many data sets list it.

    What is held back from training counts with it: the photos are the same ones, however they are used.

    cache: a small JSON file that keeps the hashes by path, size and times, so that only new files are read again.
    keep: write new ones into it.
    """
    entries: dict[tuple[Path, bool], tuple[str, str | None]] = {}
    subsets: dict[tuple[str, bool], SubsetEntry] = {}
    photos: dict[tuple[str, bool], set[Path]] = {}
    for subset in (subset for dataset in (*scan.datasets, *scan.held_back) for subset in dataset.subsets):
        folder, key = Path(subset.image_dir), (str(subset.metadata_file or subset.image_dir), subset.is_reg)
        root = os.path.join(folder.parent.absolute(), "")
        photos.setdefault(key, set()).update(record.path for record in subset.records)
        entry = SubsetEntry(subset.name, subset.num_repeats, subset.class_tokens or "", subset.is_reg, 0)
        subsets.setdefault(key, entry)
        for record in subset.records:
            caption = _caption(record.caption_path)
            if caption is None and record.caption != (subset.class_tokens or ""):
                caption = record.caption  # from a metadata file (in_json), not from one of its own
            entries.setdefault((record.path, subset.is_reg), (root, caption))
    hashes = hash_files([path for path, _ in entries], cache=cache, keep=keep)
    return from_entries(
        (_entry(path, is_reg, root, caption, hashes) for (path, is_reg), (root, caption) in entries.items()),
        (replace(entry, images=len(photos[key])) for key, entry in subsets.items()),
    )


def from_entries(entries: Iterable[ImageEntry], subsets: Iterable[SubsetEntry] = ()) -> Fingerprint:
    """The fingerprint of a list of images, in whatever order they come."""
    ordered = tuple(sorted(entries, key=lambda entry: (entry.is_reg, entry.root, entry.file)))
    return Fingerprint(
        images=_digest(f"{entry.is_reg:d} {entry.sha256}" for entry in ordered),
        captions=_digest(f"{entry.is_reg:d} {entry.sha256} {json.dumps(_words(entry))}" for entry in ordered),
        entries=ordered,
        subsets=tuple(sorted(subsets, key=lambda subset: (subset.is_reg, subset.folder))),
    )


def mark_by_name(photos: Mapping[str, int], reg: Mapping[str, int]) -> str:
    """What can be said of images without the files: folders and how many lie in each; "" for none.

    photos, reg: {"10_sks dog": 20}; the repeats before the name are no matter of the images.
    """
    sets = []
    for folders in (photos, reg):
        counts: Counter[str] = Counter()
        for name, count in folders.items():
            counts[re.sub(r"^\d+_", "", name)] += count
        sets.append(sorted(counts.items()))
    return f"names-{_digest([json.dumps(sets, ensure_ascii=False)])}" if photos else ""


def hash_files(paths: Iterable[Path], *, cache: Path | None = None, keep: bool = True) -> dict[Path, tuple[str, int]]:
    """SHA-256 and size in bytes of each file, read by several threads; ("", 0) for one that cannot be read."""
    from concurrent.futures import ThreadPoolExecutor

    known = _read_cache(cache)
    paths = list(paths)
    names = {path: _absolute(path) for path in paths}
    stamps = {path: _stamp(path) for path in paths}
    missing = [path for path in paths if stamps[path] and known.get(names[path], ("", ""))[0] != stamps[path]]
    with ThreadPoolExecutor(max_workers=min(8, (os.cpu_count() or 1) + 2)) as pool:
        fresh = dict(zip(missing, pool.map(_sha256, missing), strict=True))
    if cache is not None and keep and missing:
        _write_cache(cache, known, {path: (stamps[path], fresh[path]) for path in missing})
    result = {}
    for path, stamp in stamps.items():
        sha = fresh[path] if path in fresh else known[names[path]][1] if stamp else ""
        result[path] = (sha, int(stamp.split()[0]) if stamp and sha else 0)
    return result


def difference(before: Fingerprint, after: Fingerprint) -> Difference:
    """What was added, removed, changed, renamed and re-captioned between two data sets."""
    gone, came, kept = _match(before.entries, after.entries)
    changed = list(_same_names(gone, came))
    edited_old, edited_new = {id(old) for old, _ in changed}, {id(new) for _, new in changed}
    gone = [entry for entry in gone if id(entry) not in edited_old]
    came = [entry for entry in came if id(entry) not in edited_new]
    return Difference(
        added=tuple(came),
        removed=tuple(gone),
        changed=tuple(changed),
        renamed=tuple((old, new) for old, new in kept if old.file != new.file),
        recaptioned=tuple((old, new) for old, new in [*kept, *changed] if _words(old) != _words(new)),
        subsets=_changed_subsets(before, after),
    )


def in_words(found: Difference) -> tuple[str, ...]:
    """The difference as short phrases: "14 photos added", "2 removed", "3 captions changed"."""
    phrases = []
    edited = [new for _, new in found.changed]
    for is_reg, noun in ((False, "photo"), (True, "regularisation image")):
        told = False
        for entries, phrase in ((found.added, "added"), (found.removed, "removed"), (edited, "edited")):
            if count := sum(entry.is_reg == is_reg for entry in entries):
                phrases.append(f"{count} {phrase}" if told else f"{count} {noun}{'s' * (count != 1)} {phrase}")
                told = True
    for count, noun, phrase in (
        (len(found.renamed), "photo", "renamed"),
        (len(found.recaptioned), "caption", "changed"),
    ):
        if count:
            phrases.append(f"{count} {noun}{'s' * (count != 1)} {phrase}")
    phrases += [f"{phrase} of {new.folder}" for old, new in found.subsets for phrase in subset_words(old, new)]
    return tuple(phrases)


def subset_words(old: SubsetEntry, new: SubsetEntry) -> tuple[str, ...]:
    """What differs in how a folder is used: "repeats 10 → 20"."""
    phrases = []
    if old.num_repeats != new.num_repeats:
        phrases.append(f"repeats {old.num_repeats} → {new.num_repeats}")
    if old.class_tokens != new.class_tokens:
        phrases.append(f"class tokens '{old.class_tokens}' → '{new.class_tokens}'")
    return tuple(phrases)


def _entry(
    path: Path, is_reg: bool, root: str, caption: str | None, hashes: Mapping[Path, tuple[str, int]]
) -> ImageEntry:
    """root: absolute, with the separator at its end."""
    file = _absolute(path)
    if file.startswith(root):
        root, file = root[:-1], file[len(root) :]
    else:
        root, file = os.path.split(file)
    sha256, size = hashes[path]
    root = root.replace(os.sep, "/") or "/"
    return ImageEntry(root, file.replace(os.sep, "/"), sha256, size, caption, is_reg)


def _absolute(path: Path) -> str:
    """As Path.absolute, for a hundred thousand paths."""
    text = os.fspath(path)
    return text if os.path.isabs(text) else os.path.join(os.getcwd(), text)


def _caption(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return read_bytes(path).decode("utf-8-sig", errors="replace")
    except OSError:
        return None


def _words(entry: ImageEntry) -> str | None:
    """The caption without what no trainer reads: line ends and blanks around it."""
    return None if entry.caption is None else "\n".join(_LINE_END.split(entry.caption.strip()))


def _digest(lines: Iterable[str]) -> str:
    ordered = sorted(lines)
    return hashlib.sha256("\n".join(ordered).encode("utf-8", "surrogatepass")).hexdigest()[:24] if ordered else ""


def _sha256(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
    except OSError:
        return ""


def _stamp(path: Path) -> str:
    """Size, times and file number: a tool that keeps the date while it edits still changes one of them."""
    try:
        stat = os.stat(path)
    except OSError:
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


def _read_cache(cache: Path | None) -> dict[str, tuple[str, str]]:
    if cache is None:
        return {}
    try:
        data = json.loads(read_text(cache, _CACHE_LIMIT))
        return {path: (str(stamp), str(sha)) for path, (stamp, sha) in data.items()}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}


def _write_cache(cache: Path, known: dict[str, tuple[str, str]], fresh: Mapping[Path, tuple[str, str]]) -> None:
    """Keep what is settled; a cache that cannot be written costs time only."""
    now = time.time()
    for path, (stamp, sha) in fresh.items():
        newest = max(int(part) for part in stamp.split()[1:3]) / 1e9
        if sha and now - newest > _RACY_SECONDS:
            known[_absolute(path)] = (stamp, sha)
    try:
        refuse_links(cache.parent.parent, cache.parent)  # the folder is ours, what it lies in is the person's
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_text(cache, json.dumps(known, ensure_ascii=False, indent=0), errors="surrogatepass", sync=False)
    except OSError:
        pass  # it costs time only


def _key(entry: ImageEntry) -> tuple[bool, str]:
    return entry.is_reg, entry.file


def _same_names(gone: Iterable[ImageEntry], came: Iterable[ImageEntry]) -> Iterator[tuple[ImageEntry, ImageEntry]]:
    """Images of one name on both sides, each once, in their order."""
    waiting: dict[tuple[bool, str], deque[ImageEntry]] = {}
    for entry in came:
        waiting.setdefault(_key(entry), deque()).append(entry)
    for entry in gone:
        if same := waiting.get(_key(entry)):
            yield entry, same.popleft()


def _match(
    before: tuple[ImageEntry, ...], after: tuple[ImageEntry, ...]
) -> tuple[list[ImageEntry], list[ImageEntry], list[tuple[ImageEntry, ImageEntry]]]:
    """Pair images of equal bytes, the same name first -> (only before, only after, pairs)."""
    waiting: dict[tuple[bool, str], dict[str, deque[ImageEntry]]] = {}
    for entry in after:
        waiting.setdefault((entry.is_reg, entry.sha256), {}).setdefault(entry.file, deque()).append(entry)
    pairs, unpaired, gone = [], [], []
    for entry in before:
        same = waiting.get((entry.is_reg, entry.sha256), {}).get(entry.file)
        if same:
            pairs.append((entry, same.popleft()))
        else:
            unpaired.append(entry)
    left = {
        content: deque(entry for entries in named.values() for entry in entries) for content, named in waiting.items()
    }
    for entry in unpaired:
        if candidates := left.get((entry.is_reg, entry.sha256)):
            pairs.append((entry, candidates.popleft()))
        else:
            gone.append(entry)
    free = {id(entry) for entries in left.values() for entry in entries}
    return gone, [entry for entry in after if id(entry) in free], pairs


def _changed_subsets(before: Fingerprint, after: Fingerprint) -> tuple[tuple[SubsetEntry, SubsetEntry], ...]:
    """Folders paired by name, or the only one with the only one: repeats and class tokens that differ."""
    old = {(subset.is_reg, subset.folder): subset for subset in before.subsets}
    new = {(subset.is_reg, subset.folder): subset for subset in after.subsets}
    pairs = [(old[key], new[key]) for key in old if key in new]
    left = [[side[key] for key in side if key not in other] for side, other in ((old, new), (new, old))]
    if len(left[0]) == len(left[1]) == 1 and left[0][0].is_reg == left[1][0].is_reg:
        pairs.append((left[0][0], left[1][0]))
    return tuple((a, b) for a, b in pairs if (a.num_repeats, a.class_tokens) != (b.num_repeats, b.class_tokens))
