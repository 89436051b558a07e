"""Mount the disk images of a LunaNode account as files.

The rooms, from the kernel down; each imports only rooms below it:

==============  ==============================================================================
``cli``         commands, arguments, exit codes, progress
``probe``       what touches a mounted tree for the commands, in a process of its own
``app``         the one place where the parts are put together
``memory``      keeps the process of a mount from growing
``status``      how a mount is doing, as JSON
``fuse``        the adapter to the kernel: operations, errno table, session
``vfs``         the tree: inodes, names in directories, handles, attributes
``publish``     uploads: content of this machine, served to the service
``account``     what the account holds, over time: listing, details, changes, journal
``content``     getting bytes: streams, ranges, readahead, waiters, verification
``store``       what is on disk: sparse files, the SQLite index, eviction
``api``         the service: signing, wire format, retry policy, client
``core``        plain values and pure rules: models, names, extents
``errors``      the whole hierarchy of errors
``emulator``    the service's stand-in for the demo and the tests
==============  ==============================================================================
"""

__version__ = "0.1.0"
