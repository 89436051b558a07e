"""Bugs planted in the tree, at the kernel's side, and in the commands."""

from __future__ import annotations

from typing import Final

from mutation.bug import Bug

BUGS: Final = (
    Bug(
        "an empty flush fails",
        "vfs/filling",
        "            if draft.image_id is not None or draft.is_empty:\n                return\n            spool",
        "            if draft.image_id is not None:\n                return\n            spool",
        "test_vfs_drafts.py",
    ),
    Bug(
        "the start of a copy is the copy",
        "vfs/filling",
        "if extents.covers(0, key.size_bytes):",
        "if True:",
        "test_vfs_drafts.py::test_copied_ranges_in_any_order_are_one_replica",
    ),
    Bug(
        "a copy from another place is the copy",
        "vfs/filling",
        "if source_offset != offset or draft.spool is not None:",
        "if draft.spool is not None:",
        "test_vfs_drafts.py",
    ),
    Bug(
        "the size tells the content",
        "vfs/matching",
        "if details is not None and details.content_key == key:",
        "if details is not None and details.size_bytes == key.size_bytes:",
        "test_vfs_drafts.py::test_what_is_no_image_of_another_region_leaves_nothing",
    ),
    Bug(
        "an image of the same region is replicated",
        "vfs/matching",
        "if image.region == region or image.phase is not Phase.ACTIVE:",
        "if image.phase is not Phase.ACTIVE:",
        "test_vfs_drafts.py",
    ),
    Bug(
        "a part is taken for a smaller image",
        "vfs/filling",
        "== max(await self._matching.sizes_elsewhere(draft.region), default=None)",
        "in await self._matching.sizes_elsewhere(draft.region)",
        "test_vfs_drafts.py::test_the_beginning_of_a_larger_image_is_not_taken_for_a_smaller_one",
    ),
    Bug(
        "a name taken meanwhile is taken twice",
        "vfs/settling",
        "            self._raise_if_taken(draft)\n",
        "",
        "test_vfs_drafts.py::test_a_name_that_was_taken_meanwhile_is_not_taken_twice",
    ),
    Bug(
        "a bug in settling ends the mount",
        "vfs/settling",
        "        except Exception as bug:\n",
        "        except ZeroDivisionError as bug:\n",
        "test_vfs_drafts.py::test_a_bug_while_settling_is_the_draft_s_and_not_the_mount_s",
    ),
    Bug(
        "a rename replaces an image",
        "vfs/changes",
        "            if target == source:\n                return\n            raise Exists(",
        "            if target != source:\n"
        "                await self._account.delete(target.image_id)\n"
        "            Exists(",
        "test_vfs_changes.py",
    ),
    Bug(
        "a read-only mount creates",
        "vfs/changes",
        "        self.refuse_if_read_only()\n        directory",
        "        directory",
        "test_vfs_changes.py",
    ),
    Bug(
        "sparse blocks, so that cp reads everything",
        "vfs/attributes",
        "return -(-self.size_bytes // SECTOR_BYTES)",
        "return 0",
        "test_vfs_tree.py",
    ),
    Bug(
        "a pending image can be read",
        "vfs/attributes",
        "mode = (0o444 if active else 0) & ~self._ownership.umask",
        "mode = 0o444 & ~self._ownership.umask",
        "test_vfs_tree.py::test_attributes_of_images",
    ),
    Bug(
        "a region's name brings a line into .fetch",
        "vfs/control",
        "USAGE.format(region=_printable(region))",
        "USAGE.format(region=region)",
        "test_vfs_control.py::test_no_text_of_the_service_becomes_a_line",
    ),
    Bug(
        "lines after a mistake are carried out",
        "vfs/control",
        "            except ImagefsError:\n                handle.partial.clear()\n                raise",
        "            except ImagefsError:\n                raise",
        "test_vfs_control.py::test_a_bad_line_is_the_writer_s_error",
    ),
    Bug(
        "a reader's close decides over a draft",
        "vfs/files",
        "elif isinstance(file, _OpenDraft) and file.writable:",
        "elif isinstance(file, _OpenDraft):",
        "test_vfs_changes.py::test_a_reader_of_a_draft_decides_nothing",
    ),
    Bug(
        "close is interrupted with EINTR",
        "fuse/answering",
        "return pyfuse3.FUSEError(errno.ECANCELED)",
        "return pyfuse3.FUSEError(errno.EINTR)",
        "test_fuse_operations.py",
    ),
    Bug(
        "unknown content is EBADF, which cat does not mind",
        "fuse/errnos",
        "errors.NotSupported: Verdict(errno.EOPNOTSUPP)",
        "errors.NotSupported: Verdict(errno.EBADF)",
        "test_fuse_operations.py",
    ),
    Bug(
        "a bug ends the mount",
        "fuse/answering",
        "        except Exception as error:\n            raise reply_for(operation.__name__, error) from error",
        "        except ZeroDivisionError as error:\n            raise reply_for(operation.__name__, error) from error",
        "test_fuse_operations.py::test_a_bug_is_answered_with_eio_and_logged_with_its_traceback",
    ),
    Bug(
        "an operation without a deadline",
        "fuse/answering",
        "return _answering(operation, DEADLINE_S)",
        "return _answering(operation, math.inf)",
        "test_fuse_operations.py::test_an_operation_ends_by_its_deadline",
    ),
    Bug(
        "a log that all can read",
        "cli/logs",
        "os.O_APPEND | os.O_CLOEXEC, 0o600)",
        "os.O_APPEND | os.O_CLOEXEC, 0o644)",
        "test_cli_background.py::test_the_log_is_private_and_of_one_line_a_message",
    ),
    Bug(
        "an error's text passes for a record",
        "cli/logs",
        '.replace("\\n", "\\n  ")',
        "",
        "test_cli_background.py::test_the_log_is_private_and_of_one_line_a_message",
    ),
    Bug(
        "libraries log what they got",
        "cli/logs",
        'logging.getLogger("urllib3").setLevel(logging.CRITICAL + 1)',
        'logging.getLogger("urllib3").setLevel(logging.WARNING)',
        "test_cli_background.py::test_the_log_is_private_and_of_one_line_a_message",
    ),
    Bug(
        "credentials that the group can read",
        "cli/credentials",
        "if status.st_mode & 0o077:",
        "if status.st_mode & 0o007:",
        "test_cli_credentials.py::test_a_file_that_others_may_touch",
    ),
    Bug(
        "credentials behind a link",
        "cli/credentials",
        "os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK",
        "os.O_RDONLY | os.O_NONBLOCK",
        "test_cli_credentials.py::test_what_is_not_a_file_of_one_s_own",
    ),
)
