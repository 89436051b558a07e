"""Every program that people copy and move with, on one mount: a copy is a replica, and nothing is ever lost."""

from __future__ import annotations

import os
import random
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mount_copiers import COPIERS, Copier, missing_programs
from mount_point import Mounted
from mount_programs import attempt, eventually

from imagefs.emulator import Emulator, Fault, Switches

SAVING_S = 0.2
OLDER = "2020-01-01 00:00:00"
"""When the images were made that stand in the way: rsync and cpio leave a newer one alone, without a word."""

REFUSALS = ("permission denied", "quota exceeded")
NOT_SUPPORTED = re.compile(rb"[Oo]peration not supported|ENOTSUP")


def content_of(title: str) -> bytes:
    """Bytes for an image, with a hole inside; others for each title, all of one size."""
    generator = random.Random(title)
    return generator.randbytes(70_000) + bytes(80_000) + generator.randbytes(20_001)


@dataclass(frozen=True, slots=True)
class Account:
    """A service, and its mount."""

    service: Emulator
    mounted: Mounted
    disk: Path

    def names(self, region: str, tag: str) -> list[str]:
        """What the mount shows in a region of all that has to do with *tag*, hidden files too."""
        return sorted(name for name in os.listdir(self.mounted / region) if tag in name)

    def images(self, tag: str) -> dict[tuple[str, str], tuple[str, bytes]]:
        """Status and bytes of the images of the account that have to do with *tag*, by region and name."""
        images = [image for image in self.service.images() if tag in image.name]
        found = {
            (image.region, image.name): (image.status, self.service.content(image.image_id).read_bytes())
            for image in images
        }
        assert len(found) == len(images), "two images have one name"
        return found

    def outcomes(self, action: str) -> list[str]:
        """What became of the calls of *action* since the test began."""
        return [call.outcome for call in self.service.ledger.calls if call.action == action]


@pytest.fixture(scope="module")
def shared() -> Iterator[Account]:
    """An account with the images of all tests of this module, mounted once."""
    folder = Path(tempfile.mkdtemp(prefix="imagefs-test-"))
    with Emulator(folder / "service", switches=Switches(saving_s=SAVING_S)) as service:
        for title, copier in COPIERS.items():
            service.add_image(f"copied-{title}.img", "toronto", content_of(f"copied {title}"))
            service.add_image(f"refused-{title}.img", "toronto", content_of(f"refused {title}"))
            source = f"kept-{title}.img"
            service.add_image(source, "toronto", content_of(f"kept {title}"))
            target = f"taken-{source}" if copier.renames else source
            service.add_image(target, "montreal", content_of(f"taken {title}"), time_created=OLDER)
        disk = folder / "disk"
        disk.mkdir()
        mounted = Mounted(
            folder / "a",
            api_url=service.api_url,
            credentials=service.credentials_file,
            cache_dir=folder / "cache",
        )
        mounted.may_log(*REFUSALS)
        mounted.mount()
        yield Account(service, mounted, disk)
        problems = mounted.clean_up()

    shutil.rmtree(folder)
    assert not problems


@pytest.fixture
def account(shared: Account) -> Account:
    """The account, with an empty ledger."""
    shared.service.ledger.clear()
    return shared


def each(*titles: str):
    """A test for each of these rows of the table."""
    return pytest.mark.parametrize(
        ("title", "copier"), [(title, COPIERS[title]) for title in titles], ids=titles
    )


def test_every_program_is_installed():
    """Each row of the table is run; scripts/setup --dev installs what it needs."""
    assert missing_programs() == []


@each(*COPIERS)
def test_a_copy_is_one_replica(account: Account, title: str, copier: Copier):
    """One replica under the wanted name and nothing else; a move's source goes, and a copy's stays."""
    tag = f"copied-{title}."
    source = account.mounted / "toronto" / f"{tag}img"
    target = account.mounted / "montreal" / (f"new-{tag}img" if copier.renames else source.name)
    done = attempt(*copier.words(source, target))
    assert done.returncode == 0, done.stderr
    assert account.names("montreal", tag) == [target.name]
    assert account.names("toronto", tag) == ([] if copier.moves else [source.name])
    image = ("active", content_of(f"copied {title}"))
    expected = {("montreal", target.name): image}
    if not copier.moves:
        expected["toronto", source.name] = image
    eventually(lambda: account.images(tag) == expected)
    assert account.outcomes("replicate") == ["ok"]
    assert account.outcomes("delete") == ["ok"] * copier.moves
    possible = {True: [0], False: [len(image[1])], None: [0, len(image[1])]}[copier.by_range]
    assert account.service.ledger.bytes_retrieved() in possible


@each(*(title for title, copier in COPIERS.items() if not copier.replaces))
def test_a_name_that_is_taken_is_refused(account: Account, title: str, copier: Copier):
    """The program fails, and both images are what they were."""
    source = account.mounted / "toronto" / f"kept-{title}.img"
    target = account.mounted / "montreal" / (f"taken-{source.name}" if copier.renames else source.name)
    before = account.images(f"kept-{title}.")
    done = attempt(*copier.words(source, target))
    assert done.returncode != 0
    eventually(lambda: account.images(f"kept-{title}.") == before)


@each(*(title for title, copier in COPIERS.items() if copier.replaces))
def test_who_removes_first_replaces(account: Account, title: str, copier: Copier):
    """A program that removes what is in its way has the old image deleted and one replica made."""
    source = account.mounted / "toronto" / f"kept-{title}.img"
    target = account.mounted / "montreal" / (f"taken-{source.name}" if copier.renames else source.name)
    done = attempt(*copier.words(source, target))
    assert done.returncode == 0, done.stderr
    image = ("active", content_of(f"kept {title}"))
    expected = {("montreal", target.name): image}
    if not copier.moves:
        expected["toronto", source.name] = image
    eventually(lambda: account.images(f"kept-{title}.") == expected)
    assert account.outcomes("replicate") == ["ok"]
    assert account.outcomes("delete") == ["ok"] * (2 if copier.moves else 1)


@each(*(title for title, copier in COPIERS.items() if copier.reads_disk))
def test_unknown_content_is_refused(account: Account, title: str, copier: Copier):
    """What no image has cannot be brought into the account: the program says so, if it listens, and nothing is left."""
    source = account.disk / f"unknown-{title}.img"
    source.write_bytes(content_of("unknown"))
    target = account.mounted / "montreal" / source.name
    done = attempt(*copier.words(source, target))
    if copier.hears_close:
        assert done.returncode != 0
        assert NOT_SUPPORTED.search(done.stderr), done.stderr
        assert source.read_bytes() == content_of("unknown")
    assert account.names("montreal", f"unknown-{title}.") == []
    assert account.outcomes("replicate") == []


@pytest.mark.parametrize("refusal", REFUSALS)
@each(*COPIERS)
def test_a_refusal_by_the_service_reaches_the_program(
    account: Account, title: str, copier: Copier, refusal: str
):
    """The program fails, the source stays, and nothing is left of the target."""
    tag = f"refused-{title}."
    source = account.mounted / "toronto" / f"{tag}img"
    target = account.mounted / "montreal" / source.name
    before = account.images(tag)
    account.service.faults.add(Fault("refused", action="replicate", value=refusal, times=None))
    try:
        done = attempt(*copier.words(source, target))
    finally:
        account.service.faults.clear()
    assert done.returncode != 0
    assert account.names("montreal", tag) == []
    assert account.names("toronto", tag) == [source.name]
    assert account.images(tag) == before
    assert account.outcomes("delete") == []
