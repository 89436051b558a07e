"""What imagefs gives to shells, to systemd and to udev, tried with what reads it."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runs import run

from imagefs.cli.service_manager import notify

IMAGEFS = Path(sys.executable).with_name("imagefs")

WORDS = {"bash": ("imagefs um", "1"), "zsh": ("imagefs um", "1"), "fish": ("imagefs um", "um")}
"""What each shell puts into COMP_WORDS and COMP_CWORD for ``imagefs um<Tab>``."""


@pytest.mark.parametrize("shell", WORDS)
def test_each_shell_gets_its_script_and_its_answers(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    """The script asks imagefs in the shell's own way, and imagefs answers with the command that fits."""
    script = run(capsys, "completion", shell)
    assert (script.status, script.err) == (0, "")
    assert f"_IMAGEFS_COMPLETE={shell}_complete" in script.out
    words, word = WORDS[shell]
    asked = {**os.environ, "COMP_WORDS": words, "COMP_CWORD": word, "_IMAGEFS_COMPLETE": f"{shell}_complete"}
    answer = subprocess.run([IMAGEFS], env=asked, capture_output=True, text=True, check=True)
    assert re.split(r"[\n,\t]", answer.stdout)[1] == "umount"
    assert answer.stderr == ""


def test_bash_completes_with_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    """In a real shell: commands, then options of the command."""
    script = run(capsys, "completion", "bash").out
    for line, completed in (("imagefs umo", "umount"), ("imagefs mount --fore", "--foreground")):
        words = " ".join(f"'{word}'" for word in line.split())
        probe = f"COMP_WORDS=({words}); COMP_CWORD={len(line.split()) - 1}; _imagefs_completion '{IMAGEFS}'"
        done = subprocess.run(
            ["bash", "-c", f'{script}\n{probe}\nprintf "%s\\n" "${{COMPREPLY[@]}}"'],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.splitlines() == [completed]


@pytest.mark.parametrize("whose", ["user", "system"])
def test_systemd_takes_the_units(tmp_path: Path, whose: str) -> None:
    """Without a complaint, for an instance with a space in its path."""
    with (tmp_path / "imagefs@.service").open("wb") as unit:
        subprocess.run([IMAGEFS, "system-file", f"{whose}.service"], stdout=unit, check=True)
    done = subprocess.run(
        ["systemd-analyze", "verify", f"--{whose}", "--man=no", tmp_path / r"imagefs@srv-my\x20images.service"],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    complaints = [
        line for line in done.stderr.splitlines() if "imagefs" in line
    ]  # not those about other units
    assert (done.returncode, complaints) == (0, [])


def test_a_unit_calls_the_imagefs_that_printed_it(tmp_path: Path) -> None:
    """By its absolute path, whatever the caller's folder and PATH."""
    (tmp_path / "my bin").mkdir()
    program = tmp_path / "my bin" / "imagefs"
    program.symlink_to(IMAGEFS)
    for called, folder in (("imagefs", tmp_path), ("./imagefs", program.parent), (str(program), tmp_path)):
        done = subprocess.run(
            [called, "system-file", "user.service"],
            env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"},
            cwd=folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert f'ExecStart="{program}" mount --foreground -- "%f"' in done.stdout


def test_the_udev_rule_is_for_mounts_of_imagefs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Its program, given another mountinfo and other knobs, changes the one of imagefs and no other."""
    rule = run(capsys, "system-file", "readahead.rules").out
    program = re.search(r"""RUN\+="/bin/sh -c '(.*)'"$""", rule, re.MULTILINE)
    assert program is not None
    (tmp_path / "mountinfo").write_text(
        "30 22 0:45 / /a rw - fuse.imagefs imagefs:a rw\n31 22 0:46 / /b rw - fuse.sshfs b rw\n"
    )
    for device, expected in (("0:45", "1024"), ("0:46", "128"), ("0:4", "128")):
        knob = tmp_path / "bdi" / device / "read_ahead_kb"
        knob.parent.mkdir(parents=True)
        knob.write_text("128\n")
        command = program[1].replace("%k", device).replace(r"\"", '"').replace("sleep 0.5", ":")
        command = command.replace("/proc/self/", f"{tmp_path}/").replace("/sys/class/", f"{tmp_path}/")
        subprocess.run(["/bin/sh", "-c", command], check=True)
        assert knob.read_text().strip() == expected


@pytest.mark.parametrize("address", ["/notify", "@imagefs-test-{pid}"])
def test_the_service_manager_is_told(tmp_path: Path, address: str) -> None:
    """By a datagram to the socket that it names, a path or an abstract one."""
    named = str(tmp_path) + address if address[0] == "/" else address.format(pid=os.getpid())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(named.replace("@", "\0", 1) if named[0] == "@" else named)
        manager.settimeout(30)
        notify("READY=1", {"NOTIFY_SOCKET": named})
        assert manager.recv(100) == b"READY=1"


def test_no_service_manager_is_no_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a socket nothing is said; one that leads nowhere is worth a warning."""
    notify("READY=1", {})
    notify("READY=1", {"NOTIFY_SOCKET": "vsock:2:1234"})
    assert not caplog.records
    notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "gone")})
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
