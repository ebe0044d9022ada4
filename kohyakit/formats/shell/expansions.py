"""Where a command file names a variable or what a command prints: `$name`, `${name}`, `$(…)`, `%name%`, `!name!`."""

from __future__ import annotations

import re

from kohyakit.formats.shell.pieces import HERE, Reader

_NAME = re.compile(r"[A-Za-z_]\w*")
_PS_NAME = re.compile(r"(?:(?:env|script|global|local):)?[A-Za-z_]\w*", re.IGNORECASE)
_PERCENT = re.compile(r"%(~dp0|[A-Za-z_][\w.-]*)%?")
_OWN_FOLDER = re.compile(
    r"""(?:cd\s+(?:--\s+)?"?\$\(\s*)?dirname\s+(?:--\s+)?"?(?:\$0|\$\{0\}|\$\{BASH_SOURCE(?:\[0\])?\}|\$BASH_SOURCE)"?"""
    r"""(?:\s*\)"?(?:\s*>\s*/dev/null)?\s*(?:&&|;)\s*pwd(?:\s+-P)?)?\s*"""
)
_BRACES = re.compile(r"(\w+)(?:\[[@*]\])?(?::?[-=](.*))?", re.DOTALL)


class Expansions(Reader):
    """Reads what stands for a value; each method is True where it has dealt with what stands at the place."""

    def _dollar(self, quoted: bool) -> bool:
        text, at = self.text, self.at
        following = text[at + 1 : at + 2]
        if following == "(":
            return self._substitution("(", quoted)
        if following == "{":
            return self._braced(quoted)
        pattern = _PS_NAME if self.dialect.name == "PowerShell" else _NAME
        match = pattern.match(text, at + 1)
        if match:
            self.at = match.end()
            name = match[0].rpartition(":")[2]
            self._put(HERE if name.lower() == "psscriptroot" else name, "variable", quoted)
            return True
        if following and following in "@*#?0123456789" and not self.dialect.plain:
            self._put(f"${following}", "unknown", quoted)
            self.at += 2
            return True
        return False

    def _braced(self, quoted: bool) -> bool:
        end = self._closing("{", "}", self.at + 1)
        if end < 0:
            return False
        inner = self.text[self.at + 2 : end]
        if self.dialect.name == "PowerShell":
            inner = inner.rpartition(":")[2]
        match = _BRACES.fullmatch(inner)
        if match and not (match[2] and "$" in match[2]):
            self._put(match[1], "variable", quoted, match[2])
        else:
            self._put(self.text[self.at : end + 1], "unknown", quoted)
        self.line += self.text.count("\n", self.at, end)
        self.at = end + 1
        return True

    def _substitution(self, opening: str, quoted: bool) -> bool:
        """`$(…)` or backticks: what a command prints. No command is run, so it stays unknown."""
        if opening == "`":
            end = self.text.find("`", self.at + 1)
            inner = self.text[self.at + 1 : end]
        else:
            end = self._closing("(", ")", self.at + 1)
            inner = self.text[self.at + 2 : end]
        if end < 0:
            return False
        only = _PS_NAME.fullmatch(inner[1:]) if inner.startswith("$") and self.dialect.name == "PowerShell" else None
        if only:
            self._put(only[0].rpartition(":")[2], "variable", quoted)
        elif _OWN_FOLDER.fullmatch(inner.strip()):
            self._put(HERE, "variable", quoted)
        else:
            self._put(self.text[self.at : end + 1], "unknown", quoted)
        self.line += self.text.count("\n", self.at, end)
        self.at = end + 1
        return True

    def _closing(self, opening: str, closing: str, at: int) -> int:
        depth = 0
        for match in re.compile(f"[{re.escape(opening + closing)}]").finditer(self.text, at, at + 4000):
            depth += 1 if match[0] == opening else -1
            if not depth:
                return match.start()
        return -1

    def _percent(self, quoted: bool) -> bool:
        if self.dialect.name != "cmd" and not self.dialect.plain:
            return False
        text, at = self.text, self.at
        following = text[at + 1 : at + 2]
        match = _PERCENT.match(text, at)
        if match and match[1] == "~dp0":
            self._put(HERE, "variable", quoted)
            self.at = at + 5
        elif match and match[0].endswith("%"):
            self._put(match[1], "variable", quoted)
            self.at = match.end()
        elif self.dialect.plain:
            return False
        elif following == "%":
            loop = re.match(r"%%~?[A-Za-z]\b", text[at : at + 5])
            self._put(loop[0] if loop else "%", "unknown" if loop else "text", quoted)
            self.at = at + (len(loop[0]) if loop else 2)
        elif parameter := re.match(r"%(?:~[a-z]*)?[0-9*]|%\w+:[^%\n]*%", text[at : at + 200]):
            self._put(parameter[0], "unknown", quoted)
            self.at = at + len(parameter[0])
        else:
            return False
        return True

    def _exclamation(self, quoted: bool) -> bool:
        match = re.compile(r"!([A-Za-z_]\w*)!").match(self.text, self.at)
        if not match:
            return False
        self._put(match[1], "variable", quoted)
        self.at = match.end()
        return True
