"""Statistics of captions: tags, what stands together, lengths, per subset. All take and give pandas frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("path", "caption_path", "subset", "repeats", "is_reg", "caption", "tokens", "characters", "tags")


def caption_frame(images: pd.DataFrame) -> pd.DataFrame:
    """One row an image that has a caption: COLUMNS; caption is the line that is trained, tags its number of tags."""
    rows = images.loc[
        images["caption"].notna(), ["path", "caption_path", "subset", "repeats", "is_reg", "caption", "tokens"]
    ]
    rows = rows.reset_index(drop=True)
    rows["caption"] = rows["caption"].str.split("\n").str[0]
    rows["characters"] = rows["caption"].str.len().astype(int)
    rows["tags"] = [len(split_tags(text)) for text in rows["caption"]]
    return rows[list(COLUMNS)]


def split_tags(text: str, separator: str = ",") -> tuple[str, ...]:
    """The tags of a caption, in order, without empty ones."""
    from kohyakit.dataset.captions.caption import Caption

    return Caption.parse(text, separator).tags


def count_tokens_of(texts: Sequence[str | None]) -> list[int | None]:
    """CLIP tokens of each text's first line, None for None; each different text is counted once."""
    from kohyakit.dataset.captions.tokens import count_tokens

    first = [None if text is None else text.split("\n", 1)[0] for text in texts]
    counts = {text: count_tokens(text) for text in set(first) if text is not None}
    return [None if text is None else counts[text] for text in first]


def tag_table(captions: pd.DataFrame, *, separator: str = ",", by_subset: bool = False) -> pd.DataFrame:
    """How many captions hold each tag: tag, images, share (of all captions, or of the subset's), commonest first.

    Tags are compared as sd-scripts trains them, exactly. by_subset: one row a subset and tag.
    """
    import pandas as pd

    rows = [
        (subset, tag)
        for subset, text in zip(captions["subset"], captions["caption"], strict=True)
        for tag in dict.fromkeys(split_tags(text, separator))
    ]
    keys = ["subset", "tag"] if by_subset else ["tag"]
    table = pd.DataFrame(rows, columns=["subset", "tag"]).groupby(keys, sort=False).size().reset_index(name="images")
    if by_subset:
        totals = table["subset"].map(captions["subset"].value_counts())
    else:
        totals = len(captions)
    table["share"] = table["images"] / totals
    return table.sort_values(["images", "tag"], ascending=[False, True], ignore_index=True)


def co_occurrence(captions: pd.DataFrame, *, top: int = 30, separator: str = ",") -> pd.DataFrame:
    """How many captions hold both tags: a square table of the `top` commonest tags; the diagonal is each tag's own."""
    import numpy as np
    import pandas as pd

    names = tag_table(captions, separator=separator)["tag"].head(top).tolist()
    place = {tag: number for number, tag in enumerate(names)}
    counts = np.zeros((len(names), len(names)), dtype=int)
    for text in captions["caption"]:
        held = [place[tag] for tag in set(split_tags(text, separator)) if tag in place]
        counts[np.ix_(held, held)] += 1
    return pd.DataFrame(counts, index=names, columns=names)


def length_table(captions: pd.DataFrame) -> pd.DataFrame:
    """Per subset: captions, different ones, and the least, median and most tokens, tags and characters."""
    grouped = captions.groupby("subset", sort=True)
    table = grouped.agg(
        captions=("caption", "size"),
        different=("caption", "nunique"),
        **{
            f"{how}_{what}": (what, how)
            for what in ("tokens", "tags", "characters")
            for how in ("min", "median", "max")
        },
    )
    return table.reset_index()
