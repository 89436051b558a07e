"""Uploads: content of this machine, offered to the service at an address from which it fetches it.

The service has no call that takes content, but one that downloads a URL (its page, image/fetch). So what was
written into the mount, and is the content of no image, is *published*: served over HTTP at an address that cannot be
guessed, for as long as the service needs to make an image of it.

============  =============================================================================
``settings``  where to listen, and how the service reaches that
``ranges``    which bytes a request asks for
``offer``     one content that can be downloaded
``server``    HTTP/1.1 on trio
``publisher`` from written bytes to an active image
============  =============================================================================
"""

from imagefs.publish.publisher import Publisher, Upload
from imagefs.publish.settings import PublishSettings

__all__ = ["PublishSettings", "Publisher", "Upload"]
