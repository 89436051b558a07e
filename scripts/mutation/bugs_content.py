"""Bugs planted where bytes are fetched, checked and given to readers."""

from __future__ import annotations

from typing import Final

from mutation.bug import Bug

BUGS: Final = (
    Bug(
        "the MD5 is not compared",
        "content/proof",
        "elif self._checksum is None or hasher.hexdigest() == self._checksum:",
        "elif True:",
        "test_content_wrong.py::test_corrupt_once_is_fetched_once_more",
    ),
    Bug(
        "a whole copy before its proof",
        "content/delivery",
        "return reader.generation < self._generations.number or self._generations.would_complete(first, stop)",
        "return reader.generation < self._generations.number",
        "test_content_reading.py::test_what_completes_a_copy_waits_for_the_proof",
    ),
    Bug(
        "a mix of two contents",
        "content/generations",
        "            raise again(self._stale[1])",
        "            pass",
        "test_content_wrong.py",
    ),
    Bug(
        "off by one where a copy is complete",
        "content/generations",
        "return self._undelivered == self._delivered.count(0, first, end)",
        "return self._undelivered < self._delivered.count(0, first, end)",
        "test_content_reading.py::test_what_completes_a_copy_waits_for_the_proof",
    ),
    Bug(
        "other bytes than before are taken",
        "content/blocks",
        "if old is not None and old != new:",
        "if False:",
        "test_content_wrong.py::test_other_bytes_than_before_are_never_mixed",
    ),
    Bug(
        "bytes that only memory held are not compared",
        "content/blocks",
        "return self.stored.sum_of(block) or self._kept_sums.get(block)",
        "return self.stored.sum_of(block)",
        "test_content_cache.py::test_bytes_that_only_memory_held_are_still_compared",
    ),
    Bug(
        "damaged blocks are served",
        "content/blocks",
        "            if not right:\n                damaged.append(block)",
        "            if False:\n                damaged.append(block)",
        "test_content_reading.py::test_damage_on_disk_is_found_and_mended",
    ),
    Bug(
        "wrong content is fetched again and again",
        "content/content",
        "self._generations.refuse(error)",
        "pass",
        "test_content_wrong.py::test_corrupt_always_is_an_error_after_two_transfers",
    ),
    Bug(
        "who waits for a vanished image waits on",
        "content/content",
        "self._fetcher.remove_source(image_id)",
        "pass",
        "test_content_reading.py::test_who_waits_for_an_image_that_vanishes_is_told",
    ),
    Bug(
        "a transfer goes on without readers",
        "content/content",
        "            self._fetcher.stop_all()\n            self._blocks.stored.hot = (0, 0)",
        "            self._blocks.stored.hot = (0, 0)",
        "test_content_reading.py::test_closing_stops_the_transfer",
    ),
    Bug(
        "who left is waited for",
        "content/waiters",
        "        finally:\n            self._waiting.discard(waiter)",
        "        finally:\n            pass",
        "test_content_reading.py::test_who_leaves_is_not_waited_for",
    ),
    Bug(
        "who comes next waits for an answer that never came",
        "content/fetcher",
        "                self._release(transfer)\n\n    def plan",
        "                pass\n\n    def plan",
        "test_content_reading.py::test_who_comes_next_does_not_wait_for_an_answer_that_never_came",
    ),
    Bug(
        "a content that was opened meanwhile is closed",
        "content/library",
        "if content is not None and content.at_rest:",
        "if content is not None:",
        "test_content_library.py::test_what_is_opened_when_it_is_about_to_be_closed_stays_open",
    ),
    Bug(
        "what is hashed of old content counts for the new",
        "content/restart",
        "        await self._jobs.idle()\n",
        "",
        "test_content_wrong.py::test_content_is_not_fetched_anew_before_what_is_done_with_the_old_has_ended",
    ),
    Bug(
        "what is not hashed yet is evicted",
        "content/demand",
        "            runs.append((unhashed, frontier))",
        "            pass",
        "test_content_parts.py::test_what_is_read_or_not_hashed_yet_is_not_evicted",
    ),
    Bug(
        "a stream that does not end at its end",
        "content/transfer",
        "body.read_into(buffer[:1])  # raises where the content goes on past its end",
        "pass",
        "test_content_transfer.py::test_a_body_that_goes_on_is_reported",
    ),
    Bug(
        "what came before a cut is lost",
        "content/transfer",
        "                self._hand_on(block, buffer[: _whole(filled)])\n                raise",
        "                raise",
        "test_content_transfer.py",
    ),
    Bug(
        "a stream does not pause",
        "content/transfer",
        "room = min(len(buffer), gathered, (self._limit - block) * BLOCK_BYTES)",
        "room = min(len(buffer), gathered)",
        "test_content_transfer.py::test_the_stream_pauses_at_its_limit_and_goes_on",
    ),
    Bug(
        "a look at the header costs the image",
        "content/planning",
        "HEADER_BLOCKS: Final = MIB // BLOCK_BYTES",
        "HEADER_BLOCKS: Final = 64 * MIB // BLOCK_BYTES",
        "test_content_reading.py::test_a_look_at_the_header_costs_a_header",
    ),
    Bug(
        "a failing cache fails a copy",
        "content/blocks",
        "            self.cache_failed = True\n        return self._keep(first, data, sums)",
        "            self.cache_failed = True\n            raise\n        return self._keep(first, data, sums)",
        "test_content_cache.py::test_a_failing_cache_never_fails_a_copy",
    ),
    Bug(
        "memory holds the whole image",
        "content/blocks",
        "surplus = max(0, len(self._memory) - MEMORY_BLOCKS)",
        "surplus = 0",
        "test_content_cache.py",
    ),
)
