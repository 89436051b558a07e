"""The adapter: what the tree says, converted; and no exception that gets past it."""

from __future__ import annotations

import errno
import inspect
import logging
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pyfuse3
import pytest
import trio

from imagefs import errors
from imagefs.fuse.errnos import ERROR_REPLIES, error_reply_of
from imagefs.fuse.operations import Operations
from imagefs.fuse.replies import BLOCK_SIZE_BYTES, MAX_READ_BYTES
from imagefs.vfs.attributes import Attributes
from imagefs.vfs.files import OpenedFile
from imagefs.vfs.tree import Tree
from imagefs.vfs.usage import Usage

ATTRIBUTES = Attributes(
    inode=2**32 + 5,
    mode=stat.S_IFREG | 0o444,
    size_bytes=4097,
    mtime_ns=1_500_000_000_123_456_789,
    uid=1000,
    gid=100,
    links=1,
    ttl_s=300.0,
    entry_ttl_s=5.0,
)

CONTEXT = cast(pyfuse3.RequestContext, SimpleNamespace(uid=os.getuid(), pid=os.getpid()))
STRANGER = cast(pyfuse3.RequestContext, SimpleNamespace(uid=os.getuid() + 12345))


class FakeTree:
    """Answers each call with ``answers``, or raises ``failure``; notes the calls. It is its own parts, too."""

    def __init__(self, failure: BaseException | None = None, **answers: Any) -> None:
        self.failure = failure
        self.answers = answers
        self.calls: list[tuple[Any, ...]] = []

    @property
    def files(self) -> FakeTree:
        return self

    @property
    def changes(self) -> FakeTree:
        return self

    def _answer(self, name: str, *args: Any) -> Any:
        self.calls.append((name, *args))
        if self.failure is not None:
            raise self.failure
        return self.answers.get(name, ATTRIBUTES)

    async def lookup(self, parent: int, name: bytes) -> Any:
        return self._answer("lookup", parent, name)

    async def attributes(self, inode: int) -> Any:
        return self._answer("attributes", inode)

    async def set_attributes(self, inode: int, *, mode: int | None, mtime_ns: int | None) -> Any:
        return self._answer("set_attributes", inode, mode, mtime_ns)

    async def truncate(self, inode: int, size_bytes: int, caller: None) -> Any:
        return self._answer("truncate", inode, size_bytes)

    async def usage(self) -> Any:
        return self._answer("usage")

    async def open_directory(self, inode: int) -> Any:
        return self._answer("open_directory", inode)

    async def open(self, inode: int, flags: int, programs: Iterable[str]) -> Any:
        return self._answer("open", inode, flags)

    async def create(self, parent: int, name: bytes, *, exclusive: bool, caller: None) -> Any:
        return self._answer("create", parent, name, exclusive)

    async def make(self, parent: int, name: bytes) -> Any:
        return self._answer("make", parent, name)

    async def read(self, handle: int, offset: int, length: int) -> Any:
        return self._answer("read", handle, offset, length)

    async def write(self, handle: int, offset: int, data: bytes, caller: None) -> Any:
        return self._answer("write", handle, offset, data)

    async def copy_range(self, source: int, at: int, target: int, to: int, length: int, caller: None) -> Any:
        return self._answer("copy_range", source, at, target, to, length)

    async def flush(self, handle: int, caller: None) -> Any:
        return self._answer("flush", handle)

    async def sync(self, handle: int) -> Any:
        return self._answer("sync", handle)

    async def release(self, handle: int) -> Any:
        return self._answer("release", handle)

    async def rename(self, *names: Any, exchange: bool) -> Any:
        return self._answer("rename", *names, exchange)

    async def unlink(self, parent: int, name: bytes) -> Any:
        return self._answer("unlink", parent, name)

    async def link(self, inode: int, new_parent: int, new_name: bytes) -> Any:
        return self._answer("link", inode, new_parent, new_name)

    async def xattr(self, inode: int, name: bytes, *, for_owner: bool) -> Any:
        return self._answer("xattr", inode, name, for_owner)

    async def set_xattr(self, inode: int, name: bytes) -> Any:
        return self._answer("set_xattr", inode, name)

    async def remove_xattr(self, inode: int, name: bytes) -> Any:
        return self._answer("remove_xattr", inode, name)

    async def xattr_names(self, inode: int) -> Any:
        return self._answer("xattr_names", inode)

    def read_now(self, handle: int, offset: int, buffer: memoryview) -> Any:
        return self._answer("read_now", handle, offset, len(buffer))

    def forget(self, inode: int, lookups: int) -> Any:
        return self._answer("forget", inode, lookups)

    async def entries(self, handle: int, *, anew: bool) -> Any:
        return self._answer("entries", handle)

    def close_directory(self, handle: int) -> Any:
        return self._answer("close_directory", handle)

    def refusal_of_structure(self, parent: int) -> Any:
        return self._answer("refusal_of_structure", parent)


