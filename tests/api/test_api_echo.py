"""A service that puts what it was sent, and the whole key, into its answers: no message repeats any of it."""

from __future__ import annotations

import logging
import re
import socket

import pytest
from api_peer import KEY, receive

from imagefs.errors import ImagefsError

WAYS = {
    "a refusal": '200 OK\r\nContent-Length: {length}\r\n\r\n{{"success": "no", "error": "{echo}"}}',
    "a page": "403 No\r\nContent-Length: {length}\r\n\r\n<html>{echo}</html>",
    "the reason": "500 {echo}\r\nContent-Length: 0\r\n\r\n",
    "headers": "429 No\r\nRetry-After: {echo}\r\nDate: {echo}\r\nContent-Length: 0\r\n\r\n",
    "a redirect": "302 No\r\nLocation: http://{echo}/{echo}\r\nContent-Length: 0\r\n\r\n",
    "a broken head": "200 OK\r\nno colon {echo}\r\n {echo}\r\nContent-Length: {echo}\r\n\r\n",
    "an encoding": "200 OK\r\nContent-Encoding: {echo}\r\nContent-Length: 1\r\n\r\nx",
    "a range": "206 OK\r\nContent-Range: bytes {echo}\r\nContent-Length: 1\r\n\r\nx",
    "a status line": "{echo}\r\n\r\n",
}
"""Where in an answer it is."""

CALLS = {
    "list": lambda client: client.list_images(deadline_s=1),
    "replicate": lambda client: client.replicate_image("7", "montreal", deadline_s=1),
    "retrieve": lambda client: receive(client.retrieve("7", 1000, 10, 20, deadline_s=1), 100),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_no_message_repeats_signature_or_key(peer, client, caplog, way, call):
    """Neither the error and those behind it, nor what imagefs itself logs."""

    def echo(conn, request):
        said = f"{request.form['signature']} {KEY} {KEY[:64]} {KEY[64:]}"
        conn.sendall(("HTTP/1.1 " + way.format(echo=said, length=len(said) + 30)).encode())
        conn.shutdown(socket.SHUT_RDWR)

    peer.script(echo)
    with caplog.at_level(logging.DEBUG, "imagefs"), pytest.raises(ImagefsError) as caught:
        call(client)
    error: BaseException | None = caught.value
    while error is not None:
        told = f"{error!r} {error}"
        assert not any(KEY[at : at + 12] in told for at in range(len(KEY) - 11))
        assert not re.search(r"[0-9a-f]{128}", told)
        error = error.__cause__ or error.__context__
    assert not [record for record in caplog.records if record.name.startswith("imagefs")]
