"""From text to words: comments, continued lines, quotes, and a line and column for everything."""

from __future__ import annotations

from dataclasses import dataclass

from templates.errors import FormfileError

FORMFILE_CHARACTERS_MAX = 48 * 1024
"""An inline Formfile fits the record that carries it (registry.fields)."""
LINE_COUNT_MAX = 2000
WORD_COUNT_MAX = 256
ARRAY_DIRECTIVES = frozenset(["RUN", "ENTRYPOINT"])
"""Their brackets and commas are marks; everywhere else they are text."""
_SPACE = " \t"
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}


@dataclass(frozen=True, slots=True)
class Token:
    """One word, unquoted.

    Attributes:
        quoted: Some of it stood in quotes, so brackets and commas in it are text.
    """

    text: str
    line: int
    column: int
    quoted: bool = False

    def fault(self, message: str) -> FormfileError:
        """Return an error at this word."""
        return FormfileError(self.line, self.column, message)


@dataclass(frozen=True, slots=True)
class Character:
    """One character of a logical line and where it stands in the file."""

    text: str
    line: int
    column: int


def lex(text: str) -> list[list[Token]]:
    """Return the words of every instruction; lines without one are left out.

    Raises:
        FormfileError: too long, a control character, or a quote that does not end.
    """
    return [tokens for line in _logical_lines(text) if (tokens := _words(line))]


def is_mark(token: Token, mark: str) -> bool:
    """Whether a word is a bracket or comma of an array, not text that looks like one."""
    return token.text == mark and not token.quoted


def _logical_lines(text: str) -> list[list[Character]]:
    if len(text) > FORMFILE_CHARACTERS_MAX:
        raise FormfileError(1, 1, f"{len(text)} characters; at most {FORMFILE_CHARACTERS_MAX}")
    rows = text.replace("\r\n", "\n").split("\n")
    if len(rows) > LINE_COUNT_MAX:
        raise FormfileError(LINE_COUNT_MAX + 1, 1, f"more than {LINE_COUNT_MAX} lines")
    lines: list[list[Character]] = []
    continued = False
    for number, row in enumerate(rows, 1):
        characters = [Character(c, number, at) for at, c in enumerate(row, 1)]
        for one in characters:
            if (ord(one.text) < 32 and one.text != "\t") or 0x7F <= ord(one.text) < 0xA0:
                raise FormfileError(number, one.column, f"control character {one.text!r}")
            if 0xD800 <= ord(one.text) < 0xE000:
                raise FormfileError(number, one.column, "half a surrogate pair is no character")
        comment = not continued and row.lstrip(_SPACE).startswith("#")
        backslashes = len(row) - len(row.rstrip("\\"))
        ends_open = backslashes % 2 == 1 and not comment
        if ends_open:
            characters[-1] = Character(" ", number, len(row))
        if continued:
            lines[-1] += characters
        else:
            lines.append(characters)
        continued = ends_open
    if continued:
        raise FormfileError(len(rows), len(rows[-1]), "the file ends in a continued line")
    return lines


class _Word:
    """A word while it is read."""

    def __init__(self, start: Character) -> None:
        self.start = start
        self.text: list[str] = []
        self.quoted = False

    def done(self) -> Token:
        return Token("".join(self.text), self.start.line, self.start.column, self.quoted)


def _words(line: list[Character]) -> list[Token]:
    tokens: list[Token] = []
    word: _Word | None = None
    at = 0
    while at < len(line):
        one = line[at]
        if one.text in _SPACE:
            if word is not None:
                tokens.append(word.done())
            word, at = None, at + 1
            continue
        if one.text == "#" and word is None:
            break
        word = word or _Word(one)
        tokens_are_array = bool(tokens) and tokens[0].text in ARRAY_DIRECTIVES
        if one.text in "'\"":
            at = _quoted(line, at, word)
        elif one.text in "[]," and tokens_are_array:
            if word.text or word.quoted:
                tokens.append(word.done())
            tokens.append(Token(one.text, one.line, one.column))
            word, at = None, at + 1
        elif one.text == "\\":
            if at + 1 >= len(line):
                raise FormfileError(one.line, one.column, "a backslash with nothing after it")
            word.text.append(line[at + 1].text)
            word.quoted = True
            at += 2
        else:
            word.text.append(one.text)
            at += 1
    if word is not None:
        tokens.append(word.done())
    if len(tokens) > WORD_COUNT_MAX:
        raise tokens[WORD_COUNT_MAX].fault(f"more than {WORD_COUNT_MAX} words in one instruction")
    return tokens


def _quoted(line: list[Character], at: int, word: _Word) -> int:
    """Read a quoted part into `word` and return where it ends."""
    opening = line[at]
    word.quoted = True
    at += 1
    while at < len(line):
        one = line[at]
        if one.text == opening.text:
            return at + 1
        if one.text == "\\" and opening.text == '"':
            after = line[at + 1].text if at + 1 < len(line) else ""
            if after not in _ESCAPES:
                raise FormfileError(
                    one.line, one.column, f"unknown escape \\{after}; in double quotes: {_KNOWN}"
                )
            word.text.append(_ESCAPES[after])
            at += 2
            continue
        word.text.append(one.text)
        at += 1
    raise FormfileError(opening.line, opening.column, f"the quote {opening.text} does not end")


_KNOWN = " ".join("\\" + name for name in _ESCAPES)


def quote(text: str, *, always: bool = False) -> str:
    """Return `text` as one word of a Formfile; `lex` reads it back as the same text."""
    if not always and text and not set(text) & set(" \t\n'\"\\#[],") and text.isprintable():
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\t", "\\t") + '"'
