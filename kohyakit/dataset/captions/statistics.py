"""What stands in the captions of a set, as pandas frames: tags, what stands together, lengths, what equals what.

The first line of a caption counts, as in a training without wildcards; tags are told apart by every sign.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kohyakit.dataset.captions.alike import look_alike, shared
from kohyakit.dataset.captions.caption import Caption, has_words
from kohyakit.dataset.captions.choose import Home, home_of
from kohyakit.dataset.captions.tokens import CHUNK, count_tokens_of, cut_off
from kohyakit.dataset.editing.captions import CaptionFile

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

ROOMS = (75, 150, 225)  # tokens that fit, by max_token_length
_WORD = re.compile(r"\w[\w'-]*")
_BATCH = 512  # captions whose text is held at once
_BLOCK = 2048  # captions whose tags are counted at once
_NUMBERS = ("repeats", "tokens", "tags", "characters", "lines")
_MOST = 2**31 - 1  # repeats that are counted; a folder's name may say any number
_DIGEST = 16  # bytes by which equal captions are told
_SHOWN = 120  # characters of a caption in the frame of those that equal each other
EVERYWHERE = 0.9  # share from which a tag is nearly everywhere


@dataclass(frozen=True, slots=True)
class Statistics:
    """captions: path, subset, repeats, tokens, tags, characters, lines, cut (what does not fit into 75 tokens).
    tags: tag, images, weighted (times repeats), share (of captions), first (captions that begin with it), subsets,
    only_in. pairs: a, b, images, share (of the rarer one's). together: a square table of the commonest tags.
    alike: tag, images, other, other_images, how. same: caption, images, subsets, paths. subsets: one row a folder.
    without, unreadable: pictures without words, and captions that cannot be read. lead: tags that all begin with.
    words: those that every caption says, in small letters.
    """

    captions: pd.DataFrame
    tags: pd.DataFrame
    pairs: pd.DataFrame
    together: pd.DataFrame
    alike: pd.DataFrame
    same: pd.DataFrame
    subsets: pd.DataFrame
    without: int
    unreadable: int
    lead: tuple[str, ...]
    words: tuple[str, ...]

    def frames(self) -> dict[str, pd.DataFrame]:
        return {name: getattr(self, name) for name in ("tags", "pairs", "alike", "same", "subsets", "captions")}

    def to_dict(self) -> dict[str, Any]:
        """Of plain values, for JSON."""
        tables = {name: frame.to_dict("records") for name, frame in self.frames().items()}
        counts = {"without": self.without, "unreadable": self.unreadable, "lead": list(self.lead),
                  "words": list(self.words)}  # fmt: skip
        return {**counts, "facts": facts(self), **tables, "together": self.together.to_dict()}


@dataclass(slots=True)
class _Seen:
    """What is kept of the captions while they are read: numbers, and each tag and folder once."""

    words: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in ("path", "subset", "cut")})
    numbers: dict[str, array[int]] = field(default_factory=lambda: {name: array("i") for name in _NUMBERS})
    tags: dict[str, int] = field(default_factory=dict)
    held: array[int] = field(default_factory=lambda: array("i"))
    texts: bytearray = field(default_factory=bytearray)  # a digest of each, _DIGEST bytes
    first: array[int] = field(default_factory=lambda: array("i"))
    lead: tuple[str, ...] | None = None
    common: tuple[str, ...] | None = None  # words that every caption said so far
    said: dict[str, int] = field(default_factory=dict)  # captions that say the class of their folder
    homes: dict[str, Home] = field(default_factory=dict)
    without: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0


def statistics(folder: Path, files: Iterable[CaptionFile], *, top: int = 30) -> Statistics:
    """Count what stands in these captions of a folder. top: tags in the square table.

    The text of a caption is let go when it is counted. Raises MissingExtra without pandas or the tokenizer.
    """
    import pandas as pd

    seen = _Seen()
    many = iter(files)
    while batch := list(islice(many, _BATCH)):
        _count(seen, folder, batch)
    words = seen.words | {"subset": pd.Categorical(seen.words["subset"])}
    captions = pd.DataFrame(words | {name: _array(numbers).astype("int64") for name, numbers in seen.numbers.items()})
    tags = _tag_frame(seen, captions)
    pairs, together = _stand_together(seen, captions, tags, top)
    counts = dict(zip(tags["tag"], tags["images"], strict=True))
    alike = [(a, counts[a], b, counts[b], how) for a, b, how in look_alike(counts)]
    return Statistics(
        captions, tags, pairs, together,
        pd.DataFrame(alike, columns=["tag", "images", "other", "other_images", "how"]),
        _same(folder, seen, captions), _subset_frame(seen, captions),
        sum(seen.without.values()), seen.unreadable, seen.lead or (), seen.common or (),
    )  # fmt: skip


def _count(seen: _Seen, folder: Path, batch: list[CaptionFile]) -> None:
    kept: list[tuple[CaptionFile, Home, str, int]] = []
    for file in batch:
        home = home_of(file, folder, seen.homes)
        lines = [line.strip() for line in file.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
        if file.problem:
            seen.unreadable += 1
        elif has_words(lines[0]):
            kept.append((file, home, lines[0], 1 + sum(map(has_words, lines[1:]))))
        else:
            seen.without[home.subset] = seen.without.get(home.subset, 0) + 1
    tokens = count_tokens_of([line for _, _, line, _ in kept])
    for (file, home, first, count), many in zip(kept, tokens, strict=True):
        _add(seen, home, os.path.basename(file.path), first, count, many)


def _add(seen: _Seen, home: Home, name: str, line: str, lines: int, tokens: int) -> None:
    tags = Caption.parse(line).tags
    known = seen.tags
    ids = [known.setdefault(tag, len(known)) for tag in dict.fromkeys(tags)]
    seen.words["path"].append(name if home.subset == "." else f"{home.subset}/{name}")
    seen.words["subset"].append(home.subset)
    seen.words["cut"].append(cut_off(line) if tokens > CHUNK else "")
    for key, value in zip(_NUMBERS, (min(home.repeats, _MOST), tokens, len(tags), len(line), lines), strict=True):
        seen.numbers[key].append(value)
    seen.held.extend(ids)
    seen.held.append(-1)  # the caption's end
    seen.first.append(ids[0] if ids else -1)
    seen.texts += blake2b(line.encode("utf-8"), digest_size=_DIGEST).digest()
    seen.lead = tags if seen.lead is None else tags[: shared(seen.lead, tags)]
    low = line.lower()
    if home.subject and home.subject.lower() in low:
        seen.said[home.subset] = seen.said.get(home.subset, 0) + 1
    if seen.common is None:
        seen.common = tuple(dict.fromkeys(_WORD.findall(low)))
    elif seen.common:
        here = set(_WORD.findall(low))
        seen.common = tuple(word for word in seen.common if word in here)


def _array(numbers: array[int]) -> np.ndarray:
    import numpy as np

    return np.frombuffer(numbers, dtype=np.intc) if numbers else np.zeros(0, np.intc)


def _blocks(seen: _Seen) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Of some captions at a time the first one's number, and (caption from there on, tag) of every tag in them."""
    import numpy as np

    held, start = _array(seen.held), 0
    ends = np.flatnonzero(held < 0)
    for first in range(0, len(ends), _BLOCK):
        stop = int(ends[first : first + _BLOCK][-1]) + 1
        block, start = held[start:stop], stop
        closed = block < 0
        rows: np.ndarray = np.cumsum(closed) - closed
        yield first, rows[~closed], block[~closed]


def _tag_frame(seen: _Seen, captions: pd.DataFrame) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    many = len(seen.tags)
    names = list(captions["subset"].cat.categories)
    codes, repeats = captions["subset"].cat.codes.to_numpy(), captions["repeats"].to_numpy()
    images, weighted = np.zeros(many, np.int64), np.zeros(many)
    both = np.zeros(0, np.int64)  # tag and subset as one number
    for at, rows, tags in _blocks(seen):
        images += np.bincount(tags, minlength=many)
        weighted += np.bincount(tags, weights=repeats[at + rows], minlength=many)
        both = np.union1d(both, tags.astype(np.int64) * max(len(names), 1) + codes[at + rows])
    in_subsets = np.bincount(both // max(len(names), 1), minlength=many)
    last = np.zeros(many, np.int64)
    last[both // max(len(names), 1)] = both % max(len(names), 1)
    first = _array(seen.first)
    frame = pd.DataFrame(
        {
            "tag": pd.Series(list(seen.tags), dtype=object),
            "images": images,
            "weighted": weighted.astype(np.int64),
            "share": images / max(len(captions), 1),
            "first": np.bincount(first[first >= 0], minlength=many),
            "subsets": in_subsets,
            "only_in": [names[at] if count == 1 and len(names) > 1 else "" for at, count in
                        zip(last, in_subsets, strict=True)],
        }
    )  # fmt: skip
    return frame.sort_values(["weighted", "tag"], ascending=[False, True], ignore_index=True)


def _stand_together(
    seen: _Seen, captions: pd.DataFrame, tags: pd.DataFrame, top: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How many captions hold both of two tags, of the commonest ones: as pairs, and as a square table of `top`."""
    import numpy as np
    import pandas as pd

    names = tags["tag"].head(200).tolist()
    place = np.full(len(seen.tags), -1)
    place[[seen.tags[name] for name in names]] = np.arange(len(names))
    counts = np.zeros((len(names), len(names)))
    for _, rows, ids in _blocks(seen):
        columns = place[ids]
        block = np.zeros((_BLOCK, len(names)), np.float32)
        block[rows[columns >= 0], columns[columns >= 0]] = 1
        counts += block.T @ block
    table = pd.DataFrame(counts.astype(int), index=names, columns=names)
    alone = counts.diagonal()
    a, b = np.nonzero(np.triu(counts, 1))
    both = counts[a, b]
    share = both / np.minimum(alone[a], alone[b]) if len(a) else both
    pairs = pd.DataFrame(
        {"a": [names[at] for at in a], "b": [names[at] for at in b], "images": both.astype(int), "share": share}
    )
    pairs = pairs.sort_values(["images", "share", "a", "b"], ascending=[False, False, True, True], ignore_index=True)
    return pairs, table.iloc[:top, :top]


def _same(folder: Path, seen: _Seen, captions: pd.DataFrame) -> pd.DataFrame:
    """Captions that equal each other, sign for sign."""
    import pandas as pd

    groups = sorted(_equal(seen.texts), key=lambda numbers: (-len(numbers), numbers[0]))
    rows = [
        (_first_line(folder / paths[0]), len(numbers), captions["subset"].iloc[numbers].nunique(), paths[:20])
        for numbers in groups
        for paths in [[captions["path"].iat[number] for number in numbers]]
    ]
    return pd.DataFrame(rows, columns=["caption", "images", "subsets", "paths"])


def _equal(digests: bytearray) -> Iterator[list[int]]:
    """The numbers of captions that equal each other, rising, for each text that more than one has."""
    import numpy as np

    if not digests:
        return
    halves = np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2)
    order = np.lexsort(halves.T)  # which keeps the order of equals
    ordered = halves[order]
    starts = np.flatnonzero((ordered[1:] != ordered[:-1]).any(axis=1)) + 1
    for start, stop in pairwise([0, *starts.tolist(), len(order)]):
        if stop - start > 1:
            yield order[start:stop].tolist()


def _first_line(path: Path) -> str:
    from kohyakit.dataset.captions.caption import BadCaption, read_lines

    try:
        return read_lines(path)[0][:_SHOWN]
    except BadCaption:  # gone since it was counted
        return ""


def _subset_frame(seen: _Seen, captions: pd.DataFrame) -> pd.DataFrame:
    """Per folder: class (what stands behind its repeats), captions, those without, those that say the class, and
    tokens against what fits.
    """
    import pandas as pd

    rows = []
    for home in sorted(seen.homes.values(), key=lambda home: home.subset):
        subset = home.subset
        mine = captions.loc[captions["subset"] == subset]
        tokens = mine["tokens"]
        above = {f"above_{room}": int((tokens > room).sum()) for room in ROOMS}
        middle = {"median_tokens": float(tokens.median()) if len(mine) else 0.0, "most_tokens": tokens.max()}
        rows.append({"subset": subset, "class": home.subject, "captions": len(mine),
                     "without": seen.without.get(subset, 0), "say_class": seen.said.get(subset, 0), **middle,
                     **above})  # fmt: skip
    frame = pd.DataFrame(rows)
    return frame.assign(most_tokens=frame["most_tokens"].fillna(0).astype(int)) if rows else frame


def facts(found: Statistics) -> list[str]:
    """What a training will make of these captions, in sentences."""
    return list(_facts(found))


def _facts(found: Statistics) -> Iterator[str]:
    many = len(found.captions)
    if not many:
        return
    if many > 1:
        yield from _of_order(found, many)
    everywhere = found.tags.loc[(found.tags["share"] >= EVERYWHERE) & (many > 1), "tag"]
    if len(everywhere):
        yield (f"In nearly every caption: {_some(everywhere)}. What they name cannot be told apart from the rest "
               "of the pictures.")  # fmt: skip
    within = {word for tag in everywhere for word in _WORD.findall(tag.lower())}
    if many > 1 and (others := [word for word in found.words if word not in within]):
        yield f"Every caption says: {_some(others)}. What all share is learnt as the thing itself."
    once = int((found.tags["images"] == 1).sum())
    if once:
        yield f"{once} of {len(found.tags)} tags stand in one caption only."
    long = found.captions["tokens"] > CHUNK
    if long.any():
        sizes = ", ".join(f"{int((found.captions['tokens'] > room).sum())} above {room}" for room in ROOMS)
        yield f"Longer than fits: {sizes} tokens; the end is not trained (max_token_length 150 or 225 gives more room)."
    lines = int((found.captions["lines"] > 1).sum())
    if lines:
        yield f"{lines} captions have more than one line; only the first is trained, unless enable_wildcard is set."
    for row in found.subsets.to_dict("records"):
        subset, subject, without = row["subset"], row["class"], row["without"]
        if subject and without:
            which = f"{without} of {row['captions'] + without}" if row["captions"] else "all"
            yield f"{subset}: {which} pictures are trained as '{subject}'."
        elif subject and row["captions"]:
            yield (f"{subset}: every picture has a caption, so '{subject}' of the folder's name is not trained. "
                   f"{row['say_class']} of {row['captions']} captions say it themselves.")  # fmt: skip


def _of_order(found: Statistics, many: int) -> Iterator[str]:
    """What shuffle_caption and keep_tokens would do to these captions."""
    tags = found.captions["tags"]
    apart = int((tags > len(found.lead) + 1).sum())
    if found.lead and (tags > len(found.lead)).any():
        lead = ", ".join(found.lead)
        yield (f"Every caption begins with '{lead}'. With shuffle_caption, keep_tokens = {len(found.lead)} keeps "
               "that in front.")  # fmt: skip
    elif not found.lead and len(found.tags):
        first = found.tags.sort_values(["first", "tag"], ascending=[False, True]).iloc[0]
        yield (f"Captions do not begin alike: {first['first']} of {many} with '{first['tag']}'. keep_tokens = 1 keeps "
               "in front what each begins with.")  # fmt: skip
    behind = "what stands behind it" if found.lead else "what stands between commas"
    if apart:
        still = "" if apart == many else "; the others have nothing to shuffle"
        yield f"shuffle_caption changes the order of {behind} in {apart} of {many} captions{still}."
    else:
        yield f"shuffle_caption would change nothing: no caption has two parts of {behind}."
    long = int(((found.captions["tokens"] > CHUNK) & (tags > len(found.lead) + 1)).sum())
    if long:
        yield f"In {long} of them, longer than {CHUNK} tokens, it also changes each time what is cut off."


def _some(names: Iterable[str], most: int = 8) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