def call(tree: FakeTree, name: str, *args: Any) -> Any:
    """The reply of one operation."""
    operations = Operations(cast(Tree, tree))

    async def main() -> Any:
        return await getattr(operations, name)(*args)

    return trio.run(main)


def error_of(tree: FakeTree, name: str, *args: Any) -> int:
    """The errno that one operation replies."""
    with pytest.raises(pyfuse3.FUSEError) as caught:
        call(tree, name, *args)
    return cast(int, caught.value.errno)


CALLS: Sequence[tuple[Any, ...]] = (
    ("lookup", 1, b"x", CONTEXT),
    ("getattr", 1, CONTEXT),
    ("statfs", CONTEXT),
    ("opendir", 1, CONTEXT),
    ("readdir", 1, 0, None),
    ("releasedir", 1),
    ("open", 1, 0, CONTEXT),
    ("read", 1, 0, 10),
    ("copy_file_range", 1, 0, 10, 2, 4096, 20, 512, 0, None),
    ("write", 1, 0, b"x"),
    ("flush", 1),
    ("fsync", 1, False),
    ("release", 1),
    ("getxattr", 1, b"user.x", CONTEXT),
    ("getxattr", 1, b"user.imagefs.verify.7..1", CONTEXT),
    ("setxattr", 1, b"user.x", b"", CONTEXT),
    ("removexattr", 1, b"user.x", CONTEXT),
    ("listxattr", 1, CONTEXT),
    ("create", 1, b"x", 0o644, 0, CONTEXT),
    ("unlink", 1, b"x", CONTEXT),
    ("rename", 1, b"x", 1, b"y", 0, CONTEXT),
    ("mkdir", 1, b"x", 0o755, CONTEXT),
    ("rmdir", 1, b"x", CONTEXT),
    ("symlink", 1, b"x", b"y", CONTEXT),
    ("mknod", 1, b"x", 0o644, 0, CONTEXT),
    ("link", 1, 1, b"x", CONTEXT),
)


@pytest.mark.parametrize("args", CALLS, ids=lambda args: args[0])
@pytest.mark.parametrize(
    "kind", sorted(ERROR_REPLIES.keys() - {trio.TooSlowError}, key=lambda kind: kind.__name__)
)
def test_every_error_is_answered_with_its_errno(kind: type[Exception], args: tuple[Any, ...]) -> None:
    """Whatever the tree raises, the operation replies what the table says."""
    reply = error_reply_of(kind("a reason"))
    assert reply is not None
    interrupted_close = kind is errors.Interrupted and args[0] == "flush"
    expected = errno.ECANCELED if interrupted_close else reply.errno  # EINTR would be taken for success
    assert error_of(FakeTree(kind("a reason")), *args) == expected


