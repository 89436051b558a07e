"""Answers of a service that means ill: each ends in what was asked for or an error of ours, in little memory.

``IMAGEFS_FUZZ_EXAMPLES`` is how many are tried for each action, other ones each time;
without it, they are few, and always the same.
"""

from __future__ import annotations

import json
import os
import random
import re
import tracemalloc
from typing import Any

import pytest
from api_peer import CREDENTIALS, FakeClock, Peer, receive, serving
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from imagefs.api import Limits, ServiceClient
from imagefs.core.models import LARGEST_IMAGE_BYTES, ImageDetails, ListedImage
from imagefs.errors import ImagefsError

EXAMPLES = int(os.environ.get("IMAGEFS_FUZZ_EXAMPLES", "10"))
SAME_EACH_TIME = "IMAGEFS_FUZZ_EXAMPLES" not in os.environ
MOST_MEMORY_BYTES = 24 << 20
SIZE = 300

CALLS: dict[str, Any] = {
    "list": lambda client: client.list_images(deadline_s=0.6),
    "details": lambda client: client.image_details("1", deadline_s=0.6),
    "fetch": lambda client: client.fetch_image(
        region="toronto",
        name="n",
        location="https://x/y.iso",
        image_format="iso",
        virtio=False,
        deadline_s=0.6,
    ),
    "replicate": lambda client: client.replicate_image("1", "montreal", deadline_s=0.6),
    "delete": lambda client: client.delete_image("1", deadline_s=0.6),
    "rename": lambda client: client.rename_image("1", "b", deadline_s=0.6),
    "retrieve": lambda client: content_of(client),  # noqa: PLW0108  # made below
}


def content_of(client: ServiceClient) -> bytes:
    """All of an image's content."""
    body = client.retrieve("1", SIZE, stall_s=0.3, deadline_s=0.6)
    try:
        received = b""
        while piece := receive(body, 4096):
            received += piece
        return received
    finally:
        body.close()


