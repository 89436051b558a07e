"""``imagefs emulator`` serves until it is told to end, and says in one line why it cannot."""

from __future__ import annotations

import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import requests

from imagefs.emulator import Emulator

COMMAND = [sys.executable, "-c", "from imagefs.emulator.command import emulator_command; emulator_command()"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    """It prints where it is and where the credentials are, and exits with 0."""
    key_file = tmp_path / "key"
    key_file.write_text("k" * 128 + "\n")
    arguments = [
        "--api-id",
        "a" * 16,
        "--api-key-file",
        key_file,
        "--chunked",
        "--no-range",
        "--saving",
        "0.5",
    ]
    with subprocess.Popen(
        [*COMMAND, "--data", tmp_path / "d", *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("API: ").strip()
        credentials = Path(process.stdout.readline().removeprefix("Credentials: ").strip())
        assert tomllib.loads(credentials.read_text()) == {"api_id": "a" * 16, "api_key": "k" * 128}
        switches = requests.get(url.removesuffix("api/") + "control/switches", timeout=20).json()
        assert (switches["framing"], switches["range"], switches["saving_s"]) == ("chunked", False, 0.5)
        process.send_signal(number)
        assert process.wait(20) == 0


def error_of(*arguments: object) -> str:
    """What the command says where it cannot start."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_it_says_why_it_cannot_start(tmp_path: Path) -> None:
    """A port or a directory in use, a directory that cannot be made, a key that cannot be read."""
    (tmp_path / "file").touch()
    with Emulator(tmp_path / "used") as other:
        port = other.root_url.split(":")[2].strip("/")
        assert f"Port {port}" in error_of("--data", tmp_path / "new", "--port", port)
        assert "Another emulator" in error_of("--data", tmp_path / "used")
    assert "cannot be used" in error_of("--data", tmp_path / "file" / "below")
    assert "API key" in error_of("--data", tmp_path / "new", "--api-key-file", tmp_path / "none")
