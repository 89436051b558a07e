"""Who puts something into a file: it is complete once one of them closes it. On trio's thread."""

from __future__ import annotations

from typing import Protocol


class Caller(Protocol):
    """Who fills or closes a file: its lock owner, as the kernel has it, 0 if unknown; its process, None if unknown."""

    @property
    def owner(self) -> int: ...
    @property
    def process(self) -> int | None: ...


class Fillers:
    """The programs that fill one file.

    A program that was started by another closes the descriptors that it inherited. That says nothing about those
    who fill the file: each of them closes it, too.
    """

    def __init__(self) -> None:
        self._owners: set[int] = set()
        self._processes: set[int | None] = set()

    def note(self, caller: Caller | None) -> None:
        """Remember that *caller* puts something into the file."""
        if caller is None:
            self._processes.add(None)
        elif caller.owner not in self._owners:
            self._processes.add(caller.process)
            if caller.owner:
                self._owners.add(caller.owner)

    def may_include(self, caller: Caller | None) -> bool:
        """Whether *caller* may have put something into the file."""
        if caller is None or None in self._processes or caller.owner in self._owners:
            return True
        process = caller.process
        return process is None or process in self._processes
