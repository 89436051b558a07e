"""What all tests share: a home directory of their own, and what becomes of a skipped test.

A test that needs what this machine may lack carries a marker of :data:`IMPOSSIBLE`. Where the environment says
``CI=true``, these are the only reasons to skip: any other skip is a failure.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import pytest
from hypothesis import settings

from imagefs.cli.mount_options import MOUNT_OPTIONS


def _lacks_loop_devices() -> bool:
    return not os.access("/dev/loop-control", os.R_OK | os.W_OK)


def _lacks_autofs() -> bool:
    return "nodev\tautofs" not in Path("/proc/filesystems").read_text().splitlines()


def _lacks_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return True
    return False


def _lacks_pruning() -> bool:
    major, minor, *_ = os.uname().release.split(".")
    return (int(major), int(minor)) < (6, 18)


IMPOSSIBLE: Final[dict[str, tuple[str, Callable[[], bool]]]] = {
    "root": ("only root can mount other file systems and become another user", lambda: os.geteuid() != 0),
    "loop_device": ("this machine gives out no loop devices", _lacks_loop_devices),
    "ipv6": ("this machine has no IPv6", _lacks_ipv6),
    "autofs": ("this kernel has no autofs", _lacks_autofs),
    "pruning": ("this kernel cannot be asked to forget inodes, as Linux can from 6.18 on", _lacks_pruning),
}
"""Marker: why a test that carries it cannot run, and whether that is so here."""

FOREIGN_SETTINGS: Final = (
    "IMAGEFS_PROFILE",
    *(option.environment for option in MOUNT_OPTIONS),
    "LUNANODE_API_ID",
    "LUNANODE_API_KEY",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
)
"""What the person who runs the tests may have set for programs, and no test may depend on."""

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known; how long an example of hypothesis takes is the machine's matter.

    A shell starts what it sends to the background with SIGINT ignored, and the programs that tests start would inherit
    that: so here it is what it is on a terminal.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    settings.register_profile("patient", settings.default, deadline=None)
    settings.load_profile("patient")
    for marker, (reason, _) in IMPOSSIBLE.items():
        config.addinivalue_line("markers", f"{marker}: skipped where {reason}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is impossible here."""
    for marker, (reason, is_so) in IMPOSSIBLE.items():
        if item.get_closest_marker(marker) and is_so():
            pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """In CI, an avoidable skip of a test is a failure."""
    return _strict((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """In CI, an avoidable skip of a whole module is a failure."""
    return _strict((yield))


def _strict(report: Report) -> Report:
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if reason.removeprefix("Skipped: ") not in {reason for reason, _ in IMPOSSIBLE.values()}:
            report.outcome = "failed"
            report.longrepr = f"Nothing that could run is skipped in CI. {reason}"
    return report


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from or lands in the home directory of the person who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        for name in FOREIGN_SETTINGS:
            patch.delenv(name, raising=False)
        yield
