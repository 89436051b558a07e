"""What each kind of fault does to a call: two tables from kinds to small functions.

Used by the site, on the connection threads.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from imagefs.emulator.account import Account
from imagefs.emulator.answers import (
    Answer,
    Ending,
    FileSpan,
    Segment,
    body_answer,
    length_of,
    refusal_answer,
    slice_of,
)
from imagefs.emulator.faults import Fault
from imagefs.emulator.wire import rendered

PAGE: Final = b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body>Back soon.</body></html>\n"

INTERIM: Final = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"

Instead = Callable[[Fault], Answer]
Altering = Callable[[Answer, Fault, Account], Answer]


def _status(fault: Fault) -> Answer:
    answer = body_answer(fault.status or 503, "text/plain", b"The service is not available.\n")
    return answer.with_header("Retry-After", fault.retry_after) if fault.retry_after else answer


def _redirect(fault: Fault) -> Answer:
    return body_answer(fault.status or 302, "text/html", PAGE).with_header("Location", str(fault.value))


INSTEAD: Final[dict[str, Instead]] = {
    "status": _status,
    "redirect": _redirect,
    "html": lambda fault: body_answer(fault.status or 200, "text/html", PAGE),
    "refused": lambda fault: refusal_answer(str(fault.value), fault.status or 200),
    "never_answers": lambda _: Answer(silent=True, ending=Ending.STALL),
}
"""Faults in place of the answer: the action is not carried out."""


def _cut(ending: Ending) -> Altering:
    return lambda answer, fault, _: replace(answer, ending=ending, cut_after_bytes=fault.after_bytes)


def _trickle(answer: Answer, fault: Fault, _: Account) -> Answer:
    rate = float(fault.value or 1.0)
    return replace(answer, ending=Ending.TRICKLE, cut_after_bytes=fault.after_bytes, trickle_bytes_per_s=rate)


def _header_flood(answer: Answer, fault: Fault, _: Account) -> Answer:
    flood = tuple((f"X-Flood-{index}", "x" * 100) for index in range(int(fault.value or 10_000)))
    return replace(answer, headers=answer.headers + flood)


def _length_wrong(answer: Answer, fault: Fault, _: Account) -> Answer:
    return replace(
        answer, framing="length", announced_bytes=max(0, answer.body_bytes + int(fault.value or -1))
    )


def _trailing_bytes(answer: Answer, fault: Fault, _: Account) -> Answer:
    return replace(answer, body=(*answer.body, b"\xa5" * int(fault.value or 1)))


def _gzip(answer: Answer, _: Fault, __: Account) -> Answer:
    packed = gzip.compress(b"".join(map(_bytes_of, answer.body)), compresslevel=1)
    return replace(answer, body=(packed,)).with_header("Content-Encoding", "gzip")


def _on_content(change: Callable[[Answer, FileSpan, Fault, Account], Answer]) -> Altering:
    """An effect on an answer that is a content or a part of it; any other is left as it is."""

    def alter(answer: Answer, fault: Fault, account: Account) -> Answer:
        span = answer.body[0] if answer.body else b""
        return answer if isinstance(span, bytes) else change(answer, span, fault, account)

    return alter


def _unasked_206(answer: Answer, span: FileSpan, fault: Fault, _: Account) -> Answer:
    """The content from ``after_bytes`` on as a part, though the whole was asked for."""
    where = f"bytes {fault.after_bytes}-{span.end - 1}/{span.end}"
    part = replace(span, start=fault.after_bytes)
    return replace(answer, status=206, body=(part,)).with_header("Content-Range", where)


def _wrong_content_range(answer: Answer, fault: Fault, _: Account) -> Answer:
    return answer.with_header("Content-Range", str(fault.value or "bytes 7-7/8"))


def _corrupt_byte(answer: Answer, fault: Fault, _: Account) -> Answer:
    """The byte at ``after_bytes`` of the body has all its bits flipped."""
    body: list[Segment] = []
    position = 0
    for segment in answer.body:
        at = fault.after_bytes - position
        position += length_of(segment)
        if not 0 <= at < length_of(segment):
            body.append(segment)
            continue
        wrong = bytes([_bytes_of(slice_of(segment, at, at + 1))[0] ^ 0xFF])
        body += [slice_of(segment, 0, at), wrong, slice_of(segment, at + 1, length_of(segment))]
    return replace(answer, body=tuple(body))


def _other_image(answer: Answer, span: FileSpan, fault: Fault, account: Account) -> Answer:
    """The same part of the image whose id is ``value``, under this one's headers."""
    other = account.get(str(fault.value)).content
    if other is None:
        raise ValueError(f"The image {fault.value} has no content to serve.")
    part = FileSpan(account.contents.path(other), span.start, min(span.end, other.size_bytes))
    return replace(answer, body=(part,))


def _range_ignored(answer: Answer, span: FileSpan, _: Fault, __: Account) -> Answer:
    """The whole content with status 200, though a part was asked for."""
    whole = replace(span, start=0, end=span.path.stat().st_size)
    return replace(answer, status=200, body=(whole,)).without_header("Content-Range")


def _json_content(answer: Answer, fault: Fault, _: Account) -> Answer:
    """A refusal under the status and headers of a content."""
    text = str(fault.value or "image is temporarily unavailable")
    return replace(answer, body=(rendered({"success": "no", "error": text}),))


