"""Getting bytes: streams, ranges, readahead, waiters, verification.

All state lives on trio's thread. Transfers, hashing and disk reads run in worker threads and report back through
the trio token; they never touch the state themselves.
"""
