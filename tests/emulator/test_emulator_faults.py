"""Each fault does on the wire what its name says, as often as it was asked to, and to no other call."""

from __future__ import annotations

import gzip
import json
import math
import re
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
import urllib3

from imagefs.emulator import Fault
from imagefs.emulator.fault_effects import ALTERING, INSTEAD
from imagefs.emulator.faults import NATURAL_ACTION

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def image_id(service: Any) -> str:
    """An image of ten kibibytes."""
    added: str = service.add_image("one", "toronto", CONTENT)
    return added


def test_every_kind_has_one_effect() -> None:
    """The table of kinds and the tables of effects agree."""
    assert set(INSTEAD) | set(ALTERING) == set(NATURAL_ACTION)
    assert not set(INSTEAD) & set(ALTERING)


def test_an_unknown_kind_is_an_error() -> None:
    """A misspelt fault does not silently strike nothing."""
    with pytest.raises(ValueError, match="There is no fault"):
        Fault("resett")


def test_a_fault_strikes_as_often_as_asked_and_only_where_it_fits(
    client: Any, service: Any, image_id: str
) -> None:
    """Twice, for this image and this action alone; what struck is counted."""
    other = service.add_image("two", "toronto", b"two")
    service.faults.add(Fault("status", image_id=image_id, times=2, status=500))
    assert client.post("retrieve", image_id=other).status_code == 200
    assert client.details(image_id)["name"] == "one"
    assert [client.post("retrieve", image_id=image_id).status_code for _ in range(3)] == [500, 500, 200]
    assert service.faults.struck == {"status": 2}
    assert service.ledger.calls[-2].outcome == "fault: status"


