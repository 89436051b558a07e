"""Contents for programs that know nothing of the service: plain GET and HEAD, and an index of links.

``/content/ID`` and ``/plain/REGION/NAME`` are the bytes of an image, ``/plain/`` and ``/plain/REGION/`` are
indexes that any client of web directories can read. Used by the site, on the connection threads.
"""

from __future__ import annotations

import html
from email.utils import formatdate
from urllib.parse import quote, unquote

from imagefs.emulator.account import Account
from imagefs.emulator.answers import Answer, body_answer, content_answer
from imagefs.emulator.images import Image, modified_s
from imagefs.emulator.wire import Refusal

NOT_FOUND = body_answer(404, "text/plain", b"There is nothing here.\n")


class PlainFiles:
    """The active images of *account* as files."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def answer(self, path: str, asked_range: str | None) -> Answer:
        """The answer to a GET of *path*, still percent-encoded."""
        parts = [unquote(part) for part in path.split("/")[1:]]
        match parts:
            case ["content", image_id]:
                return self._by_id(image_id, asked_range)
            case ["plain", ""]:
                return _index([region + "/" for region in self._account.regions()])
            case ["plain", region, ""] if region in self._account.regions():
                return _index(list(dict.fromkeys(image.name for image in self._active(region))))
            case ["plain", region, name]:
                named = [image for image in self._active(region) if image.name == name]
                return self._content(named[0], asked_range) if named else NOT_FOUND
        return NOT_FOUND

    def _by_id(self, image_id: str, asked_range: str | None) -> Answer:
        try:
            image = self._account.get(image_id)
        except Refusal:
            return NOT_FOUND
        return self._content(image, asked_range)

    def _active(self, region: str) -> list[Image]:
        return [
            image for image in self._account.images() if image.region == region and image.status == "active"
        ]

    def _content(self, image: Image, asked_range: str | None) -> Answer:
        if image.content is None or image.status != "active":
            return NOT_FOUND
        path = self._account.contents.path(image.content)
        answer = content_answer(path, image.content.size_bytes, asked_range)
        answer = answer.with_header("Last-Modified", formatdate(modified_s(image), usegmt=True))
        return answer.with_header("Accept-Ranges", "bytes").with_header("ETag", f'"{image.content.checksum}"')


def _index(names: list[str]) -> Answer:
    links = "".join(f'<a href="{_href(name)}">{html.escape(name)}</a>\n' for name in names)
    head = "<!DOCTYPE html><html><head><title>Images</title></head><body>"
    page = f"{head}<pre>\n{links}</pre></body></html>\n"
    return body_answer(200, "text/html; charset=utf-8", page.encode("utf-8", "surrogatepass"))


def _href(name: str) -> str:
    """A relative link to *name*; only a directory's last slash is one."""
    directory = "/" if name.endswith("/") else ""
    return "./" + quote(name.removesuffix("/").encode("utf-8", "surrogatepass"), safe="") + directory
