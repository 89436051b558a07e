"""A service, mounts of it, and an ordinary user to use them."""

from __future__ import annotations

import os
import shutil
import site
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from mount_point import Mounted
from mount_programs import MYSELF, Person, nobody

import imagefs
from imagefs.emulator import Emulator
from imagefs.fuse.mounts import mounts

MakeMount = Callable[..., Mounted]

NOT_COPIED: Final = shutil.ignore_patterns(
    "__pycache__", "__editable__*", "*mypyc*", "mypy*", "pip*", "setuptools*", "ruff*", "hypothesis*",
    "grimp*", "importlinter*", "pygments*", "_pytest*", "*.pth", "imagefs",
)  # fmt: skip
"""What an ordinary user needs none of to mount."""


@pytest.fixture(scope="session", autouse=True)
def _usable_fuse() -> None:
    """Some machines give out /dev/fuse to root only; as root, make it what udev makes it everywhere: 0666."""
    device = Path("/dev/fuse")
    if os.geteuid() == 0 and device.exists() and stat.S_IMODE(device.stat().st_mode) != 0o666:
        device.chmod(0o666)


@pytest.fixture
def workspace() -> Iterator[Path]:
    """A folder that every user may pass through, as pytest's own may not."""
    folder = Path(tempfile.mkdtemp(prefix="imagefs-test-"))
    folder.chmod(0o755)
    yield folder
    still_mounted = [mount for mount in mounts() if mount.mountpoint.startswith(os.fsencode(folder))]
    assert not still_mounted  # removing the folder would remove what is mounted
    shutil.rmtree(folder)


@pytest.fixture
def service(workspace: Path) -> Iterator[Emulator]:
    """A running service with an empty account."""
    with Emulator(workspace / "service") as emulator:
        yield emulator


@pytest.fixture
def prepare(workspace: Path, service: Emulator) -> Iterator[MakeMount]:
    """Makes mount points of the service, not mounted yet. At the end of the test nothing is left of them.

    An unexpected warning or error in a mount's log fails the test.
    """
    made: list[Mounted] = []

    def make(
        *options: str | Path,
        name: str = "a",
        cache_dir: Path | None = None,
        credentials: Path | None = None,
        api_url: str | None = None,
        person: Person = MYSELF,
    ) -> Mounted:
        mounted = Mounted(
            workspace / name,
            *options,
            api_url=api_url or service.api_url,
            credentials=credentials or _credentials_for(person, service, workspace),
            cache_dir=cache_dir or workspace / name / "cache",
            person=person,
        )
        made.append(mounted)
        return mounted

    yield make
    problems = [problem for mounted in reversed(made) for problem in mounted.clean_up()]
    assert not problems


@pytest.fixture
def mount(prepare: MakeMount) -> MakeMount:
    """Mounts the service; takes what ``prepare`` takes."""

    def make(*options: str | Path, **where: object) -> Mounted:
        mounted = prepare(*options, **where)
        mounted.mount()
        return mounted

    return make


def _credentials_for(person: Person, service: Emulator, workspace: Path) -> Path:
    if person is MYSELF:
        return service.credentials_file
    copy = workspace / f"credentials-{person.uid}.toml"
    shutil.copy(service.credentials_file, copy)
    os.chown(copy, person.uid, person.gid)
    return copy


@pytest.fixture(scope="session")
def ordinary() -> Iterator[Person]:
    """An ordinary user who can import imagefs, wherever this checkout lies: whoever runs the tests, or nobody."""
    if os.geteuid() != 0:
        yield MYSELF
        return
    folder = Path(tempfile.mkdtemp(prefix="imagefs-packages-"))
    packages = folder / "packages"
    for source in filter(os.path.isdir, site.getsitepackages()):
        shutil.copytree(source, packages, ignore=NOT_COPIED, dirs_exist_ok=True)
    shutil.copytree(Path(imagefs.__file__).parent, packages / "imagefs", ignore=NOT_COPIED)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    yield nobody(packages)
    shutil.rmtree(folder)
