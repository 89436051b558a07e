"""Where to listen and what the service is told, from what a person writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagefs.errors import SetupError
from imagefs.publish import PublishSettings


@pytest.mark.parametrize(
    ("url", "listen", "expected"),
    [
        ("http://a.example", None, (None, 80)),
        ("https://a.example/disks/", None, (None, 443)),
        ("http://a.example:8080", None, (None, 8080)),
        ("https://a.example", "127.0.0.1:9000", ("127.0.0.1", 9000)),
        ("https://a.example", "[::1]:9000", ("::1", 9000)),
        ("https://a.example", ":9000", (None, 9000)),
    ],
)
def test_addresses(url, listen, expected):
    """The address to listen at is the URL's port everywhere, unless it is said."""
    settings = PublishSettings.parse(url, listen)
    assert (settings.host, settings.port) == expected
    assert not settings.url.endswith("/")


@pytest.mark.parametrize(
    ("url", "listen"),
    [
        ("ftp://a.example", None),
        ("a.example", None),
        ("http://", None),
        ("http://user:secret@a.example", None),
        ("http://a.example/?q", None),
        ("http://a.example:port", None),
        ("http://a.example:99999", None),
        ("http://a.example", "9000"),
        ("http://a.example", "a:"),
        ("http://a.example", "a:70000"),
    ],
)
def test_what_makes_no_sense_is_refused(url, listen):
    """In one line that does not repeat a password."""
    with pytest.raises(SetupError) as refused:
        PublishSettings.parse(url, listen)
    assert "secret" not in str(refused.value)


def test_a_certificate_needs_its_key_and_https(tmp_path):
    """Half of a pair, or one for plain http, is a mistake; a file that is none is told."""
    with pytest.raises(SetupError, match="go together"):
        PublishSettings.parse("https://a.example", None, Path("cert.pem"))
    with pytest.raises(SetupError, match="https"):
        PublishSettings.parse("http://a.example", None, Path("cert.pem"), Path("key.pem"))
    settings = PublishSettings.parse("https://a.example", None, tmp_path / "none", tmp_path / "none")
    with pytest.raises(SetupError, match="cannot be used: No such file"):
        settings.tls_context()