def _truncated_json(answer: Answer, fault: Fault, _: Account) -> Answer:
    whole = b"".join(map(_bytes_of, answer.body))
    return replace(answer, body=(whole[: fault.after_bytes or len(whole) // 2],))


def _huge_json(answer: Answer, fault: Fault, _: Account) -> Answer:
    """The answer with ``value`` bytes of spaces (64 MiB where not given) before it: still valid JSON."""
    return replace(answer, body=(b" " * int(fault.value or 64 << 20), *answer.body))


def _deep_json(answer: Answer, fault: Fault, _: Account) -> Answer:
    depth = int(fault.value or 100_000)
    return replace(answer, body=(b"[" * depth + b"]" * depth,))


def _on_json(change: Callable[[dict[str, Any], Fault], object]) -> Altering:
    """An effect that changes the answer's JSON in place."""

    def alter(answer: Answer, fault: Fault, _: Account) -> Answer:
        payload = json.loads(b"".join(map(_bytes_of, answer.body)))
        change(payload, fault)
        return replace(answer, body=(rendered(payload),))

    return alter


def _rows(payload: dict[str, Any]) -> list[dict[str, Any]]:
    """The images that an answer to list or details is about."""
    return payload["images"] if "images" in payload else [payload["details"]]


def _set_fields(payload: dict[str, Any], fields: dict[str, Any]) -> None:
    for row in _rows(payload):
        row.update(fields)


def _drop_fields(payload: dict[str, Any], fault: Fault) -> None:
    for row in _rows(payload):
        for name in tuple(row) if fault.value is None else fault.value:
            row.pop(name, None)


def _cut_list(payload: dict[str, Any], fault: Fault) -> None:
    keep = len(payload["images"]) // 2 if fault.value is None else int(fault.value)
    del payload["images"][keep:]


def _on_replica(fields: Callable[[Fault], dict[str, Any]]) -> Altering:
    """An effect that gives the replica named in the answer other details than its source's."""

    def alter(answer: Answer, fault: Fault, account: Account) -> Answer:
        replica = account.get(_replica_id(answer))
        account.change(replica.image_id, overrides={**replica.overrides, **fields(fault)})
        return answer

    return alter


def _replica_killed(answer: Answer, _: Fault, account: Account) -> Answer:
    replica = account.get(_replica_id(answer))
    if replica.settling is None:  # it was faster
        account.change(replica.image_id, status="killed")
    elif replica.settling.settles_at_s is not None:
        account.settle(replica.image_id, becomes="killed", at_s=replica.settling.settles_at_s)
    return answer


def _replica_id(answer: Answer) -> str:
    return str(json.loads(b"".join(map(_bytes_of, answer.body)))["image_id"])


def _bytes_of(segment: Segment) -> bytes:
    if isinstance(segment, bytes):
        return segment
    with segment.path.open("rb") as file:
        file.seek(segment.start)
        return file.read(length_of(segment))


ALTERING: Final[dict[str, Altering]] = {
    "answer_lost": lambda answer, _, __: replace(answer, silent=True, ending=Ending.RESET),
    "delayed": lambda answer, fault, _: replace(answer, delay_s=float(fault.value or 1.0)),
    "garbage_status_line": lambda answer, _, __: replace(answer, status_line=b"\x00\xffSPDY/9 two hundred"),
    "header_flood": _header_flood,
    "interim": lambda answer, _, __: replace(answer, interim=INTERIM),
    "reset": _cut(Ending.RESET),
    "close": _cut(Ending.CLOSE),
    "stall": _cut(Ending.STALL),
    "trickle": _trickle,
    "length_wrong": _length_wrong,
    "trailing_bytes": _trailing_bytes,
    "gzip": _gzip,
    "unasked_206": _on_content(_unasked_206),
    "wrong_content_range": _wrong_content_range,
    "range_ignored": _on_content(_range_ignored),
    "no_length": lambda answer, _, __: replace(answer, framing="close"),
    "corrupt_byte": _corrupt_byte,
    "other_image": _on_content(_other_image),
    "json_content": _json_content,
    "html_content": lambda answer, _, __: replace(answer, body=(PAGE,)),
    "truncated_json": _truncated_json,
    "huge_json": _huge_json,
    "deep_json": _deep_json,
    "success_missing": _on_json(lambda payload, _: payload.pop("success", None)),
    "fields": _on_json(lambda payload, fault: _set_fields(payload, fault.value)),
    "fields_missing": _on_json(_drop_fields),
    "nan_size": _on_json(lambda payload, _: _set_fields(payload, {"size": float("nan")})),
    "wrong_types": _on_json(
        lambda payload, _: _set_fields(
            payload, {"size": [1], "name": {"a": 1}, "status": 7, "checksum": None}
        )
    ),
    "list_cut": _on_json(_cut_list),
    "list_empty": _on_json(lambda payload, _: payload["images"].clear()),
    "list_doubled": _on_json(lambda payload, _: payload["images"].extend(tuple(payload["images"]))),
    "replica_killed": _replica_killed,
    "replica_checksum": _on_replica(lambda fault: {"checksum": str(fault.value or "0" * 32)}),
    "replica_size": _on_replica(lambda fault: {"size": str(fault.value or "1")}),
}
"""Faults of the answer: the action is carried out, and the answer altered."""
