"""The service: signing, wire format, retry policy, client. The only room that imports requests. No trio.

================  =============================================================================
``client``        the image actions as calls
``signed_calls``  one call, and its answer
``body``          content as it arrives
``content_head``  whether the head of an answer can be that of the content
``verdicts``      what an answer's status and refusals mean
``parsing``       answers to models
``refusals``      the service's texts: made safe to show, and the errors they stand for
``retry``         when a call is tried again
``signing``       the signature of a call
``nonces``        the nonce of a call, where each is taken only once
``endpoint``      the API URL and the credentials, checked
``transport``     one POST: proxies, certificates, requests' adapter
``connections``   urllib3's connections, with bodies that another thread can interrupt
``answer_head``   the head of an answer, bounded
``encodings``     answers that are compressed unasked
``sockets``       sockets whose timeout bounds a whole exchange
``stopping``      ending a call before its answer has begun
``failures``      why an exchange failed, in words
``tally``         how the calls went, for the status
``limits``        how long the client waits, and how much it accepts
``clock``         the time, passed in
================  =============================================================================
"""

from imagefs.api.body import ContentBody
from imagefs.api.client import ServiceClient
from imagefs.api.clock import Clock, SystemClock
from imagefs.api.limits import Limits
from imagefs.api.parsing import Listing
from imagefs.api.stopping import Stop

__all__ = ["Clock", "ContentBody", "Limits", "Listing", "ServiceClient", "Stop", "SystemClock"]