@pytest.mark.parametrize("args", CALLS, ids=lambda args: args[0])
@pytest.mark.parametrize(
    "bug", [KeyError("handle"), ZeroDivisionError(), ExceptionGroup("two", [ValueError()])]
)
def test_a_bug_is_answered_with_eio_and_logged_with_its_traceback(
    bug: Exception, args: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody raised on purpose ends the operation, not the mount."""
    assert error_of(FakeTree(bug), *args) == errno.EIO
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[1] is bug
    caplog.clear()


@pytest.mark.parametrize(
    ("lack", "number"),
    [(MemoryError(), errno.ENOMEM), (RuntimeError("can't start new thread"), errno.EAGAIN)],
)
def test_a_lack_of_memory_or_threads_is_no_bug(
    lack: Exception, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """One line of the log says what there was too little of, also where Python's error says nothing."""
    assert error_of(FakeTree(lack), "getattr", 1, CONTEXT) == number
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.exc_info is None
    assert (str(lack) or "MemoryError") in record.getMessage()


def test_forgetting_never_raises() -> None:
    """The kernel's references are taken back one by one."""
    tree = FakeTree()
    call(tree, "forget", [(5, 1), (6, 3)])
    assert tree.calls == [("forget", 5, 1), ("forget", 6, 3)]


def test_an_operation_ends_by_its_deadline(autojump_run: Callable[..., Any]) -> None:
    """A tree that never answers costs its caller an ETIMEDOUT."""

    class Silent(FakeTree):
        async def attributes(self, inode: int) -> Any:
            await trio.sleep_forever()

    operations = Operations(cast(Tree, Silent()))
    with pytest.raises(pyfuse3.FUSEError) as caught:
        autojump_run(operations.getattr, 1, CONTEXT)
    assert caught.value.errno == errno.ETIMEDOUT


@pytest.mark.parametrize(
    "args",
    [
        ("lookup", 1, b"x", CONTEXT),
        ("getattr", 1, CONTEXT),
        ("setattr", 1, pyfuse3.EntryAttributes(), pyfuse3.SetattrFields(), None, CONTEXT),
    ],
    ids=lambda args: args[0],
)
def test_attributes_are_converted(args: tuple[Any, ...]) -> None:
    """stat(2) shows what the tree says, to the nanosecond."""
    entry = call(FakeTree(), *args)
    assert (entry.st_ino, entry.st_mode, entry.st_size, entry.st_blocks) == (
        ATTRIBUTES.inode, ATTRIBUTES.mode, 4097, 9,
    )  # fmt: skip
    assert entry.st_mtime_ns == entry.st_ctime_ns == ATTRIBUTES.mtime_ns
    assert (entry.st_uid, entry.st_gid, entry.st_nlink) == (1000, 100, 1)
    assert (entry.attr_timeout, entry.entry_timeout) == (300.0, 5.0)


def test_a_copy_is_between_handles() -> None:
    """The tree gets handles, offsets and length; flags, of which there are none yet, are refused."""
    tree = FakeTree(copy_range=512)
    assert call(tree, "copy_file_range", 1, 0, 10, 2, 4096, 20, 512, 0, None) == 512
    assert tree.calls == [("copy_range", 10, 0, 20, 4096, 512)]
    assert error_of(tree, "copy_file_range", 1, 0, 10, 2, 4096, 20, 512, 1, None) == errno.EINVAL


def test_df_shows_what_is_used_and_room_to_copy() -> None:
    """Used blocks are those of the images, rounded up."""
    data = call(FakeTree(usage=Usage(BLOCK_SIZE_BYTES + 1, 3)), "statfs", CONTEXT)
    assert data.f_blocks - data.f_bfree == 2
    assert data.f_bfree * data.f_frsize > 2**40
    assert data.f_files - data.f_ffree == 3
    assert data.f_namemax == 255


@pytest.mark.parametrize("direct", [False, True])
def test_the_kernel_caches_a_file_or_not_and_never_drops_what_it_cached(direct: bool) -> None:
    """It would do so in open(2), waiting for whoever still reads."""
    info = call(FakeTree(open=OpenedFile(7, direct=direct)), "open", 1, 0, CONTEXT)
    assert (info.fh, info.direct_io, info.keep_cache) == (7, direct, not direct)


def test_a_read_waits_only_for_what_is_not_there() -> None:
    """What can be had at once is not asked for a second time; the rest is; large reads go the long way."""
    at_once = FakeTree(read_now=memoryview(b"abc"))
    assert bytes(call(at_once, "read", 1, 0, 10)) == b"abc"
    assert at_once.calls == [("read_now", 1, 0, 10)]
    end = FakeTree(read_now=memoryview(b""))
    assert bytes(call(end, "read", 1, 99, 10)) == b""
    later = FakeTree(read_now=None, read=b"later")
    assert call(later, "read", 1, 0, 10) == b"later"
    large = FakeTree(read=b"large")
    assert call(large, "read", 1, 0, MAX_READ_BYTES + 1) == b"large"
    assert large.calls == [("read", 1, 0, MAX_READ_BYTES + 1)]


@pytest.mark.parametrize("context", [CONTEXT, STRANGER])
def test_the_tree_is_told_whether_its_owner_asks(context: pyfuse3.RequestContext) -> None:
    """What is not listed is for who mounted and for root, also where others may look at the tree."""
    tree = FakeTree(xattr=b"")
    for name in (b"user.x", b"user.imagefs.verify.7..1"):
        call(tree, "getxattr", 1, name, context)
    assert [asked[-1] for asked in tree.calls] == [context is CONTEXT] * 2


def test_changes_reach_the_tree() -> None:
    """Names, bytes and handles as the kernel gives them; of all flags, only O_EXCL and rename's exchange."""
    tree = FakeTree(create=(OpenedFile(7, direct=True), ATTRIBUTES), write=3)
    info, entry = call(tree, "create", 1, b"x", 0o644, os.O_WRONLY, CONTEXT)
    assert (info.fh, info.direct_io, entry.st_ino) == (7, True, ATTRIBUTES.inode)
    call(tree, "create", 1, b"x", 0o644, os.O_WRONLY | os.O_EXCL, CONTEXT)
    assert call(tree, "write", 7, 5, b"abc") == 3
    for args in (
        ("flush", 7),
        ("fsync", 7, True),
        ("unlink", 1, b"x", CONTEXT),
        ("rename", 1, b"x", 2, b"y", pyfuse3.RENAME_NOREPLACE, CONTEXT),
        ("rename", 1, b"x", 2, b"y", pyfuse3.RENAME_EXCHANGE, CONTEXT),
        ("link", 5, 1, b"x", CONTEXT),
        ("mknod", 1, b"x", stat.S_IFREG | 0o644, 0, CONTEXT),
    ):
        call(tree, *args)
    assert tree.calls == [
        ("create", 1, b"x", False),
        ("create", 1, b"x", True),
        ("write", 7, 5, b"abc"),
        ("flush", 7),
        ("sync", 7),
        ("unlink", 1, b"x"),
        ("rename", 1, b"x", 2, b"y", False),
        ("rename", 1, b"x", 2, b"y", True),
        ("link", 5, 1, b"x"),
        ("make", 1, b"x"),
    ]


@pytest.mark.parametrize("flags", [1 << 2, 1 << 3, 1 << 2 | pyfuse3.RENAME_NOREPLACE])
def test_flags_of_rename_that_are_not_known_are_refused(flags: int) -> None:
    """RENAME_WHITEOUT among them, and the tree hears nothing of it."""
    tree = FakeTree()
    with pytest.raises(pyfuse3.FUSEError) as caught:
        call(tree, "rename", 1, b"x", 1, b"y", flags, CONTEXT)
    assert caught.value.errno == errno.EINVAL
    assert tree.calls == []


def test_fsync_has_no_deadline(autojump_run: Callable[..., Any]) -> None:
    """It waits for as long as the program does."""

    class Slow(FakeTree):
        async def sync(self, handle: int) -> Any:
            await trio.sleep(10_000)

    assert autojump_run(Operations(cast(Tree, Slow())).fsync, 1, False) is None


def test_no_operation_is_left_to_pyfuse3() -> None:
    """Those that pyfuse3 would answer with ENOSYS, which the kernel remembers for good, are all ours but a few."""
    theirs = {
        name
        for name, function in inspect.getmembers(pyfuse3.Operations, inspect.iscoroutinefunction)
        if getattr(Operations, name) is function
    }
    assert theirs <= {"access", "fsyncdir", "poll", "readlink"}


def test_the_root_of_all_errors_has_a_row() -> None:
    """So that no error of ours is taken for a bug."""
    assert error_reply_of(errors.ImagefsError("?")) is not None


def test_no_error_is_one_that_programs_do_not_mind() -> None:
    """cat ignores EBADF of close(2) and dd EINTR; the kernel asks no more after ENOSYS."""
    numbers = {kind: reply.errno for kind, reply in ERROR_REPLIES.items()}
    assert [kind for kind, number in numbers.items() if number == errno.EINTR] == [errors.Interrupted]
    assert not {errno.EBADF, errno.ENOSYS, errno.EXDEV}.intersection(numbers.values())
