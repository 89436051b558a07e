"""The service, for commands that ask it themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Final, TypeVar

from imagefs.cli.settings import Settings
from imagefs.core.models import Credentials, ListedImage
from imagefs.errors import SetupError

if TYPE_CHECKING:
    from imagefs.api import ServiceClient


T = TypeVar("T")
R = TypeVar("R")

PATIENCE_S: Final = 15.0
"""How long somebody at a terminal waits for a call that changes nothing, its retries included."""


def client_of(settings: Settings, account: Credentials) -> ServiceClient:
    """A client for *account*. Raises SetupError for an address that cannot be the service's."""
    from imagefs.api import ServiceClient  # noqa: PLC0415  # loads requests, which not every command needs

    return ServiceClient(account, settings["api_url"])


def listed(client: ServiceClient) -> tuple[ListedImage, ...]:
    """The account's images. Raises ServiceError."""
    return client.list_images(deadline_s=PATIENCE_S).images


def image_of(client: ServiceClient, image_id: str) -> ListedImage:
    """The image of that ID. Raises SetupError where there is none, and ServiceError."""
    image = next((image for image in listed(client) if image.image_id == image_id), None)
    if image is None:
        raise SetupError(f"There is no image {image_id}.")
    return image


def in_parallel(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[tuple[T, R]]:
    """Each item with what *work* returns for it, in the order in which they are done; raises what *work* raises.

    The command's end does not wait for the threads, which end with it.
    """
    waiting: SimpleQueue[T] = SimpleQueue()
    done: SimpleQueue[tuple[T, R | None, BaseException | None]] = SimpleQueue()
    count = 0
    for item in items:
        waiting.put(item)
        count += 1

    def run() -> None:
        while True:
            try:
                item = waiting.get_nowait()
            except Empty:
                return
            try:
                done.put((item, work(item), None))
            except BaseException as error:  # for whoever waits
                done.put((item, None, error))

    for _ in range(min(threads, count)):
        Thread(target=run, daemon=True).start()
    for _ in range(count):
        item, found, error = done.get()
        if error is not None:
            raise error
        yield item, found  # type: ignore[misc]  # there is no error
