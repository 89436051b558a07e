"""What is shown to people: on a terminal with colour, elsewhere without, and never a text that a terminal obeys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_runs import run
from cli_terminal import Terminal
from hypothesis import given
from hypothesis import strategies as st

from imagefs.cli import status
from imagefs.cli.service import in_parallel
from imagefs.cli.showing import plain, show, size, span
from imagefs.cli.sizes import count_of
from imagefs.emulator import Emulator, Fault

IMAGEFS = (sys.executable, "-m", "imagefs")


@pytest.fixture
def account(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """The options for an account with one image of an evil name."""
    with Emulator(tmp_path / "service") as service:
        service.add_image("evil\x1b]0;title\x07\nname", "toronto", b"abc")
        yield ("--api-url", service.api_url, "--credentials", str(service.credentials_file))


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_table_on_a_terminal(account: tuple[str, ...], no_color: str) -> None:
    """Its status has a colour, unless NO_COLOR says otherwise."""
    with Terminal(*IMAGEFS, "ls", *account, environment={"NO_COLOR": no_color}) as terminal:
        assert terminal.ended() == 0
    assert r"evil\x1b]0;title\x07" in terminal.screen
    assert "\x1b]0" not in terminal.screen
    assert ("\x1b[32mactive" in terminal.screen) == (not no_color)


def test_a_table_elsewhere(capsys: pytest.CaptureFixture[str], account: tuple[str, ...]) -> None:
    """No colour, no blanks at the ends, a line an image."""
    done = run(capsys, "ls", *account)
    assert (done.status, done.err) == (0, "")
    assert "\x1b" not in done.out
    lines = done.out.splitlines()
    assert len(lines) == 2
    assert lines == [line.rstrip() for line in lines]


def test_an_image_whose_details_fail_hides_no_other(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is listed, with the reason why the rest is not known."""
    monkeypatch.setattr("imagefs.cli.ls.PATIENCE_S", 3.0)
    with Emulator(tmp_path / "service") as service:
        broken = service.add_image("broken\x1b", "toronto", b"abc")
        service.add_image("sound", "toronto", b"abc")
        service.faults.add(Fault("status", "details", broken, None, status=500))
        account = ("--api-url", service.api_url, "--credentials", str(service.credentials_file))
        table = run(capsys, "ls", *account)
        rows = json.loads(run(capsys, "ls", "--json", *account).out)
    assert (table.status, len(table.out.splitlines())) == (0, 3)
    assert table.line.startswith(r"imagefs: broken\x1b: ")
    assert "500" in table.line
    assert [(row["size"], "500" in (row["problem"] or "")) for row in rows] == [(None, True), (3, False)]


def test_a_service_that_fails_for_many_images_is_to_blame(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for each of them."""
    monkeypatch.setattr("imagefs.cli.ls.PATIENCE_S", 3.0)
    monkeypatch.setattr("imagefs.cli.ls.PARALLEL", 2)
    with Emulator(tmp_path / "service") as service:
        for number in range(3):
            service.add_image(f"{number}", "toronto", b"abc")
        service.faults.add(Fault("status", "details", None, None, status=500))
        done = run(capsys, "ls", "--api-url", service.api_url, "--credentials", str(service.credentials_file))
    assert (done.status, done.out) == (1, "")
    assert "500" in done.line


def test_any_text_in_any_locale(tmp_path: Path) -> None:
    """What it has no characters for is written as escapes, except a path that other programs are given."""
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    with Emulator(tmp_path / "service") as service:
        service.add_image("\u0434\u0438\u0441\u043a\u00e9", "toronto", b"abc")
        account = ("--api-url", service.api_url, "--credentials", str(service.credentials_file))
        listing = subprocess.run([*IMAGEFS, "ls", *account], env=environment, capture_output=True, check=True)
        assert rb"\u0434\u0438\u0441\u043a" + b"\xe9" in listing.stdout
        folder = os.fsencode(tmp_path) + b"/\xff"
        where = [*IMAGEFS, "cache", "where", "--cache-dir", folder, *account]
        assert subprocess.run(where, capture_output=True, check=True).stdout == folder + b"\n"


def test_without_any_mount(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What has no mount below it is told apart from what cannot be asked."""
    for command in ("status", "wait", "warm", "pin"):
        done = run(capsys, command, str(tmp_path))
        assert (done.status, done.out) == (1, "")
        assert "on a mount of imagefs" in done.line


def test_no_error_reaches_a_terminal_as_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Whatever it names."""
    done = run(capsys, "umount", f"{tmp_path}/\x1b]0;title\x07\x9b2J")
    assert done.status == 1
    assert done.line.isprintable()
    assert r"\x1b]0;title\x07\x9b2J" in done.line


@given(st.text())
def test_no_text_reaches_a_terminal_as_it_is(text: str) -> None:
    """On one line, without a control character."""
    assert not {"Cc", "Cs", "Zl", "Zp"}.intersection(map(unicodedata.category, str(plain(text))))


def test_sizes_and_spans() -> None:
    """As people read them."""
    assert [size(number) for number in (None, 0, 1023, 1024, 10 << 20, 1536 << 20)] == [
        "-", "0 B", "1023 B", "1.0 KiB", "10.0 MiB", "1.5 GiB",
    ]  # fmt: skip
    assert [span(number) for number in (-1, 0.4, 59, 60, 3661, 90000)] == [
        "0 s", "0 s", "59 s", "1 min 0 s", "1 h 1 min", "1 d 1 h",
    ]  # fmt: skip


def test_work_side_by_side() -> None:
    """Each item once; the first failure is raised, and nobody waits for the rest."""
    assert sorted(in_parallel(lambda number: number * 2, range(50), 4)) == [(n, 2 * n) for n in range(50)]
    assert list(in_parallel(str, [], 4)) == []
    with pytest.raises(ZeroDivisionError):
        list(in_parallel(lambda number: 1 // number, [0], 4))


@pytest.mark.parametrize(
    ("requests", "sent", "shown"),
    [
        (0, 0, "not asked for yet"),
        (1, 3 << 20, "1.0 MiB/s  5 s left"),
        (2, 8 << 20, "the service has all of it"),
    ],
)
def test_how_far_an_upload_is(
    capsys: pytest.CaptureFixture[str], requests: int, sent: int, shown: str
) -> None:
    """By two looks that are two seconds apart."""
    row = {"image_id": "7", "region": "toronto", "name": "disk", "size": 8 << 20, "requests": requests}
    look = {"mountpoint": "/m", "answers": True}
    looks = [{**look, "now": 10.0, "uploads": [{**row, "sent": min(sent, 1 << 20)}]}]
    looks += [{**look, "now": 12.0, "uploads": [{**row, "sent": sent}]}]
    (after,) = status._with_rates(looks[:1], looks[1:])
    for part in status._section("uploads", map(status._upload, after["uploads"]), 0):
        show(part)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "uploads"
    assert "toronto/disk" in lines[1]
    assert lines[1].endswith(shown)


def test_a_cache_whose_disk_tells_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """It may hang or fail, or just be busy."""
    show(status._cache({"cache": {"dir": "/cache\x1b"}}))
    assert capsys.readouterr().out == "/cache\\x1b does not answer, or cannot be used\n"


def test_one_is_not_many() -> None:
    """As people count."""
    assert [count_of(number, "content") for number in (0, 1, 2)] == ["0 contents", "1 content", "2 contents"]
    assert count_of(1) == "1 image"
