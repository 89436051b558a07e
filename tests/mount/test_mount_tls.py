"""A service over TLS: who trusts its certificate mounts and reads it, and who does not mounts nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from certificates import self_signed
from mount_programs import MYSELF, run

from imagefs.emulator import Emulator

SIZE = 3_000_000


@pytest.fixture
def certificate(workspace):
    """A certificate that signs itself, and its key."""
    return self_signed(workspace)


@pytest.fixture
def service(workspace, certificate):
    """A service that shows the certificate."""
    with Emulator(workspace / "service", tls=certificate) as emulator:
        yield emulator


def test_a_mount_refuses_a_service_that_it_cannot_trust(service, prepare, certificate):
    """At once, with the cause, and without a call; also where an earlier listing could be shown."""
    image_id = service.add_synthetic("a", "toronto", SIZE)
    trusting = prepare(person=replace(MYSELF, environment={"REQUESTS_CA_BUNDLE": str(certificate[0])}))
    refusing = prepare(name="b", cache_dir=trusting.cache_dir)
    refusing.may_log("certificate")
    for has_listing in (False, True):
        calls = len(service.ledger.calls)
        done = refusing.try_mount()
        assert done.returncode == 1
        assert b"certificate is not trusted" in done.stderr
        assert done.stderr.count(b"\n") == 1
        assert not refusing.is_mounted
        assert len(service.ledger.calls) == calls
        if not has_listing:
            trusting.mount()
            assert run("cat", trusting / "toronto/a") == service.content(image_id).read_bytes()
            trusting.umount()
