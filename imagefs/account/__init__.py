"""What the account holds, over time: listing and details with their caches, changes and what is pending.

:class:`Account` is the room's face; everything here runs on trio's thread, and blocking calls of the client
and of the index run in worker threads.

===============  =======================================================================
``account``      the face: puts the others together
``listing``      the service's listing, by few calls
``details``      the details of images, ``prefetch`` ahead of need
``view``         what is shown: the listing with what this mount has done since
``departed``     deleted images that the service may still list
``snapshot``     the images at one moment, and their names
``changes``      rename, delete, replicate, move, fetch
``creation``     new images, found again where the answer was lost
``repeating``    renaming and deleting where the answer is lost
``others``       what others, such as a second mount, may be doing with an image
``pending``      what is polled, ``finishing`` what is then done
``naming``       the names of new images
``work``         what is under way, for the status
``local_times``  modification times that tools have set
``journal``      what must not be forgotten, in memory and in the index
``errands``      changes that outlive the one who asked; ``locks`` keep them in order
``service``      calls and fresh listings for the changes
``flights``      one call for all who ask the same; ``outage``, ``backoff`` when it fails
``writeback``    listing and details on their way to the index, ``stored_account``
``threads``      blocking calls, with unexpected exceptions made errors
``persistence``  background work that no bug ends, ``tasks`` that end with the account
``subscribers``  who is told of changes
``surroundings`` what all of it gets from outside, with ``settings`` and ``protocols``
===============  =======================================================================
"""

from imagefs.account.account import Account
from imagefs.account.protocols import AccountClient, AccountIndex, ListingClient
from imagefs.account.settings import AccountSettings
from imagefs.account.snapshot import Snapshot

__all__ = ["Account", "AccountClient", "AccountIndex", "AccountSettings", "ListingClient", "Snapshot"]
