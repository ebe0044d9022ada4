"""Captions with more tokens than are trained: 75, 150 or 225 by max_token_length; the rest is cut off unsaid."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kohyakit.audit.check import Check, Issue, Threshold

if TYPE_CHECKING:
    from kohyakit.audit.look.survey import Survey


def judge(survey: Survey) -> Iterable[Issue]:
    asked = survey.settings.max_token_length
    room = asked or int(survey.limit("caption_tokens"))
    captions = survey.captions[~survey.captions["is_reg"] & (survey.captions["repeats"] > 0)]
    for row in captions[captions["tokens"] > room].itertuples():
        enough = next((size for size in (75, 150, 225) if row.tokens <= size), None)
        if asked:
            severity, detail = "warning", f"{row.tokens} tokens, and the last {row.tokens - room} are cut off"
        elif enough:
            severity, detail = (
                "hint",
                f"{row.tokens} tokens; without max_token_length the last {row.tokens - room} are cut off",
            )
        else:
            severity, detail = "warning", f"{row.tokens} tokens, more than any setting trains (225)"
        action = f"shorten it, or set max_token_length = {enough}" if enough else "shorten it to 225 tokens"
        yield Issue(row.caption_path, "long_caption", severity, detail, action)


CHECK = Check(
    issues={"long_caption": "caption too long"},
    judge=judge,
    quick=True,
    thresholds=(Threshold("caption_tokens", 75, "tokens above which a caption is long, where no config says"),),
)
