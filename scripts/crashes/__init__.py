"""Crashes of every kind, many times: what is left must never be served wrong, nor cost an image.

================= =========================================================================
``__main__``      arguments, the end
``losses``        power lost at any moment of a recorded run, and what a cache makes of it
``recorded``      the process whose writes are recorded
``strace_log``    what strace(1) saw of it, as events
``disk``          a disk that may lose, tear and reorder what was not synced
``flips``         bits flipped in a cache
``left_over``     the process that leaves that cache
``kills``         SIGKILL of a mount at any moment and at any system call
``scenes``        what the mount is at meanwhile
``mortal_mount``  one mount point, for one process after another
``images``        the images that all of it is about
``judge``         what a cache offers, compared with what the images have
``stage``         images, service and folder for ``losses`` and ``flips``
================= =========================================================================
"""
