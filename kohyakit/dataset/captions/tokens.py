"""CLIP token ids of captions, as sd-scripts gives them to the text encoder, without torch or transformers.

Byte-pair encoding by the `tokenizers` library over the vocabulary in assets/clip. Text is cleaned with ftfy first,
as CLIP's own tokenizer does wherever ftfy is installed (sd-scripts requires it): `“` becomes `"`, `&amp;` becomes `&`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from kohyakit.errors import MissingExtra

BOS, EOS = 49406, 49407
CHUNK = 75

# Text that ftfy leaves as it is: printable ASCII without an ampersand.
_PLAIN = re.compile(r"[\t\n\r !-%'-~]*")
_SPACE = re.compile(r"\s+")
# CLIP's pattern disregards case, by which the Greek mark U+0345 is neither a letter nor anything else: it is dropped.
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}" "\u0345" r"]+"

_PLAIN_WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+")  # the same for small ASCII letters


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    try:
        from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers
    except ModuleNotFoundError as error:
        raise MissingExtra("counting caption tokens", "tokenizers", "audit") from error
    from kohyakit.resources import clip_vocabulary

    folder = clip_vocabulary()
    model = models.BPE.from_file(
        str(folder / "vocab.json"), str(folder / "merges.txt"), unk_token="<|endoftext|>", end_of_word_suffix="</w>"
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ("<|startoftext|>", "<|endoftext|>")])
    return tokenizer


def _clean(text: str) -> str:
    if not _PLAIN.fullmatch(text):
        try:
            from ftfy import fix_text
        except ModuleNotFoundError as error:
            raise MissingExtra("reading captions beyond plain English letters", "ftfy", "audit") from error
        text = fix_text(text)
    return _SPACE.sub(" ", text).strip().lower()


def encode(text: str) -> list[int]:
    """The token ids of a text of any length, without start and end tokens. Raises MissingExtra."""
    return _tokenizer().encode(_clean(text), add_special_tokens=False).ids


def count_tokens(text: str) -> int:
    """How many tokens a caption has; 75, 150 or 225 fit, by max_token_length. Raises MissingExtra."""
    return len(encode(text))


def count_tokens_of(texts: Iterable[str]) -> list[int]:
    """The same for many texts, several times as fast. Raises MissingExtra."""
    texts = list(texts)
    plain = [_PLAIN.fullmatch(text) is not None and "<|" not in text for text in texts]
    others = [_clean(text) for text, simple in zip(texts, plain, strict=True) if not simple]
    found = iter(_tokenizer().encode_batch_fast(others, add_special_tokens=False))
    return [
        sum(map(_tokens_of, _PLAIN_WORDS.findall(text.lower()))) if simple else len(next(found).ids)
        for text, simple in zip(texts, plain, strict=True)
    ]


@lru_cache(maxsize=1 << 16)
def _tokens_of(word: str) -> int:
    """Of one piece that the tokenizer cuts a text into; captions say the same words again and again."""
    return len(_tokenizer().encode(word, add_special_tokens=False).ids)


def cut_off(text: str, room: int = CHUNK) -> str:
    """What of a text is not trained when so many tokens fit: its end, as the tokenizer cleans it; "" when all fits."""
    clean = _clean(text)
    found = _tokenizer().encode(clean, add_special_tokens=False)
    return clean[found.offsets[room][0] :] if len(found.ids) > room else ""


def chunks(ids: list[int], max_token_length: int | None = None) -> list[list[int]]:
    """Token ids as the text encoder takes them: one chunk of 77, or two or three for 150 and 225.

    Each chunk is a start token, 75 ids, and an end token; what is too long is cut off, what is missing is end tokens.
    """
    room = max_token_length or CHUNK
    padded = [*ids[:room], *[EOS] * (room - len(ids))]
    return [[BOS, *padded[start : start + CHUNK], EOS] for start in range(0, room, CHUNK)]


def weighted_chunks(text: str, max_token_length: int | None = None) -> tuple[list[list[int]], list[list[float]]]:
    """Chunks as above and a weight per token, from `(tag:1.3)`, `((tag))`, `[tag]`; brackets are no tokens.

    Start, end and padding weigh 1.
    """
    room = max_token_length or CHUNK
    ids: list[int] = []
    weights: list[float] = []
    for part, weight in parse_weights(text):
        new = encode(part)
        ids += new
        weights += [weight] * len(new)
        if len(ids) > room:
            break
    weights = [*weights[:room], *[1.0] * (room - len(weights))]
    rows = [[1.0, *weights[start : start + CHUNK], 1.0] for start in range(0, room, CHUNK)]
    return chunks(ids, max_token_length), rows


_ATTENTION = re.compile(r"\\[()\[\]\\]?|[(\[]|:(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\)|[)\]]|[^\\()\[\]:]+|:")


def parse_weights(text: str) -> list[tuple[str, float]]:
    """A1111's emphasis as (text, weight) in order: `(a)` 1.1, `[a]` 1/1.1, `(a:1.3)` 1.3, nested ones multiplied.

    A backslash keeps a bracket as text; a bracket that never closes counts to the end; neighbours of one weight join.
    """
    parts: list[tuple[str, float]] = []
    round_open: list[int] = []
    square_open: list[int] = []

    def weigh(start: int, factor: float) -> None:
        parts[start:] = [(part, weight * factor) for part, weight in parts[start:]]

    for match in _ATTENTION.finditer(text):
        piece = match[0]
        if piece.startswith("\\"):
            parts.append((piece[1:], 1.0))
        elif piece == "(":
            round_open.append(len(parts))
        elif piece == "[":
            square_open.append(len(parts))
        elif match["weight"] is not None and round_open:
            weigh(round_open.pop(), float(match["weight"]))
        elif piece == ")" and round_open:
            weigh(round_open.pop(), 1.1)
        elif piece == "]" and square_open:
            weigh(square_open.pop(), 1 / 1.1)
        else:
            parts.append((piece, 1.0))
    for start in round_open:
        weigh(start, 1.1)
    for start in square_open:
        weigh(start, 1 / 1.1)
    return _joined(parts)


def _joined(parts: list[tuple[str, float]]) -> list[tuple[str, float]]:
    joined: list[tuple[str, float]] = []
    for part, weight in parts:
        if joined and joined[-1][1] == weight:
            joined[-1] = (joined[-1][0] + part, weight)
        else:
            joined.append((part, weight))
    return joined
