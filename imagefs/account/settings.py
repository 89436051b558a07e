"""The times and limits of the account's caches; chosen by the application, the same for a whole mount."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """How long answers are good for, and how hard the service is asked."""

    listing_ttl_s: float = 30.0
    """How old a listing may be before it is asked for again; details of failed images as well."""

    pending_ttl_s: float = 5.0
    """The same while an image is pending, and for the details of pending images."""

    listing_patience_s: float = 5.0
    """How long a caller waits for a refresh where an older listing could serve."""

    call_deadline_s: float = 30.0
    """The time that one call may take, its retries included."""

    first_connection_s: float = 3.0
    """How long the very first listing waits for a service to which no connection can be made."""

    suspect_deadline_s: float = 10.0
    """The time that a call for details may take after a call has failed, until one succeeds."""

    failure_ttl_s: float = 5.0
    """How long a failure is answered from memory."""

    retry_first_s: float = 1.0
    """The pause before a failed listing is tried again in the background; it doubles from then on."""

    retry_max_s: float = 60.0
    """The longest such pause."""

    details_parallel: int = 16
    """How many calls for details may be under way at once."""

    prefetch_trigger_s: float = 1.0
    """Two misses in a region no further apart than this start the prefetch of the region's details."""

    prefetch_idle_s: float = 2.0
    """Such a prefetch ends when nobody has asked for details in its region for this long."""

    prefetch_yield_s: float = 1.0
    """How long each call of a prefetch waits, at most, while somebody waits for a change."""

    write_delay_s: float = 0.5
    """How long changes are gathered before they are written to the index in one go."""

    max_brief_entries: int = 65_536
    """How many short-lived entries (pending details, failures, error texts) are held of each kind."""

    read_only: bool = False
    """Every change is refused, and what an earlier mount left unfinished is left to the next one that may write."""

    no_delete: bool = False
    """Deletions and moves are refused, and those that an earlier mount left unfinished wait for another."""

    change_deadline_s: float = 30.0
    """How long a caller waits for a change: the kernel holds the directories of a rename meanwhile."""

    change_call_s: float = 20.0
    """The time that a call may take that looks into a change, or finishes it in the background."""

    put_off_first_s: float = 1.0
    """The pause before a change that the service puts off is asked for again; it doubles from then on."""

    put_off_max_s: float = 8.0
    """The longest such pause, beyond what the service asks for."""

    second_look_s: float = 3.0
    """The pause between looks at the account for what a request without an answer may have led to."""

    look_for_s: float = 9.0
    """How long to look for a new image whose request had no answer; it is never asked for again.

    The wait holds up others: the kernel lets one program at a time rename between directories.
    """

    settle_s: float = 30.0
    """How long after the answer to a change listings may still show the state before it."""

    vanish_s: float = 600.0
    """How long an image that the service has deleted may still be listed, or have details, as if it were there; and
    how long one that is there may be missing from its listings."""

    appear_s: float = 120.0
    """How long an image whose id the service has given may still be missing from the account."""

    others_ttl_s: float = 1.0
    """How old a listing may be that tells, before an image is deleted, what somebody else is making of it."""

    others_s: float = 3600.0
    """How long a deletion waits for a pending image that somebody else may be making of the deleted one."""

    doubt_s: float = 120.0
    """How long details that say too little to judge a replica by them are asked for again."""

    poll_first_s: float = 2.0
    """The first pause between looks at what is pending; it doubles from then on."""

    poll_max_s: float = 30.0
    """The longest such pause."""

    changes_parallel: int = 16
    """How many calls of changes may be under way at once."""
