"""What is on disk: the cache directory, sparse content files, the index and eviction.

Synchronous code for worker threads; nothing here knows trio, the network, or why bytes are wanted.

==================  ====================================================================
``directory``       the cache directory, put together of what follows
``opened``          the contents that are open, each once
``eviction``        what goes when the cache is full
``pins``            what a person wants to keep
``inventory``       what is cached, for people, and whether it is still right
``peek``            a look at a cache from outside, beside a mount
``recovery``        making index and files agree when the directory is opened
``lock``            one mount per directory
``content_file``    one content: its blocks written, read, made durable, forgotten
``block_table``     which blocks of a content are there and what their sums are, in memory
``data_file``       one sparse file and its system calls
``spool``           bytes that a program writes, of content that is not known yet
``range_lock``      who is changing which blocks right now
``space``           how many bytes are cached and whether more fit
``index``           the rows: contents, segments, listing, details, local times
``journal``         the rows of what the mount has set out to do to the account
``salvage``         what a damaged journal still tells
``database``        the SQLite files beneath both: opening, damage, transactions
``schema``          their tables and versions
``saved_json``      listed images and details as JSON and back
``layout``          names of content files, from validated keys
``files``           opening files and directories that nobody else can have planted
``blocks``          sizes of blocks and segments, block sums
==================  ====================================================================
"""

from imagefs.store.content_file import StoredContent
from imagefs.store.directory import CacheDirectory
from imagefs.store.index import Index
from imagefs.store.inventory import CachedContent, Verification
from imagefs.store.space import CacheUsage

__all__ = ["CacheDirectory", "CacheUsage", "CachedContent", "Index", "StoredContent", "Verification"]
