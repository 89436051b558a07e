"""What the doctor says about mounts, dead or alive."""

from __future__ import annotations

import json
import signal

from mount_programs import attempt, run


def findings(mounted):
    """Of all findings those about the mount, by what was looked at."""
    done = mounted.imagefs("doctor", "--json", "--credentials", "/missing")
    return {
        finding["what"]: finding
        for finding in json.loads(done.stdout)["findings"]
        if finding["what"].endswith(str(mounted.path))
    }


def test_a_mount_that_answers(service, mount):
    """It is well, and its readahead is looked at."""
    mounted = mount()
    found = findings(mounted)
    assert found[f"mount {mounted.path}"]["grade"] == "ok"
    assert f"readahead of {mounted.path}" in found


def test_a_mount_that_hangs(service, mount):
    """It is told after a few seconds, and the doctor does not hang with it."""
    mounted = mount()
    mounted.send(signal.SIGSTOP)
    try:
        finding = findings(mounted)[f"mount {mounted.path}"]
    finally:
        mounted.send(signal.SIGCONT)
    assert finding["grade"] == "failure"
    assert "has not answered" in finding["message"]
    assert run("ls", mounted.path)


def test_a_mount_that_has_died(service, mount):
    """The remedy works as it stands."""
    mounted = mount()
    mounted.kill()
    finding = findings(mounted)[f"mount {mounted.path}"]
    assert (finding["grade"], finding["message"]) == ("failure", "Its process has died.")
    command = finding["remedy"].partition(",")[0].split()
    assert command[0] == "imagefs"
    assert mounted.imagefs(*command[1:]).returncode == 0
    assert not mounted.is_mounted
    assert attempt("ls", mounted.path).returncode == 0
