"""Answers of the service to models: strict about what bytes depend on, tolerant about everything else.

Numbers are read as the text that the service sent, so that no answer can overflow or lose digits; ``NaN``
and ``Infinity``, which JSON does not know, count as missing. A bad row or field costs that row or field,
never its neighbours. Pure; used by the client on any thread.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from imagefs.core.models import LARGEST_IMAGE_BYTES, ImageDetails, ListedImage
from imagefs.errors import MalformedAnswer

_KINDS: Final = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "a truth value",
    type(None): "nothing",
}

MOST_VALUES: Final = 1_000_000
"""How many values an answer may hold: parsed, they take up to a hundred times the memory of their text."""

MOST_PROBLEMS: Final = 100
"""How many problems of a listing are reported one by one."""

FIELDS_CHARACTERS: Final = 16_384
"""How much text is kept of an image's fields."""

_IMAGE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_CHECKSUM: Final = re.compile(r"[0-9A-Fa-f]{32}", re.ASCII)
_WHOLE_NUMBER: Final = re.compile(r"([0-9]{1,20})(?:\.0{1,20})?", re.ASCII)
_SECONDS: Final = re.compile(r"[0-9]{9,10}(\.[0-9]{1,9})?", re.ASCII)
_LONGEST_TIME: Final = 64
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Answer = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Listing:
    """The answer to ``image/list``: its usable rows, each id once, and a sentence for each problem."""

    images: tuple[ListedImage, ...]
    problems: tuple[str, ...] = ()


def answer_object(body: bytes) -> Answer:
    """The JSON object that *body* holds.

    Bytes that are not UTF-8 become lone surrogates, so that one odd name does not cost a whole listing.

    Raises `MalformedAnswer`: not JSON, not an object, nested too deep, or of more values than make sense.
    """
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MOST_VALUES:  # marks within texts count as well
        raise MalformedAnswer(f"the service's answer holds more than {MOST_VALUES} values")
    try:
        answer = json.loads(
            body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape"),
            parse_int=str,
            parse_float=str,
            parse_constant=lambda _name: None,
        )
    except RecursionError:
        raise MalformedAnswer("the service's answer is nested too deep") from None
    except ValueError:
        raise MalformedAnswer("the service's answer is not JSON") from None
    if not isinstance(answer, dict):
        raise MalformedAnswer(f"the service's answer is {_kind(answer)} and not an object")
    return answer


def refusal_text(answer: Answer) -> str | None:
    """The text of a refusal, which is a ``success`` other than yes or just an ``error``; else None."""
    success = answer.get("success")
    if success is None:
        payload = any(answer.get(name) for name in ("images", "details", "image_id"))
        refused = bool(answer.get("error")) and not payload
    else:
        refused = not (
            success is True or (isinstance(success, str) and success.lower() in ("yes", "true", "1"))
        )
    if not refused:
        return None
    try:
        return field_text(answer.get("error") or answer.get("message")) or "no reason given"
    except RecursionError:
        return "no reason that makes sense"


def listing(answer: Answer) -> Listing:
    """The rows of an ``image/list`` answer, in its order; they may also come as an object, by their ids.

    Null, an empty object and an empty text are an empty list: some servers write one so, and this service has an
    empty text for empty ``metadata``.

    Raises `MalformedAnswer` where ``images`` is missing or something else, and where none of its rows makes sense: an
    empty listing would read as an emptied account.
    """
    rows = answer.get("images")
    if "images" in answer and (rows is None or rows in ({}, "")):
        return Listing(())
    if isinstance(rows, dict):
        rows = [{"image_id": key, **row} if isinstance(row, dict) else row for key, row in rows.items()]
    if not isinstance(rows, list):
        raise MalformedAnswer(f"the service's listing holds {_kind(rows)} in place of its images")
    images: dict[str, ListedImage] = {}
    problems: list[str] = []
    for number, row in enumerate(rows, start=1):
        image, problem = _listed_image(row)
        if problem:
            problems.append(f"row {number} of the listing {problem}")
        elif image is not None and image.image_id in images:
            problems.append(f"row {number} of the listing repeats image {image.image_id}")
        if len(problems) > MOST_PROBLEMS:
            problems[MOST_PROBLEMS:] = ["more rows of the listing make no sense"]
        if image is not None:
            images.setdefault(image.image_id, image)
    if problems and not images:
        raise MalformedAnswer(f"no row of the service's listing makes sense: {problems[0]}")
    return Listing(tuple(images.values()), tuple(problems))


