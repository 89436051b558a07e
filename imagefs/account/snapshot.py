"""The account's images at one moment.

Made for each listing by :mod:`imagefs.account.listing`, read by the tree on trio's thread. A snapshot never
changes; what it derives from its rows is computed on first use and kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from imagefs.core.models import DOCUMENTED_REGIONS, ListedImage, Phase, phase_of
from imagefs.core.names import NameTable, region_directory


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One listing of the whole account; ids are unique.

    ``fetched_ns`` is when the service was asked, in nanoseconds since the epoch; ``problems`` holds a
    sentence for each row that made no sense.
    """

    images: tuple[ListedImage, ...]
    fetched_ns: int
    problems: tuple[str, ...] = ()
    _tables: dict[str, NameTable] = field(default_factory=dict, init=False, repr=False)
    _earlier_tables: dict[str, NameTable] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def by_id(self) -> Mapping[str, ListedImage]:
        """Every image by its id."""
        return {image.image_id: image for image in self.images}

    @cached_property
    def by_region(self) -> Mapping[str, tuple[ListedImage, ...]]:
        """The images of each region that has some, in listing order."""
        rows: defaultdict[str, list[ListedImage]] = defaultdict(list)
        for image in self.images:
            rows[image.region].append(image)
        return {region: tuple(images) for region, images in rows.items()}

    @cached_property
    def regions(self) -> tuple[str, ...]:
        """The documented regions, then any other that the listing names."""
        return tuple(dict.fromkeys((*DOCUMENTED_REGIONS, *self.by_region)))

    @cached_property
    def region_names(self) -> NameTable:
        """The names of the regions' directories; a region's id is its own name."""
        return region_directory(self.regions)

    @cached_property
    def has_pending(self) -> bool:
        """Whether some image is neither active nor failed."""
        return any(phase_of(status) is Phase.PENDING for status in {image.status for image in self.images})

    def in_region(self, region: str) -> tuple[ListedImage, ...]:
        """One region's images in listing order; none for a region that is not there."""
        return self.by_region.get(region, ())

    def names(self, region: str) -> NameTable:
        """The file names of one region."""
        table = self._tables.get(region)
        if table is None:
            names = ((image.image_id, image.name) for image in self.in_region(region))
            earlier = self._earlier_tables.pop(region, None)
            table = self._tables[region] = NameTable(names) if earlier is None else earlier.successor(names)
        return table

    def successor(
        self, images: tuple[ListedImage, ...], fetched_ns: int, problems: tuple[str, ...]
    ) -> Snapshot:
        """The snapshot of a newer listing, which takes over the unchanged parts of the regions' name tables.

        Indexes its rows right away: called in a worker thread, this spares trio's thread that work.
        """
        newer = Snapshot(images, fetched_ns, problems)
        for region, table in self._tables.copy().items():
            if region in newer.by_region or region in DOCUMENTED_REGIONS:
                same = newer.in_region(region) == self.in_region(region)
                (newer._tables if same else newer._earlier_tables)[region] = table
        _ = newer.by_id, newer.has_pending
        for region in newer.by_region:
            newer.names(region)
        return newer


NOTHING_LISTED = Snapshot((), 0)
"""What stands for the account before its first listing."""
