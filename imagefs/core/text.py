"""Texts made fit to be shown: on a terminal, in a line of a log, in a message. Pure; any thread."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""*text* on one line, with what cannot be printed written as Python does: ``\n``, ``\x1b``, ``\u202e``.

    That is what :meth:`str.isprintable` says: control characters, which a terminal obeys, all that separates lines or
    turns their direction around, spaces that look like others, and lone surrogates, which no stream takes.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def sentence(message: object) -> str:
    """*message*, an error or its text, with a full stop where it has none, so that another sentence can follow."""
    text = str(message)
    return text if text.endswith((".", "!", "?")) else f"{text}."
