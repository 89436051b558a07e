"""The service's texts: the errors they stand for, and how they are shown."""

import pytest
from api_peer import CREDENTIALS, KEY
from hypothesis import given
from hypothesis import strategies as st

from imagefs import errors
from imagefs.api.refusals import LONGEST_TEXT, error_for, redactor
from imagefs.core.models import Credentials
from imagefs.core.text import printable

redact = redactor(CREDENTIALS)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("invalid image", errors.RefusedUnknownImage),
        ("Invalid image ID", errors.RefusedUnknownImage),
        ("image not found", errors.RefusedUnknownImage),
        ("no such image", errors.RefusedUnknownImage),
        ("Image 5 does not exist", errors.RefusedUnknownImage),
        ("not found", errors.RefusedUnknownImage),
        ("image_id is invalid", errors.RefusedUnknownImage),
        ("unknown image_id", errors.RefusedUnknownImage),
        ("The image could not be found.", errors.RefusedUnknownImage),
        ("no image with that ID", errors.RefusedUnknownImage),
        ("image format is invalid", errors.Refused),
        ("image_id does not belong to you", errors.RefusedPermission),
        ("invalid image name", errors.Refused),
        ("invalid image format", errors.Refused),
        ("invalid region", errors.Refused),
        ("region not found", errors.Refused),
        ("something else", errors.Refused),
        ("", errors.Refused),
        ("invalid signature", errors.CredentialsRefused),
        ("bad nonce", errors.CredentialsRefused),
        ("invalid api_id", errors.CredentialsRefused),
        ("unknown API key", errors.CredentialsRefused),
        ("authentication failed", errors.CredentialsRefused),
        ("invalid credentials", errors.CredentialsRefused),
        ("replayed request", errors.CredentialsRefused),
        ("request expired", errors.CredentialsRefused),
        ("timestamp out of range", errors.CredentialsRefused),
        ("permission denied", errors.RefusedPermission),
        ("you are not allowed to delete this image", errors.RefusedPermission),
        ("not owner of image", errors.RefusedPermission),
        ("access denied", errors.RefusedPermission),
        ("image quota exceeded", errors.RefusedQuota),
        ("storage limit reached", errors.RefusedQuota),
        ("rate limit exceeded", errors.Overloaded),
        ("too many requests", errors.Overloaded),
    ],
)
def test_texts_have_their_errors(text, error):
    """By their words, since the service documents no codes."""
    assert error_for(text) is error


def test_a_refusal_of_any_length_is_understood_at_once():
    """However often it names what a rule looks for, nobody waits for it."""
    assert error_for("image " * 200_000) is errors.Refused


@given(
    before=st.text(max_size=700),
    start=st.integers(0, 100),
    length=st.integers(12, 128),
    after=st.text(max_size=50),
)
def test_no_part_of_the_key_is_shown(before, start, length, after):
    """Wherever a text holds a stretch of the key, also where the text is cut."""
    shown = redact(f"{before} {KEY[start : start + length]} {after}")
    assert not any(KEY[i : i + 12] in shown for i in range(len(KEY) - 11))
    assert printable(shown) == shown
    assert len(shown) <= LONGEST_TEXT


def test_a_key_of_any_characters_is_hidden_whole():
    """Also one that reads as several words."""
    key = "a=b:c d,e" * 10
    assert key not in redactor(Credentials("i", key))(f"your key {key} is bad")


def test_signatures_are_hidden():
    """128 hex digits are one; an MD5 is not."""
    assert redact("got " + "ab" * 64) == "got [hidden]"
    assert redact("checksum " + "ab" * 16) == "checksum " + "ab" * 16


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("two\r\n lines\t", "two lines"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\u202eback", "\\u202eback"),
        ("lone \ud800", "lone \\ud800"),
        ("größe", "größe"),
    ],
)
def test_texts_are_safe_to_print(text, shown):
    """What a terminal would act upon is escaped, the rest stays."""
    assert redact(text) == shown
