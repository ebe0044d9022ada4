"""The text of a command file -> its commands, each a list of words made of text and of variables, nothing expanded.

Quotes, comments, continued lines, separators and redirections are read as the file's own shell reads them, save where
that would break what is plainly meant (a blank behind the sign that goes on, another shell's sign): that is said.
"""

from __future__ import annotations

import re

from kohyakit.formats.shell.expansions import Expansions
from kohyakit.formats.shell.pieces import Command, OpenQuote, Word

_RUN = re.compile(r"[^\s\"'`\\^$%!#;&|<>()@{}\xa0]+")
_GOES_ON = re.compile(r"([\\^`])([ \t]*)(?:\n|\Z)")
_REDIRECT = re.compile(r"(?:\d|&|\*)?>{1,2}(?:&\d)?|<(?=\s)|<{2,3}")
_HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")
_SEPARATOR = re.compile(r"&&|\|\||;;|[;&|]")
_NAME = re.compile(r"[A-Za-z_]\w*")
_BLANKS = " \t\f\v\xa0"
_OPTION_AHEAD = re.compile(r"(?:[ \t\xa0]*\n)*[ \t\xa0]*--[A-Za-z]")


class Lexer(Expansions):
    """Reads one text into its commands."""

    def commands(self) -> list[Command]:
        """Every command of the text. Raises OpenQuote."""
        while self.at < len(self.text):
            self._step()
        self._end_command("")
        return self.found

    def items(self) -> list[Word]:
        """The text as one list of words, line ends and commas between them counting as blanks. Raises OpenQuote."""
        self.one_command, self.commas = True, self.dialect.name == "PowerShell"
        self.commands()
        return [word for command in self.found for word in command.words]

    # what stands at the place

    def _step(self) -> None:
        text, at = self.text, self.at
        character = text[at]
        if self.word is None and ((not self.words and self._comment_line()) or self._redirect()):
            return
        run = _RUN.match(text, at)
        if run:
            self._run(run[0])
            self.at = run.end()
        elif character == "\n":
            self._line_end()
        elif character in _BLANKS or character.isspace():
            self._end_word()
            self.at += 1
        elif not self._continued() and not self._special(character):
            self._put(character)
            self.at += 1

    def _run(self, text: str) -> None:
        """Characters that mean nothing, but for the commas of a list."""
        first, *others = text.split(",") if self.commas else [text]
        if first:
            self._put(first)
        for part in others:
            self._end_word()
            if part:
                self._put(part)

    def _comment_line(self) -> bool:
        end = self._line_stop()
        if not self.dialect.comment(self.text[self.at : end]):
            return False
        self.at = self.start = end
        return True

    def _line_stop(self) -> int:
        end = self.text.find("\n", self.at)
        return len(self.text) if end < 0 else end

    def _special(self, character: str) -> bool:
        """A character that means something here; True where it has been dealt with."""
        name = self.dialect.name
        if character in "\"'":
            return self._quote(character)
        if character == "#":
            return self._comment()
        if character in ";&|":
            return self._separator()
        if character == "$" and (name != "cmd" or self.dialect.plain):
            return self._dollar(quoted=False)
        if character == "%":
            return self._percent(quoted=False)
        if character == "!" and name == "cmd" and self.delayed:
            return self._exclamation(quoted=False)
        if character in "\\^`":
            return self._escape(character)
        if character == "(":
            return self._list()
        return character == "@" and name != "cmd" and self._at_sign()

    # lines

    def _line_end(self) -> None:
        goes_on = self.one_command or (bool(self.words or self.word) and self._option_ahead())
        if goes_on:
            self._end_word()
            if not self.dialect.plain and not self.one_command:
                self.say(self.line + 1, "begins with an option, but the line before does not go on")
        else:
            self._end_command("\n")
        self.at += 1
        self.line += 1
        if self.heredoc and not goes_on:
            self._skip_heredoc()
        if goes_on:
            self._skip_comments()

    def _option_ahead(self) -> bool:
        """Does the next line begin with an option? Comments between them do not part it from its command."""
        at = self.at + 1
        while self.dialect.plain or self.text[at : at + 1] not in ("\n", ""):
            end = self.text.find("\n", at)
            if end < 0 or not self.dialect.comment(self.text[at:end]):
                break
            at = end + 1
        return bool(_OPTION_AHEAD.match(self.text, at))

    def _skip_comments(self) -> None:
        """Comment lines between continued lines."""
        while self.at < len(self.text):
            end = self._line_stop()
            if not self.dialect.comment(self.text[self.at : end]):
                return
            self.at = min(end + 1, len(self.text))
            self.line += 1

    def _skip_heredoc(self) -> None:
        end = re.compile(rf"^[ \t]*{re.escape(self.heredoc)}[ \t]*$", re.MULTILINE).search(self.text, self.at)
        self.heredoc = ""
        stop = end.end() if end else len(self.text)
        self.line += self.text.count("\n", self.at, stop)
        self.at = self.start = stop

    def _continued(self) -> bool:
        """A line that goes on on the next one."""
        match = _GOES_ON.match(self.text, self.at)
        if not match:
            return False
        sign, blanks = match[1], match[2]
        touches = self.word is not None
        own = sign == self.dialect.sign
        if touches and (not own or (match.end() == len(self.text) and self._is_path())):
            return False
        if not own and not self.dialect.plain:
            self.say(self.line, f"ends in {sign}, where {self.dialect.name} wants {self.dialect.sign} to go on")
        elif blanks and match.end() < len(self.text) and not self.dialect.plain:
            self.say(self.line, f"has a blank behind the {sign} at its end, so {self.dialect.name} would stop there")
        if not touches or self.text[match.end() : match.end() + 1] in ("-", "\n", ""):
            self._end_word()
        self.at = match.end()
        self.line += self.text.count("\n", match.start(), match.end())
        self._skip_comments()
        return True

    def _comment(self) -> bool:
        if self.word is not None or (self.dialect.name == "cmd" and not self.dialect.plain):
            return False
        self.at = self._line_stop()
        if not self.words:
            self.start = self.at
        return True

    # quotes and escapes

    def _quote(self, mark: str) -> bool:
        if mark == "'" and self.dialect.name == "cmd" and not self._cmd_quote():
            return False
        self._put("", quoted=True)
        begin = self.line
        self.at += 1
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == mark:
                if self.text[self.at + 1 : self.at + 2] == mark and self._doubles(mark):
                    self._put(mark, quoted=True)
                    self.at += 2
                    continue
                self.at += 1
                return True
            self._inside(character, mark)
        raise OpenQuote(f"line {begin}: no closing quotation")

    def _cmd_quote(self) -> bool:
        """cmd knows no single quotes; around a whole value they are plainly meant as quotes."""
        before = self.text[self.at - 1 : self.at]
        end = self.text.find("'", self.at + 1, self._line_stop())
        if (before and before not in " \t\n=") or end < 0 or self.text[end + 1 : end + 2] not in ("", " ", "\t", "\n"):
            return False
        if not self.dialect.plain:
            self.say(self.line, "has single quotes, which cmd hands on as a part of the value; write double quotes")
        return True

    def _doubles(self, mark: str) -> bool:
        """Do two quotes within quotes stand for one?"""
        return self.dialect.name == "PowerShell" and not self.dialect.plain

    def _inside(self, character: str, mark: str) -> None:
        """One character within quotes."""
        name = self.dialect.name
        following = self.text[self.at + 1 : self.at + 2]
        if character == "\n":
            if name == "cmd" or self.dialect.plain:
                raise OpenQuote(f"line {self.line}: no closing quotation")
            self.line += 1
        if mark == '"' and self._escaped_inside(character, following):
            self._put(following if following != "\n" else "", quoted=True)
            self.line += following == "\n"
            self.at += 2
            return
        expands = mark == '"' or name == "cmd"
        if expands and character == "$" and (name != "cmd" or self.dialect.plain) and self._dollar(quoted=True):
            return
        if expands and character == "%" and self._percent(quoted=True):
            return
        if expands and character == "!" and name == "cmd" and self.delayed and self._exclamation(quoted=True):
            return
        if expands and character == "`" and name == "sh" and not self.dialect.plain and self._substitution("`", True):
            return
        self._put(character, quoted=True)
        self.at += 1

    def _escaped_inside(self, character: str, following: str) -> bool:
        if character == "`" and self.dialect.name == "PowerShell":
            return following != ""
        if character != "\\":
            return False
        if self.dialect.name == "sh" and not self.dialect.plain:
            return following != "" and following in '"\\$`\n'
        # a folder's last backslash before the closing quote, or a quote within quotes?
        closes = self.text[self.at + 2 : self.at + 3] in ("", " ", "\t", "\n", ")")
        if following == '"' and closes and self.dialect.name == "cmd" and not self.dialect.plain:
            what = 'has \\" at the end of a value, which Windows takes for a quote inside it; leave the \\ out'
            self.say(self.line, what)
        return following == '"' and not closes

    def _escape(self, character: str) -> bool:
        """A sign that takes the meaning off the next character, outside of quotes."""
        following = self.text[self.at + 1 : self.at + 2]
        if self.dialect.plain:
            return False
        if character == "`" and self.dialect.name == "sh":
            return self._substitution("`", False)
        if character != self.dialect.sign or following in ("", "\n"):
            return False
        if character == "\\" and (following.isalnum() or following in "._-"):
            if not self._is_path():
                self.say(self.line, "has a backslash outside of quotes, which sh takes out; write / or quote the path")
            return False
        self._put(following, quoted=True)
        self.at += 2
        return True

    # lists, redirections, separators

    def _list(self) -> bool:
        """`X=(a b)` of sh and `@(a, b)` of PowerShell: their words."""
        if self.dialect.name != "sh" or self.word is None or len(self.word.pieces) != 1:
            return False
        if not re.fullmatch(r"\w+\+?=", self.word.plain):
            return False
        self._items(self.at)
        return True

    def _items(self, opening: int) -> None:
        """The words between the bracket at this place and the one that closes it."""
        assert self.word is not None
        end = self._list_end(opening)
        self.word.items = Lexer(self.text[opening + 1 : end], self.dialect).items()
        self.line += self.text.count("\n", opening, end)
        self.at = end + 1

    def _list_end(self, at: int) -> int:
        depth, quote = 0, ""
        for place in range(at, len(self.text)):
            character = self.text[place]
            if quote:
                quote = "" if character == quote else quote
            elif character in "\"'":
                quote = character
            elif character in "()":
                depth += 1 if character == "(" else -1
                if not depth:
                    return place
        return len(self.text)

    def _at_sign(self) -> bool:
        """PowerShell: `@name` hands a list on, `@(` begins one; `@"` begins a text over several lines."""
        if self.dialect.name != "PowerShell" or (self.word is not None and not self.word.pieces[-1].text.endswith("=")):
            return False
        if self.text[self.at + 1 : self.at + 2] == "(":
            self._put("")
            self._items(self.at + 1)
            return True
        match = _NAME.match(self.text, self.at + 1)
        if match:
            self._put(match[0], "variable")
            self.at = match.end()
            return True
        mark = self.text[self.at + 1 : self.at + 2]
        if mark not in ('"', "'") or self.text[self.at + 2 : self.at + 3] != "\n":
            return False
        end = self.text.find(f"\n{mark}@", self.at + 2)
        if end < 0:
            raise OpenQuote(f"line {self.line}: no closing quotation")
        self._put(self.text[self.at + 3 : end], quoted=True)
        self.line += self.text.count("\n", self.at, end + 1)
        self.at = end + 3
        return True

    def _redirect(self) -> bool:
        if self.word is not None:
            return False
        heredoc = _HEREDOC.match(self.text, self.at) if self.dialect.name == "sh" else None
        if heredoc:
            self.heredoc, self.at = heredoc[2], heredoc.end()
            return True
        match = _REDIRECT.match(self.text, self.at)
        if not match:
            return False
        self.at = match.end()
        self.skip_next = not re.search(r"&\d$", match[0])
        return True

    def _separator(self) -> bool:
        match = _SEPARATOR.match(self.text, self.at)
        if not match or (match[0].startswith(";") and self.dialect.name == "cmd" and not self.dialect.plain):
            return False
        if self.dialect.plain:
            alone = self.word is None and self.text[match.end() : match.end() + 1] in ("", " ", "\t", "\n")
            ends = match[0] == ";" and self.text[match.end() : match.end() + 1] in ("", "\n")
            if not alone and not ends:
                return False
        if match[0] == "&" and self.dialect.name == "PowerShell" and self.word is None and not self.words:
            self.at += 1  # the sign that starts a program
            return True
        self._end_command(match[0])
        self.at = match.end()
        self.start = self.at
        return True
