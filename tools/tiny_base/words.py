"""The world's words as the real CLIP vocabulary cuts them, and the text encoder's table of them.

Of 49,408 rows the world uses some forty: those are taught, the others keep the random values they start with, so that a
word that nobody taught stands for something of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kohyakit.demo.world import Scene, scenes
from kohyakit.resources import clip_vocabulary

LENGTH, FIRST, LAST, WORDS = 77, 49406, 49407, 49408


def tokenizer() -> Any:
    """CLIP's own, from the files that ship with the package."""
    from transformers import CLIPTokenizer

    place = clip_vocabulary()
    return CLIPTokenizer(str(place / "vocab.json"), str(place / "merges.txt"))


class Vocabulary:
    """Captions to rows of a table of the world's words. A row is a token's place in `tokens`; the rest are unknown.

    unknown: how many of the words that nobody taught take part in the training, so that the others matter little.
    """

    def __init__(self, *, unknown: int = 400, seed: int = 0) -> None:
        self._cut = tokenizer()
        self._words: dict[str, list[int]] = {}
        taught = {FIRST, LAST} | {t for s in scenes() for t in self.cut(s.caption())}
        self.taught = len(taught)
        others = torch.randperm(40_000, generator=torch.Generator().manual_seed(seed)).tolist()
        self.tokens = sorted(taught) + [t for t in others if t not in taught and t > 1000][:unknown]
        self._row = {token: row for row, token in enumerate(self.tokens)}

    def cut(self, caption: str) -> list[int]:
        """The caption's tokens, without the marks of its ends; word by word, as the words repeat."""
        tokens: list[int] = []
        for word in caption.replace(",", " ,").split():
            if word not in self._words:
                self._words[word] = self._cut(word, add_special_tokens=False)["input_ids"]
            tokens += self._words[word]
        return tokens

    def rows(self, scene: Scene | None, dice: torch.Generator) -> list[int]:
        """A caption to learn from: mostly whole; at times empty, without a colour, or with an unknown word more.

        A thing without a name goes by one or two unknown words.
        """
        chance = float(torch.rand(1, generator=dice))
        if scene is None or chance < 0.1:
            return self._framed([])
        strange = [int(i) for i in torch.randint(self.taught, len(self.tokens), (2,), generator=dice)]
        nameless = [self._row[t] for t in self.cut(Scene("", "", scene.place, scene.ground, scene.sky).caption())]
        if not scene.kind:
            return self._framed([nameless[0], *strange[: 1 + strange[0] % 2], *nameless[1:]])
        said = scene if chance > 0.18 else Scene(scene.kind, "", scene.place, scene.ground, scene.sky)
        rows = [self._row[t] for t in self.cut(said.caption())]
        if chance > 0.92:
            rows.insert(1, strange[0])
        return self._framed(rows)

    def of(self, caption: str) -> list[int]:
        """A caption's rows; a word that the world does not know is taken as the first unknown one."""
        return self._framed([self._row.get(t, self.taught) for t in self.cut(caption)])

    def _framed(self, rows: list[int]) -> list[int]:
        first, last = self._row[FIRST], self._row[LAST]
        return ([first, *rows] + [last] * LENGTH)[:LENGTH]


class Table(nn.Module):
    """In place of the whole embedding while the model learns: taught rows, and unknown ones that stay as they are."""

    def __init__(self, whole: Tensor, vocabulary: Vocabulary) -> None:
        super().__init__()
        picked = whole[vocabulary.tokens]
        self.taught = nn.Parameter(picked[: vocabulary.taught].clone())
        self.others = nn.Buffer(picked[vocabulary.taught :].clone(), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        return nn.functional.embedding(rows, torch.cat([self.taught, self.others]))


def whole_table(seed: int, width: int) -> Tensor:
    """The rows of all words before any is taught, [49408, width], as half precision will hold them."""
    drawn = torch.randn(WORDS, width, generator=torch.Generator().manual_seed(seed)) * 0.2
    return drawn.half().float()
