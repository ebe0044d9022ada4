"""Foreign text as the pages write it, which read Markdown."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&=\"'^@/])")

# What GitHub's Markdown makes a link of even where every sign of it is escaped: addresses of pages and of mail.
_ADDRESS = re.compile(r"(https?(?=://)|www(?=\.)|@(?=[\w-]))", re.IGNORECASE)
_JOINT = "\u2060"  # a word joiner: nothing to see, no place to break a line


def plain(text: object) -> str:
    """Text from a file as itself where Markdown is read: no emphasis, link, icon, formula or HTML comes of it."""
    line = re.sub(r"\s+", " ", str(text)).strip()
    return _SPECIAL.sub(r"\\\1", _ADDRESS.sub(rf"\1{_JOINT}", line))
