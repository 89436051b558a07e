"""Snapshots: what a listing says, indexed."""

from weakref import ref

from account_fakes import image

from imagefs.account import Snapshot
from imagefs.core.models import DOCUMENTED_REGIONS


def test_regions_are_the_documented_ones_and_those_listed() -> None:
    """A region without images is there; one that the documentation doesn't know as well."""
    snapshot = Snapshot((image("1", region="mars"), image("2")), 0)
    assert snapshot.regions == (*DOCUMENTED_REGIONS, "mars")
    assert snapshot.region_names.resolve("mars") == "mars"
    assert snapshot.region_names.resolve("venus") is None
    assert snapshot.in_region("montreal") == ()
    assert snapshot.names("montreal").listed == {}


def test_images_keep_the_listing_order() -> None:
    """Directories show what the service shows, in its order."""
    rows = (image("3"), image("1", region="montreal"), image("2"))
    snapshot = Snapshot(rows, 0)
    assert [row.image_id for row in snapshot.in_region("toronto")] == ["3", "2"]
    assert list(snapshot.names("toronto").listed) == ["image 3", "image 2"]
    assert list(snapshot.by_id) == ["3", "1", "2"]


def test_a_successor_shares_the_name_tables_of_unchanged_regions() -> None:
    """Listing 50,000 images again must not cost their names again."""
    old = Snapshot((image("1"), image("2", region="montreal")), 0)
    tables = {region: old.names(region) for region in ("toronto", "montreal", "roubaix")}
    new = old.successor((image("1"), image("2", "renamed", region="montreal")), 1, ("odd",))
    assert new.names("toronto") is tables["toronto"]
    assert new.names("roubaix") is tables["roubaix"]
    assert new.names("montreal").resolve("renamed") == "2"
    assert (new.fetched_ns, new.problems) == (1, ("odd",))


def test_a_region_that_is_not_listed_any_more_leaves_nothing() -> None:
    """A service that names another region in each listing takes no more memory with each."""
    listing = Snapshot((), 0)
    tables = []
    for number in range(3):
        listing = listing.successor((image("1", region=f"region {number}"),), number, ())
        tables.append(ref(listing.names(f"region {number}")))
    assert [table() is not None for table in tables] == [False, False, True]


def test_pending_means_neither_active_nor_failed() -> None:
    """Failed images don't make the listing short-lived."""
    assert not Snapshot((image("1"), image("2", status="killed")), 0).has_pending
    assert Snapshot((image("1"), image("2", status="whatever")), 0).has_pending


def test_fifty_thousand_images_are_all_found() -> None:
    """A large account is listed completely, duplicates of names included."""
    snapshot = Snapshot(tuple(image(str(n), f"image {n // 2}") for n in range(50_000)), 0)
    table = snapshot.names("toronto")
    assert len(table.listed) == 50_000
    assert table.resolve("image 24999~49998") == "49998"
