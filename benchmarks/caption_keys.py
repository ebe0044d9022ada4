"""Keys for correcting sixty captions of a beginner's kind: on the Captions page, and in taggui by its documented ones.

    python benchmarks/caption_keys.py [--json]

A model has captioned sixty photos of a town; a person goes through them: some stay, some lose what the base model knows
already, some gain an archway, a canal or a gargoyle, some are called anew. Every key counts, one that is held too
(Ctrl+Down is two), letters as well. Both complete from the tags of the set, the most frequent first; the way with the
fewest keys is taken in each. taggui: Ctrl+Down next, Alt+A and Alt+I to the box and the list, Ctrl+Enter the first
suggestion, Delete, F2, and what a list does with Home, End, arrows, Ctrl+A and letters. Here: Enter or PageDown next,
Tab the first suggestion, arrows, Home and End into the chips, Escape back, Backspace, Ctrl+Backspace, Delete, Enter.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from dataclasses import dataclass, field

SEEN = ["a stone church", "a city street", "a castle on a hill", "a row of houses", "an old bridge", "a narrow street"]
KNOWN = ["trees", "a clock on it", "blue sky", "people walking", "a car parked", "clouds in the sky", "cobblestones"]
SPECIAL = ["alley", "archway", "canal", "gargoyle", "church", "courtyard", "tower", "market square", "half-timbered"]
KINDS = {"stays": 18, "gains one": 16, "loses one": 12, "replaced": 6, "called anew": 8}


@dataclass
class Task:
    kind: str
    tags: list[str]
    out: str = ""
    fresh: tuple[str, ...] = ()


def tasks(seed: int = 0) -> list[Task]:
    rng = random.Random(seed)
    made = []
    for kind in rng.sample([kind for kind, many in KINDS.items() for _ in range(many)], sum(KINDS.values())):
        tags = ["widget city", rng.choice(SEEN), *rng.sample(KNOWN, rng.randint(1, 4))]
        out = rng.choice(tags[2:]) if kind == "loses one" else tags[1] if kind == "called anew" else ""
        fresh = rng.sample(SPECIAL, {"gains one": 1, "replaced": 2, "called anew": 1}.get(kind, 0))
        made.append(Task(kind, tags, out, tuple(fresh)))
    return made


@dataclass
class Hand:
    """accept: keys that take the first suggestion. vocabulary: the tags of the set, counted."""

    accept: int
    vocabulary: Counter[str]
    keys: Counter[str] = field(default_factory=Counter)
    place: str = "field"

    def typed(self, tag: str, has: list[str]) -> int:
        """The whole tag and Enter, or as much of it as makes it the first suggestion."""
        order = sorted((one for one in self.vocabulary if one not in has), key=lambda one: (-self.vocabulary[one], one))
        ways = [len(tag) + 1]
        for many in range(1, len(tag)):
            first = next((one for one in order if one.startswith(tag[:many])), "")
            ways += [many + self.accept] if first == tag else []
        self.vocabulary[tag] += 1
        return min(ways)


class Taggui(Hand):
    def do(self, task: Task) -> int:
        keys, tags = 0, list(task.tags)
        if task.kind == "replaced":
            keys += self._to("list", 2) + 2 + 1  # Ctrl+A, Delete
            tags = []
        elif task.out:
            at = tags.index(task.out)
            letters = next((n for n in range(1, 9) if [t for t in tags if t.startswith(task.out[:n])] == [task.out]), 9)
            keys += self._to("list", 2) + min(at + 1, len(tags) - at, letters)
            tags.remove(task.out)
            if task.kind == "called anew":
                return keys + 1 + len(task.fresh[0]) + 1 + 2  # F2, typed over, Enter, Ctrl+Down
            keys += 1
        for tag in task.fresh:
            keys += self._to("field", 2) + self.typed(tag, tags)
            tags.append(tag)
        return keys + 2

    def _to(self, place: str, keys: int) -> int:
        keys, self.place = (0 if self.place == place else keys), place
        return keys


class Page(Hand):
    def do(self, task: Task) -> int:
        keys, tags = 0, list(task.tags)
        if task.kind == "replaced":
            keys += self._to_field() + 2  # Ctrl+Backspace
            tags = []
        elif task.out:
            at, last = tags.index(task.out), len(tags) - 1
            if at == last and self.place == "field" and task.kind == "loses one":
                keys += 1  # Backspace
            else:
                keys += min(1 + at, 1 + last - at)  # Home and arrows, or from the last on
                keys += 1  # Delete, or Enter to edit
                self.place = "chips"
            tags.remove(task.out)
            if task.kind == "called anew":
                self.place = "field"
                return keys + self.typed(task.fresh[0], tags) + 1
        for tag in task.fresh:
            keys += self._to_field() + self.typed(tag, tags)
            tags.append(tag)
        return keys + 1  # Enter in the field, PageDown from the chips

    def _to_field(self) -> int:
        keys, self.place = (0 if self.place == "field" else 1), "field"
        return keys


def count() -> dict[str, dict[str, int]]:
    found = {}
    for name, hand in (("taggui", Taggui(2, Counter())), ("this page", Page(1, Counter()))):
        todo = tasks()
        hand.vocabulary.update(tag for task in todo for tag in task.tags)
        for task in todo:
            hand.keys[task.kind] += hand.do(task)
        found[name] = {**{kind: hand.keys[kind] for kind in KINDS}, "all": hand.keys.total()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    found = count()
    if parser.parse_args().json:
        print(json.dumps(found))
        return
    print(f"{'60 captions':16}{'photos':>8}{'taggui':>10}{'this page':>12}")
    for kind in (*KINDS, "all"):
        many = KINDS.get(kind, sum(KINDS.values()))
        print(f"{kind:16}{many:8}{found['taggui'][kind]:10}{found['this page'][kind]:12}")


if __name__ == "__main__":
    main()
