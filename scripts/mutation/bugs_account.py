"""Bugs planted where the account is listed and changed."""

from __future__ import annotations

from typing import Final

from mutation.bug import Bug

BUGS: Final = (
    Bug(
        "replicate is sent again blindly",
        "account/creation",
        "                found = await self._find(entry, 0.0 if isinstance(error, PutOff) else look_for_s)\n",
        "                found = None\n",
        "test_account_changes.py::test_a_replica_whose_answer_is_lost_is_found",
    ),
    Bug(
        "what is not listed was not carried out",
        "account/creation",
        "                if found is None and again:",
        "                if found is None:",
        "test_account_changes.py::test_a_request_whose_answer_is_lost_is_never_sent_again",
    ),
    Bug(
        "one of several images is guessed",
        "account/creation",
        "if len(candidates) == 1 and not await self._has_other_content(entry.intent, candidates[0]):",
        "if candidates:",
        "test_account_changes.py::test_several_images_that_could_be_the_new_one_are_reported",
    ),
    Bug(
        "one look at a slow service",
        "account/creation",
        "last_look_at = self._around.clock() + look_for_s",
        "last_look_at = self._around.clock()",
        "test_account_changes.py::test_a_slow_service_is_looked_at_twice",
    ),
    Bug(
        "an image that was there is taken for the new one",
        "account/creation",
        "if image_id in old_ids or image_id in self._taken_ids(entry):",
        "if False:",
        "test_account_moves.py::test_a_replica_id_that_is_not_new_is_not_believed",
    ),
    Bug(
        "the call before the journal",
        "account/creation",
        "            entry = await self._journal.add(replace(wanted, known_ids=known_ids))\n",
        "            await self._service.call(request)\n"
        "            entry = await self._journal.add(replace(wanted, known_ids=known_ids))\n",
        "test_account_changes.py::test_without_a_journal_nothing_is_sent",
    ),
    Bug(
        "the journal's entry goes too early",
        "account/creation",
        "        await self._journal.record(entry, known)\n",
        "        await self._journal.settle(entry)\n",
        "test_account_moves.py::test_a_moved_image_is_deleted_when_its_replica_is_right",
    ),
    Bug(
        "a request of a dead mount is forgotten",
        "account/creation",
        "                await self._accepted(entry, image_id)\n\n    async def _claim_names(",
        "                await self._journal.settle(entry)\n\n    async def _claim_names(",
        "test_account_moves.py::test_a_request_interrupted_by_a_crash",
    ),
    Bug(
        "a source is deleted before its replica is compared",
        "account/finishing",
        "        if not is_as_wanted(details, wanted):",
        "        if False:",
        "test_account_moves.py::test_a_move_whose_replica_fails_is_rolled_back",
    ),
    Bug(
        "a source is deleted without a last look",
        "account/finishing",
        "if going.replica_id is not None and not await self._is_replaced(entry):",
        "if False:",
        "test_account_moves.py::test_a_source_that_has_changed_stays",
    ),
    Bug(
        "a source is deleted while a replica is made of it",
        "account/finishing",
        "if self._journal.replicas_of(going.image_id) or self._journal.creation_of(going.image_id):",
        "if self._journal.creation_of(going.image_id):",
        "test_account_moves.py::test_a_source_waits_for_all_of_its_replicas",
    ),
    Bug(
        "a failed replica takes its source along",
        "account/finishing",
        "            if deletion is not None:\n                ended.append(deletion)",
        "            if False:\n                ended.append(deletion)",
        "test_account_moves.py::test_a_source_deleted_while_its_replica_is_pending",
    ),
    Bug(
        "the size alone proves a replica",
        "account/finishing",
        "return details.phase is Phase.ACTIVE and (details.size_bytes, details.checksum) == content",
        "return details.phase is Phase.ACTIVE and details.size_bytes == content[0]",
        "test_account_moves.py::test_a_source_that_has_changed_stays",
    ),
    Bug(
        "--no-delete deletes",
        "account/changes",
        "        if self._around.settings.no_delete:\n            raise NotPermitted(",
        "        if False:\n            raise NotPermitted(",
        "test_account_changes.py::test_a_mount_that_deletes_nothing_makes_no_call",
    ),
    Bug(
        "--no-delete finishes a deletion",
        "account/pending",
        "if not self._around.settings.no_delete:",
        "if True:",
        "test_account_moves.py::test_an_unfinished_deletion_waits_where_nothing_may_be_deleted",
    ),
    Bug(
        "a deletion does not wait for replicas",
        "account/changes",
        "            if self._journal.replicas_of(image_id):\n                errand.commit()",
        "            if False:\n                errand.commit()",
        "test_account_moves.py::test_a_source_deleted_while_its_replica_is_pending",
    ),
    Bug(
        "a move without a checksum to compare",
        "account/changes",
        "if move and None in (known.size_bytes, known.checksum):",
        "if False:",
        "test_account_changes.py::test_what_cannot_be_replicated_is_refused_before_any_call",
    ),
    Bug(
        "a deadline that is none",
        "account/errands",
        "with trio.move_on_after(self._deadline_s):",
        'with trio.move_on_after(float("inf")):',
        "test_account_changes.py::test_what_the_service_takes_too_long_for_goes_on_in_the_background",
    ),
    Bug(
        "who leaves takes along what was sent",
        "account/errands",
        "        if not self._committed:\n            self.scope.cancel()",
        "        self.scope.cancel()",
        "test_account_changes.py::test_one_who_leaves_after_it_was_sent_leaves_it_to_the_background",
    ),
    Bug(
        "a number of the journal is used twice",
        "account/journal",
        "self._last_number = max(intents, default=0)",
        "self._last_number = 0",
        "test_account_moves.py::test_what_an_earlier_mount_wrote_down_keeps_its_number",
    ),
    Bug(
        "an entry that was not written counts",
        "account/journal",
        "            del self._entries[entry.number]\n            raise",
        "            raise",
        "test_account_changes.py::test_without_a_journal_nothing_is_sent",
    ),
    Bug(
        "what the journal could not write is forgotten",
        "account/journal",
        "                self._unwritten |= batch\n                raise",
        "                raise",
        "test_account_changes.py::test_what_could_not_be_written_down_is_with_the_next_change",
    ),
    Bug(
        "unreachable means deleted",
        "account/listing",
        "        self._failure = copy(error)\n        if self._retry_scope is None:",
        "        self._failure = copy(error)\n        self.snapshot = NOTHING_LISTED\n"
        "        self._publish(NOTHING_LISTED, NOTHING_LISTED)\n"
        "        if self._retry_scope is None:",
        "test_account_listing.py::test_an_unreachable_service_leaves_the_last_listing",
    ),
    Bug(
        "a hanging listing is waited for",
        "account/listing",
        "with trio.move_on_after(patience_s), suppress(ServiceError):",
        "with suppress(ServiceError):",
        "test_account_listing.py::test_a_service_that_hangs_does_not_hang_ls",
    ),
    Bug(
        "an old listing undoes a rename",
        "account/view",
        "if asked_at > renamed.at and not (ours and asked_at <= renamed.at + settle_s):",
        "if asked_at > renamed.at:",
        "test_account_doubt.py::test_a_change_is_shown_whatever_order_old_and_new_listings_come_in",
    ),
    Bug(
        "the source of a move stays in sight",
        "account/view",
        "                going.append(creation.source_id)",
        "                pass",
        "test_account_moves.py::test_a_moved_image_is_deleted_when_its_replica_is_right",
    ),
    Bug(
        "details that lag behind look active",
        "account/details",
        "status = details.status if incomplete else listed.status",
        "status = listed.status",
        "test_account_details.py::test_details_that_lag_behind_the_listing_never_look_active",
    ),
)
