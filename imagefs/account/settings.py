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
    """How long one who asks waits for a refresh where an older listing could serve."""

    call_deadline_s: float = 30.0
    """The time that one call may take, its retries included."""

    first_connection_s: float = 3.0
    """How long the first listing of all waits for a service to which there is no connection."""

    suspect_deadline_s: float = 10.0
    """The same for details after a call has failed, until one succeeds."""

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
    """A prefetch that was started so ends when nobody has asked for details in its region for this long."""

    prefetch_yield_s: float = 1.0
    """How long each call of a prefetch gives way to a change that somebody waits for."""

    write_delay_s: float = 0.5
    """How long changes are gathered before they are written to the index in one go."""

    max_brief_entries: int = 65_536
    """How many short-lived entries (pending details, failures, error texts) are held of each kind."""

    read_only: bool = False
    """Every change is refused, and what an earlier mount left unfinished is left to the next one that may."""

    no_delete: bool = False
    """Deletions and moves are refused, and those that an earlier mount left unfinished wait for another."""

    change_deadline_s: float = 30.0
    """How long one who asks for a change waits: the kernel holds the directories of a rename meanwhile."""

    change_call_s: float = 20.0
    """The time that one call may take by which a change is looked into, or finished in the background."""

    put_off_first_s: float = 1.0
    """The pause before a change is asked for again that the service does not take up now; it doubles from then on."""

    put_off_max_s: float = 8.0
    """The longest such pause, beyond what the service asks for."""

    second_look_s: float = 3.0
    """The pause before the account is looked at again for what a lost answer may have led to."""

    look_for_s: float = 9.0
    """How long it is looked for a new image whose request had no answer; it is never asked for again.

    Who waits for it holds up others: the kernel lets one program at a time rename between directories.
    """

    settle_s: float = 30.0
    """How long after an answer the listing may still show what was before it."""

    vanish_s: float = 600.0
    """How long an image that the service has deleted may be listed, with details, as if it were there."""

    appear_s: float = 120.0
    """How long an image that the service has promised may be missing from the account."""

    others_ttl_s: float = 1.0
    """How old a listing may be that tells what somebody else is making, before an image is deleted."""

    others_s: float = 3600.0
    """How long a deletion waits for an image that somebody else may be making of the one to be deleted."""

    doubt_s: float = 120.0
    """How long details that say too little to judge a replica by are asked for again."""

    poll_first_s: float = 2.0
    """The first pause between looks at what is pending; it doubles from then on."""

    poll_max_s: float = 30.0
    """The longest such pause."""

    changes_parallel: int = 16
    """How many calls of changes may be under way at once."""
