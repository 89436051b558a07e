"""The control file's lines: what they mean, what is refused, and what is never shown."""

from __future__ import annotations

import shlex
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from imagefs.core.control_lines import FetchRequest, parse_line, shown_url
from imagefs.errors import InvalidArgument

URL = "https://host/pub/debian-12.iso"

NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=20)
SECRETS = st.text(st.sampled_from("abcdefXYZ0123456789!$&*+,;=~._-"), min_size=8, max_size=20)


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (URL, FetchRequest(URL, "debian-12.iso", "iso")),
        (f"  {URL}\t# the installer\r", FetchRequest(URL, "debian-12.iso", "iso")),
        (f"{URL} name=d.iso virtio=yes", FetchRequest(URL, "d.iso", "iso", virtio=True)),
        (f"{URL} virtio=no 'name=my disk'", FetchRequest(URL, "my disk", "iso")),
        (f'{URL} name="a # b" # c', FetchRequest(URL, "a # b", "iso")),
        (f"{URL} name=a#b", FetchRequest(URL, "a#b", "iso")),
        (f"{URL}#part", FetchRequest(f"{URL}#part", "debian-12.iso", "iso")),
        ("ftp://h/x.qcow2", FetchRequest("ftp://h/x.qcow2", "x.qcow2", "qcow2")),
        ("http://h/x.IMG?a=b", FetchRequest("http://h/x.IMG?a=b", "x.IMG", "qcow2")),
        ("http://h/a%20b%2Fc.iso", FetchRequest("http://h/a%20b%2Fc.iso", "a b/c.iso", "iso")),
        ("http://h/%FF.iso", FetchRequest("http://h/%FF.iso", "%FF.iso", "iso")),
        ("http://h/get?id=1 name=x.iso", FetchRequest("http://h/get?id=1", "x.iso", "iso")),
        ("http://h/disk format=qcow2", FetchRequest("http://h/disk", "disk", "qcow2")),
        ("http://h/x.iso format=qcow2", FetchRequest("http://h/x.iso", "x.iso", "qcow2")),
        ("http://h/x.iso name=plain", FetchRequest("http://h/x.iso", "plain", "iso")),
        ("", None),
        ("  # only a comment 'with a quote", None),
    ],
)
def test_what_lines_mean(line: str, request_: FetchRequest | None) -> None:
    """Quotes, comments, defaults."""
    assert parse_line(line) == request_


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("name=x.iso", "begins with a URL"),
        ("x.iso", "begins with a URL"),
        ("file:///etc/passwd format=iso", "http, https or ftp"),
        ("sftp://h/x.iso", "http, https or ftp"),
        ("http:///x.iso", "no host"),
        ("http://[::1/x.iso", "malformed"),
        ("http://h:port/x.iso", "malformed"),
        ("'http://h/a b.iso'", "spaces"),
        ("http://h/a.iso extra", "only name="),
        (f"{URL} size=5", "only name="),
        (f"{URL} NAME=x", "only name="),
        (f"{URL} name=a name=b", "twice"),
        (f"{URL} name=", "no value"),
        (f"{URL} format=raw", "format= is iso or qcow2"),
        (f"{URL} virtio=1", "virtio= is yes or no"),
        (f"{URL} name='a", "inside a quotation"),
        (f"{URL} name=a\\", "inside a quotation"),
        ("http://h/", "does not end in a file name"),
        ("http://h", "does not end in a file name"),
        ("http://h/disk", "do not tell the format"),
        ("http://h/disk.raw", "do not tell the format"),
        ("http://h/x.img name=x.iso", "different things"),
        ("http://h/%0A.iso", "control characters"),
        (f"{URL} name=a\x1bb", "control characters"),
    ],
)
def test_mistakes_are_told(line: str, reason: str) -> None:
    """Each with a sentence that says what is wrong."""
    with pytest.raises(InvalidArgument, match=reason):
        parse_line(line)


@given(NAMES, st.sampled_from(["iso", "qcow2"]), st.booleans())
def test_any_name_can_be_asked_for(name: str, image_format: str, virtio: bool) -> None:
    """Quoted as a shell would."""
    words = [URL, f"name={name}", f"format={image_format}", f"virtio={'yes' if virtio else 'no'}"]
    assert parse_line(shlex.join(words)) == FetchRequest(URL, name, image_format, virtio)


@given(NAMES)
def test_the_default_name_is_the_urls_last_segment(name: str) -> None:
    """Decoded."""
    request = parse_line(f"http://h/a/{quote(name, safe='')} format=iso")
    assert request is not None
    assert request.name == name


@given(st.text(max_size=60))
def test_any_line_is_understood_or_refused(line: str) -> None:
    """Never another error, and a request is always one that the service can take."""
    for text in (line, f"http://h/{line}", f"{URL} {line}", f"http://{line}/x.iso"):
        try:
            request = parse_line(text)
        except InvalidArgument:
            continue
        if request is not None:
            assert request.image_format in ("iso", "qcow2")
            assert request.name


@given(SECRETS, SECRETS, SECRETS)
def test_secrets_of_a_url_are_never_shown(user: str, password: str, token: str) -> None:
    """Neither by what is meant to be shown, nor by a traceback."""
    secrets = {user, password, token}
    assume(not any(secret in "https://host:8080/pub/x.iso" for secret in secrets))
    url = f"https://{user}:{password}@host:8080/pub/x.iso?token={token}#{token}"
    request = parse_line(shlex.join([url]))
    assert request is not None
    assert request.url == url
    assert request.shown_url == "https://host:8080/pub/x.iso"
    assert not any(secret in repr(request) for secret in secrets)


@given(st.text(max_size=60))
def test_what_is_shown_of_a_url_is_one_line(text: str) -> None:
    """Whatever was written there."""
    for url in (text, f"http://me:pw@{text}", f"ftp://h/{text}"):
        assert shown_url(url).isprintable()
    assert "me:pw@" not in shown_url(f"http://me:pw@h/{quote(text, errors='surrogatepass')}")