def _listed_image(row: object) -> tuple[ListedImage | None, str | None]:
    """The image of one row, and what is wrong with the row; no image where it lacks an id or a region."""
    if not isinstance(row, dict):
        return None, f"is {_kind(row)} and not an object"
    image_id = usable_image_id(row.get("image_id"))
    if image_id is None:
        return None, "has no usable image id"
    region, name, status = row.get("region"), row.get("name"), row.get("status")
    if not isinstance(region, str) or not region:
        return None, f"names no region for image {image_id}"
    problem = None
    if name is not None and not isinstance(name, str):
        problem = f"gives {_kind(name)} as the name of image {image_id}"
    image = ListedImage(
        image_id=image_id,
        name=name if isinstance(name, str) else "",
        region=region,
        status=status if isinstance(status, str) else "",
    )
    return image, problem


def image_details(image_id: str, answer: Answer) -> ImageDetails:
    """The details of one image.

    Raises `MalformedAnswer` where ``details`` is not an object.
    """
    details = answer.get("details")
    if not isinstance(details, dict):
        raise MalformedAnswer(
            f"the service's answer holds {_kind(details)} in place of the details of {image_id}"
        )
    try:
        text = {name: field_text(value) for name, value in details.items()}
    except RecursionError:
        raise MalformedAnswer(f"the details of image {image_id} are nested too deep") from None
    size_bytes, size_problem = _size(details.get("size"))
    checksum, checksum_problem = _checksum(details.get("checksum"))
    return ImageDetails(
        image_id=image_id,
        name=text.get("name", ""),
        region=text.get("region", ""),
        status=text.get("status", ""),
        size_bytes=size_bytes,
        checksum=checksum,
        time_created_ns=time_ns(details.get("time_created")),
        fields=_kept(text),
        problem=size_problem or checksum_problem,
    )


def _kept(text: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The fields that are kept of an image, so that many images with huge ones fit into memory."""
    kept = []
    left = FIELDS_CHARACTERS
    for field in text.items():
        left -= sum(map(len, field))
        if left < 0:
            break
        kept.append(field)
    return tuple(kept)


def new_image_id(answer: Answer) -> str:
    """The id that ``image/fetch`` or ``image/replicate`` answered.

    Raises `MalformedAnswer` where there is none.
    """
    image_id = usable_image_id(answer.get("image_id"))
    if image_id is None:
        raise MalformedAnswer("the service's answer holds no usable image id")
    return image_id


def usable_image_id(value: object) -> str | None:
    """*value* if it can be an image's id, which is 1 to 64 letters, digits, ``_`` and ``-``; else None."""
    return value if isinstance(value, str) and _IMAGE_ID.fullmatch(value) else None


def field_text(value: object) -> str:
    """A field's value as text: texts and numbers as sent, nothing as the empty text, the rest as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _size(value: object) -> tuple[int | None, str | None]:
    """A size in bytes, and what is wrong with it. Servers that reckon in floating point write ``5.0`` for 5."""
    if value is None or value == "":
        return None, "the service gives no size"
    if isinstance(value, str) and (number := _WHOLE_NUMBER.fullmatch(value)):
        size_bytes = int(number[1])
        if size_bytes <= LARGEST_IMAGE_BYTES:
            return size_bytes, None
        return None, f"the service gives a size of more than {LARGEST_IMAGE_BYTES >> 40} TiB: {value}"
    return None, f"the service gives a size that makes no sense: {field_text(value)[:40]!a}"


def _checksum(value: object) -> tuple[str | None, str | None]:
    """An MD5 in lower-case hex, and what is wrong with it. One that is not there (yet) is no problem."""
    if value is None or value == "":
        return None, None
    if isinstance(value, str) and _CHECKSUM.fullmatch(value):
        return value.lower(), None
    return None, f"the service gives a checksum that is no MD5: {field_text(value)[:40]!a}"


def time_ns(value: object) -> int | None:
    """Nanoseconds since the epoch, which is UTC unless *value* says otherwise; None if it is no time.

    It may be as in ISO 8601, seconds since the epoch, or as in mail and HTTP (RFC 5322, RFC 9110).
    """
    if not isinstance(value, str):
        return None
    moment = _moment(value.strip())
    if moment is None:
        return None
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    nanoseconds = since // timedelta(microseconds=1) * 1000
    return nanoseconds if nanoseconds >= 0 else None


def _moment(text: str) -> datetime | None:
    if _SECONDS.fullmatch(text):
        return _EPOCH + timedelta(seconds=float(text))
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        with suppress(ValueError, OverflowError):
            return parse(text[:_LONGEST_TIME])
    return None


def _kind(value: object) -> str:
    """What *value* is, in words."""
    return _KINDS.get(type(value), "something else")
