"""Inode numbers: stable, and never shared by two kinds of node."""

from hypothesis import example, given
from hypothesis import strategies as st

from imagefs.core.inodes import ROOT_INODE, control_inode, image_inode, region_inode

IDS = st.one_of(st.integers(0, 2**70).map(str), st.text("0aZ_-", min_size=1, max_size=64))


def test_numbers_are_the_same_in_every_run() -> None:
    """A remount, and the next release, shows the same numbers."""
    assert ROOT_INODE == 1
    assert image_inode("141119") == 2**32 + 141119
    assert image_inode("img-1") == 4925192847132815715
    assert region_inode("toronto") == 1213794079013010661
    assert control_inode("toronto") == 2366715583619857637


@given(IDS, IDS)
@example("7", "007")
@example(str(2**48), str(2**48 - 1))
@example("٣", "3")
def test_two_images_have_two_numbers(one: str, other: str) -> None:
    """Ids that differ in writing only are still two images."""
    assert (image_inode(one) == image_inode(other)) == (one == other)


@given(IDS, st.text(max_size=20))
def test_kinds_never_collide(image_id: str, region: str) -> None:
    """Each kind has its range, above the numbers free for short-lived nodes and below 2**63."""
    image = image_inode(image_id)
    assert 2**32 <= image < 2**49 or 2**62 <= image < 2**63
    assert 2**60 <= region_inode(region) < 2**61 <= control_inode(region) < 2**62
