"""Getting bytes: streams, ranges, readahead, waiters, verification.

All state lives on trio's thread. Transfers, hashing and disk reads run in worker threads and report back through
the trio token; they never touch the state themselves.

===============  =======================================================================
``library``      the face: all contents that are open or were lately
``content``      one content, put together from what follows (drawn there)
``reader``       one open handle; ``readahead``: how far ahead to fetch for it
``delivery``     giving readers their bytes; ``waiters``: those who wait for them
``demand``       what readers need, now and soon
``fetcher``      transfers: started, followed, tried again
``planning``     which transfers to start; ``retries``: when to try again
``transfer``     one answer on its way into the cache, in a worker thread; ``buffers``: its memory
``link``         what was learned about the connection to the service
``blocks``       the bytes at rest, on disk or in memory; ``blockmap``: each block's state
``checks``       cached blocks compared with their checksums
``proof``        whether the whole is right; ``hashing``: its MD5
``generations``  which bytes belong together; ``restart``: giving all of them up
``opening``      opening a cached file; ``uncached``: what stands in for one; ``sums``: the checksums that it keeps
``background``   tasks that cannot end the mount
``failures``     what went wrong, as readers' errors
``surroundings`` what all of it gets from outside, with ``settings`` and ``traffic``
===============  =======================================================================
"""
