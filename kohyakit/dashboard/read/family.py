"""The family tree beside the runs: who came from whom, in as few columns as the branches need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def tree(order: Sequence[str], parents: Mapping[str, str]) -> list[tuple[str, str]]:
    """(version, guides) in the order in which to draw them.

    order: the versions to show, first to last. parents: version -> parent, also of runs that are not shown; a run whose
    parent is not shown hangs on its nearest forebear that is. A line of descent stays in its column and only side
    branches move to the right, so that a hundred tries in a row do not wander off the page. guides: a character a
    column; `|` a line passes, `+` a branch leaves it, and for the run itself `o` alone, `^` has a parent above,
    `v` goes on below, `x` both.
    """
    shown = set(order)
    children: dict[str, list[str]] = {}
    roots = []
    for version in order:
        parent = _forebear(version, parents, shown)
        children.setdefault(parent, []).append(version) if parent else roots.append(version)
    rows: list[tuple[str, str]] = []
    for root in roots:
        # A stack of its own, as a chain of five hundred runs is deeper than Python calls go.
        stack = [(root, "", False, False)]
        while stack:
            version, left, has_parent, is_branch = stack.pop()
            below = children.get(version, [])
            own = {(False, False): "o", (True, False): "^", (False, True): "v", (True, True): "x"}[
                has_parent, bool(below)
            ]
            lead = left[:-1] + "+" if is_branch else left
            rows.append((version, lead + own))
            if below:
                stack.append((below[-1], left, True, False))
                stack.extend((branch, left + "|", False, True) for branch in reversed(below[:-1]))
    return rows


def _forebear(version: str, parents: Mapping[str, str], shown: set[str]) -> str:
    seen = {version}
    parent = parents.get(version, "")
    while parent and parent not in shown and parent not in seen:
        seen.add(parent)
        parent = parents.get(parent, "")
    return parent if parent in shown and parent not in seen else ""
