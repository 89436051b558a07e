"""What changes a directory: new files, renames, removals, moves and links. On trio's thread.

Used by the FUSE adapter, as :attr:`imagefs.vfs.tree.Tree.changes`.
"""

from __future__ import annotations

from collections.abc import Callable

from imagefs.account import Account
from imagefs.core.names import decode, encode, from_os, is_copy_of_control
from imagefs.errors import Exists, NotFound, NotPermitted, ReadOnly, TreeError
from imagefs.vfs.attributes import AttributeRules, Attributes
from imagefs.vfs.drafts import Drafts
from imagefs.vfs.editions import Editions
from imagefs.vfs.files import Files, OpenedFile
from imagefs.vfs.fillers import Caller, Fillers
from imagefs.vfs.metadata import Metadata
from imagefs.vfs.nodes import Control, Draft, Image, Region, Root
from imagefs.vfs.resolution import Resolution


class Changes:
    """The changes of one mounted account's directories."""

    def __init__(
        self,
        account: Account,
        files: Files,
        drafts: Drafts,
        resolution: Resolution,
        metadata: Metadata,
        rules: AttributeRules,
        editions: Editions,
        wall_ns: Callable[[], int],
    ) -> None:
        self._account = account
        self._files = files
        self._drafts = drafts
        self._resolution = resolution
        self._metadata = metadata
        self._rules = rules
        self._editions = editions
        self._wall_ns = wall_ns

    async def create(
        self, parent: int, name: bytes, *, exclusive: bool = False, caller: Caller | None = None
    ) -> tuple[OpenedFile, Attributes]:
        """A new, empty file in a region, which *caller* opens, *exclusive* where it must not be there (O_EXCL).

        Raises Exists, NotPermitted in the root and for a copy of the control file.
        """
        region = self._region(parent)
        if is_copy_of_control(from_os(name)):
            raise NotPermitted("The control file of a region cannot be replaced.")
        if self._resolution.find(region, name, await self._account.images()) is not None:
            raise Exists(f"There is a {name!r} in {region.name} already.")
        creator = Fillers() if exclusive else None
        if creator is not None:
            creator.note(caller)
        draft = self._drafts.create(region.name, from_os(name), self._wall_ns(), creator)
        node = Draft(draft.number)
        self._resolution.remember(node)
        return self._files.open_draft(draft, writable=True), self._rules.of_draft(node, draft)

    async def make(self, parent: int, name: bytes) -> Attributes:
        """As :meth:`create`, for a program that opens the file afterwards."""
        opened, attributes = await self.create(parent, name)
        await self._files.release(opened.handle)
        return attributes

    def _region(self, inode: int) -> Region:
        """The region in which something is to be changed. Raises ReadOnly or NotPermitted."""
        self.refuse_if_read_only()
        directory = self._resolution.directory(inode)
        if isinstance(directory, Root):
            raise NotPermitted("Images belong into a region's directory.")
        return directory

    async def rename(
        self, old_parent: int, old_name: bytes, new_parent: int, new_name: bytes, *, exchange: bool
    ) -> None:
        """image/rename within a region, a move between two. Raises Exists onto an image, NotPermitted."""
        old, new = self._region(old_parent), self._region(new_parent)
        snapshot = await self._account.images()
        source = self._resolution.settled(self._resolution.resolve(old, old_name, snapshot))
        target = self._resolution.find(new, new_name, snapshot)
        if exchange or isinstance(source, (Root, Region, Control)) or isinstance(target, Control):
            raise NotPermitted("This cannot be renamed.")
        if isinstance(target, Image):
            if target == source:
                return
            raise Exists(f"There is a {new_name!r} in {new.name} already, and images are never replaced.")
        if isinstance(target, Draft) and target != source:
            replaced = Exists(f"{new_name!r} was replaced.")
            if not await self._drafts.remove(self._resolution.draft(target), replaced):
                raise Exists(f"There is a {new_name!r} in {new.name} by now.")
        filename = from_os(new_name)
        if isinstance(source, Draft) and await self._drafts.rename(
            self._resolution.draft(source), new.name, filename
        ):
            return
        source = self._resolution.settled(source)
        if not isinstance(source, Image):
            raise NotFound(f"{old_name!r} is gone.")
        name = decode(filename)
        if old == new:
            await self._account.rename(source.image_id, name)
            image = snapshot.by_id.get(source.image_id)
            if image is None or from_os(old_name) != encode(image.name):
                self._resolution.renamed(source.image_id)
        else:
            replica_id = await self._account.move(source.image_id, new.name, name)
            self._resolution.moved(source.image_id, replica_id)

    async def unlink(self, parent: int, name: bytes) -> None:
        """image/delete. Raises NotPermitted for the control file, and what the service answers."""
        region = self._region(parent)
        node = self._resolution.settled(self._resolution.resolve(region, name, await self._account.images()))
        if isinstance(node, Draft):
            if await self._drafts.remove(self._resolution.draft(node), NotFound(f"{name!r} was removed.")):
                return
            node = self._resolution.settled(node)
        if isinstance(node, Image):
            await self._account.delete(node.image_id)
        else:
            raise NotPermitted("This cannot be removed.")

    async def link(self, inode: int, new_parent: int, new_name: bytes) -> Attributes:
        """A hard link into another region: a replica. Raises NotPermitted within one region, Exists."""
        region = self._region(new_parent)
        node = self._resolution.node(inode)
        snapshot = await self._account.images()
        image = snapshot.by_id.get(node.image_id) if isinstance(node, Image) else None
        if image is None or image.region == region.name:
            raise NotPermitted("Images can be linked into another region only.")
        if self._resolution.find(region, new_name, snapshot) is not None:
            raise Exists(f"There is a {new_name!r} in {region.name} already.")
        replica_id = await self._account.replicate(image.image_id, region.name, decode(from_os(new_name)))
        attributes = await self._metadata.attributes(Image(replica_id))
        replica, attributes = self._editions.named(replica_id, attributes)
        self._resolution.remember(replica)
        return attributes

    def refusal_of_structure(self, parent: int) -> TreeError:
        """Why the directory *parent* takes no directories, symbolic links or special files."""
        self._resolution.directory(parent)
        if self._rules.read_only:
            return ReadOnly("The account is mounted read-only.")
        return NotPermitted("Regions cannot be made or removed, and images are plain files.")

    def refuse_if_read_only(self) -> None:
        """Raise ReadOnly where the account is mounted so."""
        if self._rules.read_only:
            raise ReadOnly("The account is mounted read-only.")
