"""The grammar of the control file's lines: ``URL [name=NAME] [format=iso|qcow2] [virtio=yes|no]``.

Used by the tree, on trio's thread, and by the account for the form of a URL that may be shown; pure. No message ever
holds a part of the line that could be a password.
"""

from __future__ import annotations

import io
import re
import shlex
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from imagefs.errors import InvalidArgument

SCHEMES: Final = ("http", "https", "ftp")
"""What the service downloads from (its page, image/fetch)."""

FORMATS: Final = ("iso", "qcow2")
"""The formats that the service knows (its page, image/fetch)."""

_KEYS: Final = ("name", "format", "virtio")
_FORMAT_OF: Final = {"iso": "iso", "qcow2": "qcow2", "img": "qcow2"}
_UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f-\xa0\ud800-\udfff]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """One image to be downloaded by the service. ``repr`` does not show the URL, which may hold credentials."""

    url: str = field(repr=False)
    name: str
    image_format: str
    virtio: bool = False

    @property
    def shown_url(self) -> str:
        """The URL as it may be shown."""
        return shown_url(self.url)


def parse_line(line: str) -> FetchRequest | None:
    """What one line asks for; None where it is empty or only a comment.

    Words are quoted as in a shell; ``#`` at the start of a word begins a comment. The name defaults to the
    last segment of the URL's path, the format to the extension of either. Raises InvalidArgument, with a
    sentence that says what is wrong.
    """
    words = _words(line)
    if not words:
        return None
    url, *options = words
    segment = _checked_segment(url)
    chosen = _options(options)
    name = chosen.get("name", segment)
    if not name:
        raise InvalidArgument("The URL does not end in a file name: give one with name=NAME.")
    if _CONTROL.search(name):
        raise InvalidArgument("The name holds control characters: give another with name=NAME.")
    return FetchRequest(
        url,
        name,
        _format(chosen.get("format"), name, segment),
        virtio=_one_of("virtio", chosen.get("virtio", "no"), ("yes", "no")) == "yes",
    )


def shown_url(url: str) -> str:
    """*url* without credentials, query and fragment: all that a log, a file or an attribute may show of it."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "(malformed URL)"
    host = parts.netloc.rpartition("@")[2]
    shown = urlunsplit((parts.scheme, host, parts.path, "", ""))
    return "".join(ch if ch.isprintable() and ch != " " else _escape(ch) for ch in shown)


def _words(line: str) -> list[str]:
    """The words of *line*, unquoted, up to a comment.

    shlex itself would begin a comment inside a word too, and cut a URL at its fragment.
    """
    source = io.StringIO(line)
    lexer = shlex.shlex(source, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words = []
    try:
        while not line[source.tell() :].lstrip(lexer.whitespace).startswith("#"):
            word = lexer.get_token()
            if word is None:
                break
            words.append(word)
    except ValueError as error:
        raise InvalidArgument("The line ends inside a quotation.") from error
    return words


def _checked_segment(url: str) -> str:
    """The last segment of the path of *url*, decoded; raises InvalidArgument for a URL that cannot be used."""
    if _UNPRINTABLE.search(url):
        raise InvalidArgument("The URL holds spaces or control characters; write them as %XX.")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidArgument("The URL is malformed.") from error
    if parts.scheme not in SCHEMES:
        raise InvalidArgument("A line begins with a URL of http, https or ftp.")
    if not host:
        raise InvalidArgument("The URL names no host.")
    segment = parts.path.rpartition("/")[2]
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        return segment


def _options(words: list[str]) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in _KEYS:
            raise InvalidArgument("After the URL come only name=NAME, format=iso|qcow2 and virtio=yes|no.")
        if key in chosen:
            raise InvalidArgument(f"{key}= is given twice.")
        if not value:
            raise InvalidArgument(f"{key}= has no value.")
        chosen[key] = value
    return chosen


def _format(chosen: str | None, name: str, segment: str) -> str:
    if chosen is not None:
        return _one_of("format", chosen, FORMATS)
    told = {_FORMAT_OF.get(text.rpartition(".")[2].lower()) for text in (name, segment) if "." in text}
    told.discard(None)
    if len(told) != 1:
        reason = "say different things about the format" if told else "do not tell the format"
        raise InvalidArgument(f"The URL and the name {reason}: give format=iso or format=qcow2.")
    return str(told.pop())


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise InvalidArgument(f"{key}= is {' or '.join(allowed)}.")
    return value


def _escape(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))