KEYS = st.sampled_from(
    [
        *("images", "details", "image_id", "success", "error", "message", "name"),
        *("region", "status", "size", "checksum", "time_created", "metadata"),
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(10**30, 10**60),
    st.floats(),
    st.text(st.characters(exclude_categories=()), max_size=40),
    st.sampled_from(["yes", "no", "1", "active", "toronto", "invalid image", "signature", "0" * 32, "../x"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6), st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=30,
)
ROWS = st.dictionaries(KEYS, VALUES, max_size=6)
ANSWERS = st.one_of(
    VALUES,
    st.dictionaries(KEYS, VALUES, max_size=5),
    st.fixed_dictionaries({"images": st.lists(ROWS | VALUES, max_size=10)}, optional={"success": VALUES}),
    st.fixed_dictionaries({"details": ROWS | VALUES}, optional={"success": VALUES}),
    st.fixed_dictionaries({"success": st.sampled_from(["yes", True, 1])}, optional={"image_id": SCALARS}),
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A body: JSON in some encoding, cut or not, or anything else."""
    kind = draw(st.sampled_from(["json"] * 6 + ["cut", "html", "bytes", "deep", "many", "content"]))
    if kind == "content":
        return draw(st.binary(min_size=SIZE, max_size=SIZE))
    if kind == "html":
        return b"<html><body>" + draw(st.binary(max_size=200)) + b"</body></html>"
    if kind == "bytes":
        return draw(st.binary(max_size=2000))
    if kind == "deep":
        depth = draw(st.integers(1, 100_000))
        return b'{"details":' + b'{"a":[' * depth + b"]}" * draw(st.integers(0, depth)) + b"}"
    if kind == "many":
        return b'{"images":[' + draw(st.sampled_from([b"{},", b"[[]],", b'"",', b"12,"])) * 60_000 + b"0]}"
    text = json.dumps(draw(ANSWERS), ensure_ascii=draw(st.booleans()))
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    raw = text.encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")
    return raw[: draw(st.integers(0, len(raw)))] if kind == "cut" else raw


HEADER_VALUES = st.one_of(
    st.sampled_from(
        [
            "0",
            "-1",
            "5",
            "9" * 30,
            "1e3",
            "chunked",
            "gzip",
            "identity",
            "bytes 0-299/300",
            "bytes */*",
            "close",
        ]
    ),
    st.text(st.characters(exclude_characters="\r\n", max_codepoint=255), max_size=60),
)
HEADERS = st.tuples(
    st.sampled_from(
        [
            *(
                "Content-Length",
                "Transfer-Encoding",
                "Content-Encoding",
                "Content-Range",
                "Retry-After",
                "Date",
            ),
            *("Location", "Connection", "Set-Cookie", "X-Other", " folded", "no colon", "\0", "Content-Type"),
        ]
    ),
    HEADER_VALUES,
)


@st.composite
def answers_of_bytes(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """All bytes of an answer, and those of its body where it is framed as it should be."""
    body = draw(bodies())
    status = draw(
        st.one_of(
            *([st.just("HTTP/1.1 200 OK")] * 4),
            st.integers(0, 999).map(lambda code: f"HTTP/1.1 {code} Some Reason"),
            st.sampled_from(
                [
                    "HTTP/1.0 200 OK",
                    "HTTP/2 200",
                    "HTTP/1.1 206 Partial Content",
                    "ICY 200 OK",
                    "HTTP/1.1",
                    "",
                    "{",
                ]
            ),
        )
    )
    lines = [status]
    framing = draw(st.sampled_from(["length", "length", "length", "chunked", "close", "own"]))
    if framing == "length":
        lines.append(f"Content-Length: {len(body)}")
    elif framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
        body_on_wire = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    lines += [f"{name}: {value}" for name, value in draw(st.lists(HEADERS, max_size=4))]
    lines += [f"X-Many-{number}: y" for number in range(draw(st.sampled_from([0, 0, 0, 120])))]
    interim = draw(st.sampled_from([b"", b"", b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", b"\r\n"]))
    head = interim + "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    surplus = draw(st.sampled_from([b"", b"", b"", b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]))
    return head + (body_on_wire if framing == "chunked" else body) + surplus, body


def says_yes(body: bytes) -> bool:
    """Whether the body can be read as one of success."""
    return b"success" in body and re.search(rb'"success":\s*("(yes|true|1)"|true|1)', body, re.I) is not None


def check(action: str, outcome: Any, body: bytes, on_wire: bytes) -> None:
    """What a call returned is of the right kind, and not made up."""
    if action == "list":
        ids = [image.image_id for image in outcome.images]
        assert len(set(ids)) == len(ids)
        for image in outcome.images:
            assert isinstance(image, ListedImage)
            assert all(isinstance(text, str) for text in (image.name, image.region, image.status))
            assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", image.image_id)
    elif action == "details":
        assert isinstance(outcome, ImageDetails)
        assert outcome.size_bytes is None or 0 <= outcome.size_bytes <= LARGEST_IMAGE_BYTES
        assert outcome.checksum is None or re.fullmatch("[0-9a-f]{32}", outcome.checksum)
    elif action == "retrieve":
        assert len(outcome) == SIZE
        assert outcome in on_wire
    elif action in ("fetch", "replicate"):
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", outcome)
        assert outcome.encode() in on_wire
    else:
        assert says_yes(on_wire), body


@pytest.mark.parametrize("action", CALLS)
@settings(
    max_examples=EXAMPLES,
    derandomize=SAME_EACH_TIME,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(answers=st.lists(answers_of_bytes(), min_size=1, max_size=3))
def test_any_answer_is_an_outcome_or_an_error_of_ours(
    action: str, answers: list[tuple[bytes, bytes]]
) -> None:
    """Whatever comes over the wire, and however many answers to the retries of one call."""
    with serving(Peer()) as peer:

        def closing(data: bytes) -> Any:
            def step(conn: Any, _request: Any) -> None:
                conn.sendall(data)
                conn.shutdown(1)

            return step

        peer.script(*(closing(data) for data, _ in answers))
        limits = Limits(attempt_s=0.6, connect_s=5.0, stall_s=0.3)
        client = ServiceClient(CREDENTIALS, peer.url, clock=FakeClock(), limits=limits, rng=random.Random(1))
        tracemalloc.start()
        try:
            outcome = CALLS[action](client)
        except ImagefsError:
            pass
        else:
            check(
                action,
                outcome,
                b"|".join(body for _, body in answers),
                b"|".join(data for data, _ in answers),
            )
        finally:
            peak_bytes = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            client.close()
        assert peak_bytes < MOST_MEMORY_BYTES


GOOD_ROWS = st.lists(
    st.builds(
        lambda number, name, region, status: {
            "image_id": f"good{number}",
            "name": name,
            "region": region,
            "status": status,
        },
        st.integers(0, 10**6),
        st.text(st.characters(exclude_categories=()), max_size=30),
        st.text(st.characters(exclude_categories=()), min_size=1, max_size=10),
        st.sampled_from(["active", "queued", "killed", ""]),
    ),
    max_size=6,
    unique_by=lambda row: row["image_id"],
)


@settings(
    max_examples=EXAMPLES, derandomize=SAME_EACH_TIME, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(good=GOOD_ROWS, bad=st.lists(VALUES | ROWS, max_size=8), rng=st.randoms(use_true_random=False))
def test_good_rows_survive_bad_neighbours(
    good: list[dict[str, str]], bad: list[Any], rng: random.Random
) -> None:
    """In their order, with their texts, whatever stands between them: one at least, or the listing is none."""
    assume(good or not bad)
    rows: list[Any] = list(good)
    for one in bad:
        rows.insert(rng.randint(0, len(rows)), one)
    with serving(Peer()) as peer:
        body = json.dumps({"images": rows}).encode()
        peer.script(
            lambda conn, _: conn.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )
        )
        client = ServiceClient(CREDENTIALS, peer.url, clock=FakeClock())
        found = client.list_images(deadline_s=5).images
        client.close()
    assert [image for image in found if image.image_id.startswith("good")] == [
        ListedImage(row["image_id"], row["name"], row["region"], row["status"]) for row in good
    ]
