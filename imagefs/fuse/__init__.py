"""The adapter to the kernel: operations, the errno table, the session, the C addition. Holds no policy.

==============  ==============================================================================
``session``     one mount: from mount(2) to unmount
``operations``  what the kernel asks, handed to the tree
``answering``   what surrounds each operation: deadline, interrupt, error to errno
``replies``     what the tree answers, as pyfuse3 takes it
``pruning``     having the kernel forget what is gone
``requests``    requests being answered: what an interrupt ends, and copies
``callers``     who makes a request
``interpose``   the C addition: what pyfuse3 lacks (``interpose.c``), a reserve of memory (``reserve.c``)
``errnos``      the one table from errors to errno
``mountpoint``  the directory to mount on, seen from outside
``mounts``      what is mounted where
==============  ==============================================================================
"""

from imagefs.fuse import interpose

# Here, because whatever imports pyfuse3 is imported after this: pyfuse3 binds to the addition only if that is first.
interpose.load()