def test_faults_strike_in_order_until_cleared(client: Any, service: Any, image_id: str) -> None:
    """The oldest first; one without an end goes on until it is cleared."""
    service.faults.add(Fault("status", "any", status=502))
    service.faults.add(Fault("status", "any", status=504, retry_after="3", times=None))
    answers = [client.post("list") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [502, 504, 504]
    assert answers[1].headers["Retry-After"] == "3"
    service.faults.clear()
    assert client.post("list").status_code == 200


def broken_off(client: Any, image_id: str) -> tuple[bytes, Exception | None]:
    """What arrives of a content, and the error that it ends with."""
    answer = client.post("retrieve", image_id=image_id)
    got = b""
    try:
        while block := answer.raw.read1(1000):
            got += block
    except urllib3.exceptions.HTTPError as error:
        return got, error
    finally:
        answer.close()
    return got, None


@pytest.mark.parametrize("kind", ["reset", "close"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_transfer_is_broken_after_so_many_bytes(
    client: Any, service: Any, image_id: str, kind: str, framing: str
) -> None:
    """All bytes before the break arrive, none after it, and the client is told."""
    service.switches.framing = framing
    service.faults.add(Fault(kind, after_bytes=5001))
    got, error = broken_off(client, image_id)
    assert got == CONTENT[:5001]
    assert error is not None
    assert service.ledger.bytes_retrieved(image_id) == 5001


def test_an_early_end_without_a_length_looks_like_the_end(client: Any, service: Any, image_id: str) -> None:
    """The client alone can find this out, from the details."""
    service.switches.framing = "close"
    service.faults.add(Fault("close", after_bytes=10))
    assert broken_off(client, image_id) == (CONTENT[:10], None)


def test_a_stalled_transfer_sends_no_more_and_stays_open(client: Any, service: Any, image_id: str) -> None:
    """The client's own timeout is what ends it, or the end of the emulator."""
    service.faults.add(Fault("stall", after_bytes=7))
    answer = client.session.post(
        f"{service.api_url}image/retrieve/",
        data=client.form("retrieve", {"image_id": image_id}),
        stream=True,
        timeout=2,
    )
    assert answer.raw.read(7) == CONTENT[:7]
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        answer.raw.read(1)
    answer.close()


def test_a_trickle_is_slow_from_there_on(client: Any, service: Any, image_id: str) -> None:
    """The first part at full speed, the rest at the rate asked for, and in the end all of it."""
    service.faults.add(Fault("trickle", after_bytes=len(CONTENT) - 50, value=1000))
    begun = time.monotonic()
    assert client.post("retrieve", image_id=image_id).content == CONTENT
    assert time.monotonic() - begun > 0.03


@pytest.mark.parametrize("kind", ["answer_lost", "never_answers"])
def test_only_a_lost_answer_had_its_action_carried_out(
    client: Any, service: Any, image_id: str, kind: str
) -> None:
    """The client cannot tell the two apart; the account can."""
    service.faults.add(Fault(kind, "replicate"))
    form = client.form("replicate", {"image_id": image_id, "region": "montreal"})
    with pytest.raises((requests.ConnectionError, requests.ReadTimeout)):
        client.session.post(f"{service.api_url}image/replicate/", data=form, timeout=2)
    assert len(service.images()) == (2 if kind == "answer_lost" else 1)


def test_a_redirect_goes_where_it_was_told(client: Any, service: Any) -> None:
    """With the status that was asked for."""
    service.faults.add(Fault("redirect", "list", status=307, value="http://127.0.0.1:9/"))
    answer = client.post("list")
    assert (answer.status_code, answer.headers["Location"]) == (307, "http://127.0.0.1:9/")


Check = Callable[[requests.Response], bool]

CONTENT_FAULTS: dict[str, tuple[Fault, Check]] = {
    "trailing": (Fault("trailing_bytes", value=3), lambda a: a.content == CONTENT + b"\xa5" * 3),
    "gzip": (
        Fault("gzip"),
        lambda a: (
            a.headers["Content-Encoding"] == "gzip"
            and gzip.decompress(a.raw.read(decode_content=False)) == CONTENT
        ),
    ),
    "206": (
        Fault("unasked_206", after_bytes=100),
        lambda a: (
            a.status_code == 206
            and a.headers["Content-Range"] == f"bytes 100-{len(CONTENT) - 1}/{len(CONTENT)}"
            and a.content == CONTENT[100:]
        ),
    ),
    "corrupt": (
        Fault("corrupt_byte", after_bytes=5),
        lambda a: a.content == CONTENT[:5] + bytes([CONTENT[5] ^ 255]) + CONTENT[6:],
    ),
    "json": (Fault("json_content", value="busy"), lambda a: a.json() == {"success": "no", "error": "busy"}),
    "html": (Fault("html_content"), lambda a: a.content.startswith(b"<!DOCTYPE html>")),
    "html answer": (Fault("html"), lambda a: a.headers["Content-Type"] == "text/html"),
    "refused": (Fault("refused", value="quota exceeded"), lambda a: a.json()["error"] == "quota exceeded"),
    "no length": (Fault("no_length"), lambda a: "Content-Length" not in a.headers and a.content == CONTENT),
    "delayed": (Fault("delayed", value=0.01), lambda a: a.elapsed.total_seconds() >= 0.01),
}


@pytest.mark.parametrize(("fault", "check"), CONTENT_FAULTS.values(), ids=CONTENT_FAULTS.keys())
def test_a_fault_of_contents(client: Any, service: Any, image_id: str, fault: Fault, check: Check) -> None:
    """The answer is wrong in just that way, and the next one is right."""
    service.faults.add(fault)
    assert check(client.post("retrieve", image_id=image_id))
    assert client.post("retrieve", image_id=image_id).content == CONTENT


def test_a_range_is_ignored_or_answered_wrongly(client: Any, service: Any, image_id: str) -> None:
    """The whole content in place of a part; a part under another Content-Range."""
    service.faults.add(Fault("range_ignored"))
    service.faults.add(Fault("wrong_content_range", value="bytes 1-2/3"))
    whole, wrong = (
        client.post("retrieve", image_id=image_id, headers={"Range": "bytes=5-9"}) for _ in range(2)
    )
    assert (whole.status_code, whole.content) == (200, CONTENT)
    assert (wrong.status_code, wrong.headers["Content-Range"], wrong.content) == (
        206,
        "bytes 1-2/3",
        CONTENT[5:10],
    )


@pytest.mark.parametrize(("value", "announced"), [(-100, len(CONTENT) - 100), (100, len(CONTENT) + 100)])
def test_a_wrong_length_is_announced(
    client: Any, service: Any, image_id: str, value: int, announced: int
) -> None:
    """Content-Length is off; the true bytes are sent, and then the connection ends."""
    service.faults.add(Fault("length_wrong", value=value))
    answer = client.post("retrieve", image_id=image_id)
    assert answer.headers["Content-Length"] == str(announced)
    answer.close()


def test_the_bytes_are_those_of_another_image(client: Any, service: Any, image_id: str) -> None:
    """The same part of another image, as a mixed-up backend would serve it."""
    other = service.add_image("two", "toronto", CONTENT[::-1])
    service.faults.add(Fault("other_image", value=other))
    answer = client.post("retrieve", image_id=image_id, headers={"Range": "bytes=5-9"})
    assert answer.content == CONTENT[::-1][5:10]


LIST_FAULTS: dict[str, tuple[Fault, Callable[[bytes], bool]]] = {
    "truncated": (
        Fault("truncated_json"),
        lambda body: body.startswith(b'{"images"') and not body.endswith(b"}"),
    ),
    "huge": (
        Fault("huge_json", value=2 << 20),
        lambda body: len(body) > 2 << 20 and "images" in json.loads(body),
    ),
    "deep": (Fault("deep_json", value=1000), lambda body: body == b"[" * 1000 + b"]" * 1000),
    "cut": (Fault("list_cut", value=1), lambda body: len(json.loads(body)["images"]) == 1),
    "halved": (Fault("list_cut"), lambda body: len(json.loads(body)["images"]) == 1),
    "doubled": (
        Fault("list_doubled"),
        lambda body: [row["name"] for row in json.loads(body)["images"]] == ["one", "two"] * 2,
    ),
    "empty": (Fault("list_empty"), lambda body: json.loads(body) == {"images": []}),
    "nan": (Fault("nan_size", "list"), lambda body: math.isnan(json.loads(body)["images"][0]["size"])),
    "types": (Fault("wrong_types", "list"), lambda body: json.loads(body)["images"][0]["status"] == 7),
    "missing": (
        Fault("fields_missing", "list", value=["name"]),
        lambda body: all(set(row) == {"image_id", "region", "status"} for row in json.loads(body)["images"]),
    ),
    "set": (
        Fault("fields", "list", value={"name": ""}),
        lambda body: json.loads(body)["images"][1]["name"] == "",
    ),
}


@pytest.mark.parametrize(("fault", "check"), LIST_FAULTS.values(), ids=LIST_FAULTS.keys())
def test_a_fault_of_json(
    client: Any, service: Any, image_id: str, fault: Fault, check: Callable[[bytes], bool]
) -> None:
    """The JSON is wrong in just that way, and the next one is right."""
    service.add_image("two", "toronto", b"two")
    service.faults.add(fault)
    assert check(client.post("list").content)
    assert [row["name"] for row in client.call("list")["images"]] == ["one", "two"]


def test_faults_of_details(client: Any, service: Any, image_id: str) -> None:
    """Success can be missing, and fields can be set or left out."""
    service.faults.add(Fault("success_missing"))
    service.faults.add(Fault("fields", value={"size": "-5"}))
    service.faults.add(Fault("fields_missing"))
    assert set(client.call("details", image_id=image_id)) == {"details"}
    assert client.details(image_id)["size"] == "-5"
    assert client.details(image_id) == {}


@pytest.mark.parametrize(
    ("fault", "field", "value"),
    [
        (Fault("replica_killed"), "status", "killed"),
        (Fault("replica_checksum", value="f" * 32), "checksum", "f" * 32),
        (Fault("replica_size", value="12"), "size", "12"),
    ],
)
def test_a_replica_goes_wrong(
    client: Any, service: Any, clock: Any, image_id: str, fault: Fault, field: str, value: str
) -> None:
    """The answer is as ever; the image that it names ends otherwise, and its source is untouched."""
    source = client.details(image_id)
    service.faults.add(fault)
    replica = client.call("replicate", image_id=image_id, region="montreal")["image_id"]
    assert client.details(replica)["status"] == "queued"
    clock.advance(100)
    assert client.details(replica)[field] == value
    assert client.details(image_id) == source


def raw_answer(client: Any, service: Any) -> bytes:
    """The bytes of an answer to list, head and all."""
    request = requests.Request(
        "POST", f"{service.api_url}image/list/", data=client.form("list", {})
    ).prepare()
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with socket.create_connection(
        ("127.0.0.1", int(service.root_url.split(":")[2].strip("/"))), timeout=10
    ) as peer:
        peer.sendall(
            f"POST /api/image/list/ HTTP/1.1\r\n{head}Connection: close\r\n\r\n{request.body}".encode()
        )
        return b"".join(iter(lambda: peer.recv(1 << 16), b""))


def test_a_head_can_be_garbage_or_a_flood(client: Any, service: Any) -> None:
    """A status line that is none; headers without end; answers before the answer."""
    service.faults.add(Fault("garbage_status_line", "list"))
    service.faults.add(Fault("header_flood", "list", value=500))
    service.faults.add(Fault("interim", "list"))
    assert not raw_answer(client, service).startswith(b"HTTP")
    assert raw_answer(client, service).count(b"X-Flood-") == 500
    assert re.findall(rb"^HTTP/1.1 (\d+)", raw_answer(client, service), re.MULTILINE) == [
        b"102",
        b"103",
        b"200",
    ]
    assert raw_answer(client, service).startswith(b"HTTP/1.1 200 OK\r\n")
