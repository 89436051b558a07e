"""The journal in memory: what this mount or an earlier one has set out to do and not finished.

Used by the account's changes on trio's thread; the index is written in a worker thread, one write at a time,
and a write that has begun is never abandoned.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar, cast

import trio

from imagefs.account.protocols import AccountIndex
from imagefs.account.surroundings import Surroundings
from imagefs.core.intents import Creation, Deletion, Intent, Remark
from imagefs.errors import StoreError

log = logging.getLogger(__name__)

I = TypeVar("I", Creation, Deletion, Remark)  # noqa: E741  # an intent, as T is a type


@dataclass(eq=False, slots=True, weakref_slot=True)
class Entry(Generic[I]):
    """One intent's place in the journal; ``since`` is when this mount took it up, or got to know its image's id."""

    number: int
    intent: I
    since: float


class Journal:
    """The open intents. What could not be written is written along with the next change."""

    def __init__(self, index: AccountIndex, around: Surroundings, changed: Callable[[], None]) -> None:
        """*changed* is called after each change of what is open."""
        self._index = index
        self._around = around
        self._changed = changed
        self._writing = trio.Lock()
        self._loaded = False
        self._last_number = 0
        self._entries: dict[int, Entry[Any]] = {}
        self._unwritten: set[int] = set()
        self._by_kind: dict[type[Intent], list[Entry[Any]]] = {}
        self._by_image: dict[tuple[type[Intent], str], Entry[Any]] = {}

    async def load(self) -> None:
        """Take over what earlier mounts left; raises StoreError.

        A read-only mount takes over the remarks alone, and leaves the rest to the next one.
        """
        intents = await self._around.threads.keep(self._index.load_intents)
        read_only = self._around.settings.read_only
        if not self._loaded:
            self._loaded = True
            early = tuple(self._entries.values())
            self._entries.clear()
            for number, intent in intents.items():
                if read_only and not isinstance(intent, Remark):
                    log.info("An unfinished change of the account waits for a mount that may write.")
                    continue
                self._entries[number] = Entry(number, intent, self._around.clock())
            self._last_number = max(intents, default=0)
            for entry in early:  # which may have the numbers of others
                self._last_number += 1
                entry.number = self._last_number
                self._entries[entry.number] = entry
            self._unwritten = {entry.number for entry in early}
            self._arrange()

    async def add(self, intent: I, *ended: Entry[Any]) -> Entry[I]:
        """Write a new intent in place of *ended* ones, durably.

        Raises StoreError; then nothing of it may be carried out.
        """
        if not self._loaded:
            await self.load()
        entry = self._enter(intent)
        for old in ended:
            self._entries.pop(old.number, None)
        try:
            await self._write(entry.number, *(old.number for old in ended))
        except BaseException:
            del self._entries[entry.number]
            self._entries |= {old.number: old for old in ended}
            self._arrange()  # which another change may have done without the ended ones
            raise
        self._arrange()
        return entry

    async def update(self, entry: Entry[I], intent: I) -> None:
        """Replace an intent, durably. Raises StoreError; then the old one stands."""
        before, entry.intent = entry.intent, intent
        try:
            await self._write(entry.number)
        except BaseException:
            entry.intent = before
            raise
        self._arrange()

    async def record(self, entry: Entry[I], intent: I) -> None:
        """Replace an intent by what it has become; where the index fails, that is only logged."""
        entry.intent, entry.since = intent, self._around.clock()
        self._arrange()
        await self._write_outcome(entry.number)

    async def settle(self, *ended: Entry[Any], leaving: Iterable[Intent] = ()) -> None:
        """Take intents out and put *leaving* in their place, in one transaction.

        A remark replaces an earlier one on the same image. Where the index fails, that is only logged: at worst, the
        next mount looks into the matter again.
        """
        for entry in filter(self.holds, ended):
            self._entries.pop(entry.number)
        numbers = [entry.number for entry in ended]
        for intent in leaving:
            if isinstance(intent, Remark):
                replaced = [
                    entry.number for entry in self.remarks if entry.intent.image_ids == intent.image_ids
                ]
                numbers += replaced
                for number in replaced:
                    self._entries.pop(number, None)
            numbers.append(self._enter(intent).number)
        if not numbers:
            return
        self._arrange()
        await self._write_outcome(*numbers)

    @property
    def loaded(self) -> bool:
        """Whether what earlier mounts left is known."""
        return self._loaded

    def holds(self, entry: Entry[Any]) -> bool:
        """Whether the entry is still open; its number may be another's by now, see :meth:`load`."""
        return self._entries.get(entry.number) is entry

    @property
    def creations(self) -> list[Entry[Creation]]:
        """New images that are not finished, those included whose id is not known yet."""
        return self._by_kind.get(Creation, [])

    @property
    def deletions(self) -> list[Entry[Deletion]]:
        """Images that are to be deleted."""
        return self._by_kind.get(Deletion, [])

    @property
    def remarks(self) -> list[Entry[Remark]]:
        """What is remembered of images whose change has ended."""
        return self._by_kind.get(Remark, [])

    def creation_of(self, image_id: str) -> Entry[Creation] | None:
        """The entry that made the image, while it is not finished."""
        return self._by_image.get((Creation, image_id))

    def deletion_of(self, image_id: str) -> Entry[Deletion] | None:
        """The entry by which the image is to be deleted."""
        return self._by_image.get((Deletion, image_id))

    def remark_on(self, image_id: str) -> Remark | None:
        """What is remembered of the image."""
        entry = self._by_image.get((Remark, image_id))
        return None if entry is None else cast("Remark", entry.intent)

    def replicas_of(self, image_id: str) -> list[Entry[Creation]]:
        """The entries of replicas that are being made of the image."""
        return [entry for entry in self.creations if entry.intent.source_id == image_id]

    def _enter(self, intent: Intent) -> Entry[Any]:
        self._last_number += 1
        entry: Entry[Any] = Entry(self._last_number, intent, self._around.clock())
        self._entries[entry.number] = entry
        return entry

    def _arrange(self) -> None:
        """Index the entries by kind and image, and tell that they have changed."""
        self._by_kind, self._by_image = {}, {}
        for entry in self._entries.values():
            kind = type(entry.intent)
            self._by_kind.setdefault(kind, []).append(entry)
            for image_id in _images_of(entry.intent):
                self._by_image[kind, image_id] = entry
        self._changed()

    async def _write_outcome(self, *numbers: int) -> None:
        try:
            await self._write(*numbers)
        except StoreError as error:
            log.warning("What became of a change of the account cannot be written down: %s", error)

    async def _write(self, *numbers: int) -> None:
        """Write the entries of *numbers* as they are, or remove those that are gone."""
        if not self._loaded:
            await self.load()  # which numbers anew what was entered before, as others have its numbers
            numbers = tuple(self._unwritten)
        self._unwritten.update(numbers)
        async with self._writing:
            if self._unwritten.isdisjoint(numbers):
                return  # another write has taken them along, whatever becomes of the next one
            batch, self._unwritten = self._unwritten, set()
            saved = {number: self._entries[number].intent for number in batch if number in self._entries}
            try:
                write = partial(self._index.write_intents, saved, batch - saved.keys())
                await self._around.threads.keep(write)
            except BaseException:
                self._unwritten |= batch
                raise


def _images_of(intent: Intent) -> tuple[str, ...]:
    """The images that an intent is about."""
    if isinstance(intent, Remark):
        return intent.image_ids
    return () if intent.image_id is None else (intent.image_id,)
