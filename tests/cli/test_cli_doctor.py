"""What the doctor finds: an account as it should be, and one ailment at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_runs import KEY, run

from imagefs.emulator import Emulator
from imagefs.emulator.faults import Fault

Found = dict[str, dict[str, str]]

OF_THIS_MACHINE = ("mount ", "readahead of ")
"""What is found about mounts that other programs have here, by its beginning."""


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A service with one image, and the settings that lead to it."""
    with Emulator(tmp_path / "service", api_key=KEY) as emulator:
        emulator.add_image("a", "toronto", b"abcdef")
        monkeypatch.setenv("IMAGEFS_API_URL", emulator.api_url)
        monkeypatch.setenv("IMAGEFS_CREDENTIALS", str(emulator.credentials_file))
        yield emulator


def examine(capsys: pytest.CaptureFixture[str], *options: str) -> Found:
    """The findings by what was looked at, but those of other mounts; a failure among all shows in the status."""
    done = run(capsys, "doctor", "--json", *options)
    assert done.err == ""
    answer = json.loads(done.out)
    failures = [finding for finding in answer["findings"] if finding["grade"] == "failure"]
    assert done.status == (1 if failures else 0)
    assert answer["counts"].get("failure", 0) == len(failures)
    assert all(finding["remedy"] for finding in answer["findings"] if finding["grade"] != "ok")
    return {
        finding["what"]: finding
        for finding in answer["findings"]
        if not finding["what"].startswith(OF_THIS_MACHINE)
    }


def test_all_is_well(capsys: pytest.CaptureFixture[str], service: Emulator, home: Path) -> None:
    """Each part is named, what the service can do is told, and nothing is left behind or fetched."""
    found = examine(capsys)
    ailing = {what for what, finding in found.items() if finding["grade"] != "ok"}
    assert all(what == "cache disk" for what in ailing)  # tests may run in memory
    for what in (
        "/dev/fuse",
        "fusermount3",
        "libfuse",
        "C addition",
        "credentials",
        "clock",
        "region roubaix",
    ):
        assert what in found
    assert (
        found["region toronto"]["message"] == "1 image, readable; Range is honoured; the length is announced"
    )
    assert service.api_url in found["service"]["message"]
    assert service.ledger.bytes_retrieved() == 1
    assert not list(home.rglob("*"))


def test_for_people(capsys: pytest.CaptureFixture[str], service: Emulator) -> None:
    """A line for each finding, the remedy below it, and the sum at the end; no colour off a terminal."""
    service.switches.range = False
    lines = run(capsys, "doctor").out.splitlines()
    place = next(number for number, line in enumerate(lines) if "region toronto" in line)
    assert lines[place].startswith("warning  region toronto: 1 image, readable, but from the beginning only")
    assert lines[place + 1].startswith("         -> ")
    assert re.fullmatch(r"\d+ ok, (1 warning|\d+ warnings), (1 failure|\d+ failures)", lines[-1])
    assert not any("\x1b" in line for line in lines)


def test_a_service_that_says_little(capsys: pytest.CaptureFixture[str], service: Emulator) -> None:
    """Neither Range nor a length: told, and no failure."""
    service.switches.turn({"range": False, "framing": "close"})
    toronto = examine(capsys)["region toronto"]
    assert toronto["grade"] == "warning"
    assert "Range is not honoured; the length is not announced" in toronto["message"]


def test_a_clock_that_is_off(capsys: pytest.CaptureFixture[str], service: Emulator) -> None:
    """By how much and in which direction, before calls are refused for it."""
    service.switches.clock_offset_s = 100.0
    clock = examine(capsys)["clock"]
    assert clock["grade"] == "warning"
    assert (
        "100 s behind" in clock["message"] or "101 s behind" in clock["message"] or "99 s" in clock["message"]
    )
    assert "timedatectl" in clock["remedy"]


def test_a_key_that_is_refused(
    capsys: pytest.CaptureFixture[str], service: Emulator, credentials: Path
) -> None:
    """The remedy is to log in; what needs the service is not tried."""
    found = examine(capsys, "--credentials", str(credentials))
    assert found["credentials"]["grade"] == "ok"
    assert found["service"]["grade"] == "failure"
    assert "imagefs login" in found["service"]["remedy"]
    assert "region toronto" not in found


def test_no_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    """The rest is looked at all the same."""
    found = examine(capsys)
    assert found["credentials"]["grade"] == "failure"
    assert "/dev/fuse" in found
    assert "cache locks" in found


def test_an_image_that_cannot_be_read(capsys: pytest.CaptureFixture[str], service: Emulator) -> None:
    """The region is the one that fails, with the service's words."""
    service.faults.add(Fault("status", status=403, action="retrieve", times=None))
    toronto = examine(capsys)["region toronto"]
    assert toronto["grade"] == "failure"
    assert "'a' cannot be read" in toronto["message"]


def test_a_cache_that_cannot_be(capsys: pytest.CaptureFixture[str], service: Emulator) -> None:
    """A place where nothing can be written is a failure that names it; one in memory is a warning."""
    found = examine(capsys, "--cache-dir", "/proc/imagefs-test")
    assert found["cache"]["grade"] == "failure"
    found = examine(capsys, "--cache-dir", "/dev/shm/imagefs-test")
    assert found["cache disk"]["grade"] == "warning"
