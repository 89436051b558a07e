"""The service: signing, wire format, retry policy, client. The only room that imports requests. No trio.

==============  ======================================================================
``client``      the image actions as calls
``body``        content as it arrives
``verdicts``    what an answer's status and refusals mean
``parsing``     answers to models
``refusals``    the service's texts: made safe to show, and the errors they stand for
``retry``       when a call is tried again
``signing``     the signature of a call
``transport``   pooled connections, proxies, TLS; the only user of requests and urllib3
``sockets``     sockets whose timeout bounds a whole exchange
``limits``      how long and how much the client puts up with
``clock``       the time, passed in
==============  ======================================================================
"""

from imagefs.api.body import ContentBody
from imagefs.api.client import DEFAULT_API_URL, ServiceClient
from imagefs.api.clock import Clock, SystemClock
from imagefs.api.limits import Limits
from imagefs.api.parsing import Listing

__all__ = ["DEFAULT_API_URL", "Clock", "ContentBody", "Limits", "Listing", "ServiceClient", "SystemClock"]
