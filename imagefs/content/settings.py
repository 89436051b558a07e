"""The times and tries of the content room; chosen by the application, the same for a whole mount."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ContentSettings:
    """How long readers and transfers are patient, and how often something is tried."""

    reader_deadline_s: float = 58.0
    """A reader waits no longer than this without the content making progress or, once a transfer of what it waits for
    has failed, without that part doing so. Programs are promised a minute, which the kernel and a busy machine have
    their part of."""

    timed_out_for_s: float = 2.0
    """How long, after a reader's deadline has passed, others that wait get its error at once, unless something arrives:
    the kernel reads a page again that could not be read ahead, and would wait twice."""

    wrong_for_s: float = 30.0
    """How long content that was wrong twice is refused without fetching it again."""

    paused_s: float = 30.0
    """How long a stream that nobody needs is kept open. Without Range, giving it up means starting over."""

    answer_tries: int = 4
    """How often in a row a transfer may break off, or be no content at all, without bringing anything new."""

    backoff_s: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
    """The pauses after the first failure, the second, and so on, each cut by up to a half at random."""

    retry_after_most_s: float = 30.0
    """The longest pause that the service can ask for by Retry-After."""

    flush_every_s: float = 5.0
    """How often what arrived is made durable while it is read."""

    flush_pause_s: float = 0.2
    """How long after its last reader has gone: what several readers in a row leave is made durable together."""

    idle_contents: int = 16
    """How many contents that nobody reads stay open, so that the next reader finds them warm."""
