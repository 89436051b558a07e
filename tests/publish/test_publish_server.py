"""Downloads of published content: real sockets, a real client, and peers that misbehave."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
import requests
import trio
import trio.testing
from publish_fakes import ISO, Content
from trio.testing import MockClock

from imagefs.errors import CacheUnusable, SetupError
from imagefs.publish import server as http
from imagefs.publish.offer import Offer


class Site:
    """A running server with one offer."""

    def __init__(self, offer: Offer, base: str, port: int) -> None:
        self.offer = offer
        self.base = base
        self.port = port
        self.url = offer.url(base)

    async def ask(self, method: str = "GET", url: str | None = None, **headers: str) -> requests.Response:
        """One request by an ordinary client."""
        call = partial(requests.request, method, url or self.url, headers=headers, timeout=30)
        return await trio.to_thread.run_sync(call)

    async def connect(self) -> trio.SocketStream:
        """A raw connection."""
        return await trio.open_tcp_stream("127.0.0.1", self.port)


@asynccontextmanager
async def running(name: str = "disk.iso") -> AsyncIterator[Site]:
    """A site, taken down at the end."""
    content = Content()
    offer = Offer("toronto", name, content, content.md5(), trio.CapacityLimiter(4))
    async with trio.open_nursery() as nursery:
        listeners = await http.listen("127.0.0.1", 0, None)
        (listener,) = listeners
        assert isinstance(listener, trio.SocketListener)
        port = listener.socket.getsockname()[1]
        server = http.ContentServer({offer.token: offer}.get)
        nursery.start_soon(server.serve, listeners)
        yield Site(offer, f"http://127.0.0.1:{port}", port)
        nursery.cancel_scope.cancel()


def test_the_whole_and_every_part():
    """Lengths and ranges are right, so that a broken download can go on where it broke."""

    async def story() -> None:
        async with running() as site:
            whole = await site.ask()
            assert (whole.status_code, whole.content) == (200, ISO)
            assert whole.headers["Content-Length"] == str(len(ISO))
            assert whole.headers["Accept-Ranges"] == "bytes"
            part = await site.ask(Range="bytes=1000-", **{"If-Range": whole.headers["ETag"]})
            assert (part.status_code, part.content) == (206, ISO[1000:])
            assert part.headers["Content-Range"] == f"bytes 1000-{len(ISO) - 1}/{len(ISO)}"
            beyond = await site.ask(Range=f"bytes={len(ISO)}-")
            assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{len(ISO)}")
            head = await site.ask("HEAD")
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["Content-Length"] == str(len(ISO))
            assert site.offer.requests == 4
            assert site.offer.sent.total_bytes == len(ISO)

    trio.run(story)


def test_behind_a_proxy_with_a_path_and_with_an_odd_name():
    """What stands before the token does not matter, and a name stays one segment."""

    async def story() -> None:
        async with running("a/b ü%.iso") as site:
            assert (await site.ask()).content == ISO
            moved = site.offer.url(f"{site.base}/some/path")
            assert (await site.ask(url=moved)).content == ISO

    trio.run(story)


@pytest.mark.parametrize("path", ["", "/", "/disk.iso", "/guess/disk.iso", "/{token}", "/{token}/x/y", "//"])
def test_without_the_token_there_is_nothing(path):
    """No listing, no hint."""

    async def story() -> None:
        async with running() as site:
            answer = await site.ask(url=site.base + path.format(token=site.offer.token))
            assert (answer.status_code, answer.content) == (404, b"")
            assert site.offer.requests == 0

    trio.run(story)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", b"405"),
        (b"GET {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", b"413"),
        (b"GET {path} HTTP/1.1\r\n\r\n", b"400"),
        (b"\x16\x03\x01 nonsense\r\n\r\n", b"400"),
        (b"GET {path} HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", b"431"),
    ],
    ids=["post", "body", "no host", "tls", "long head"],
)
def test_other_requests_are_refused_and_the_connection_ends(request_bytes, status):
    """One answer, then nothing more is listened to."""

    async def story() -> None:
        async with running() as site:
            path = site.url.removeprefix(site.base).encode()
            answer = bytearray()
            async with await site.connect() as stream:
                await stream.send_all(request_bytes.replace(b"{path}", path))
                with trio.fail_after(30):
                    async for received in stream:
                        answer += received
            assert answer.split(b" ")[1:2] == [status]
            assert (await site.ask()).content == ISO

    trio.run(story)


def test_a_peer_that_says_nothing_is_dropped():
    """Idle connections would else be taken from those who download."""

    async def story() -> None:
        ends, other = trio.testing.memory_stream_pair()
        connection = http._Connection(ends, {}.get)  # type: ignore[arg-type]  # as good as a socket
        with pytest.raises(trio.TooSlowError):
            await connection.run()
        assert trio.current_time() >= http.HEAD_S
        await other.aclose()

    trio.run(story, clock=MockClock(autojump_threshold=0))


def test_too_many_connections_are_closed_at_once(monkeypatch):
    """Those that are there go on."""
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 2)

    async def story() -> None:
        async with running() as site, AsyncExitStack() as held:
            streams = [await held.enter_async_context(await site.connect()) for _ in range(3)]
            with trio.fail_after(30):
                assert await streams[2].receive_some(1) == b""  # connections are accepted in their order
                await streams[0].send_all(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                assert (await streams[0].receive_some(100)).startswith(b"HTTP/1.1 404")

    trio.run(story)


def test_withdrawing_ends_downloads_and_closes_the_content_once():
    """A peer that does not read holds nothing up."""

    async def story() -> None:
        async with running() as site:
            content = site.offer.content
            assert isinstance(content, Content)
            content.data = ISO * 100
            path = site.url.removeprefix(site.base).encode()
            async with await site.connect() as stream:
                await stream.send_all(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path)
                assert await stream.receive_some(10)
                with trio.fail_after(30):
                    await site.offer.withdraw()
                    await site.offer.withdraw()
                assert content.closed
            assert (await site.ask()).status_code == 404

    trio.run(story)


def test_a_disk_that_fails_ends_the_download(caplog):
    """The peer sees that it has not got all, and the log says why in one line; that is no bug."""

    async def story() -> None:
        async with running() as site:
            content = site.offer.content
            assert isinstance(content, Content)
            content.failure = CacheUnusable("the disk fails")
            with pytest.raises(requests.RequestException):
                await site.ask()
            content.failure = None
            assert (await site.ask()).content == ISO

    trio.run(story)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("imagefs")] == [
        "A download of published content ends: the disk fails"
    ]


def test_a_port_that_is_taken_is_told():
    """In one line with the address."""

    async def story() -> None:
        async with running() as site:
            with pytest.raises(SetupError, match=f"127.0.0.1, port {site.port}: .*in use"):
                await http.listen("127.0.0.1", site.port, None)

    trio.run(story)
