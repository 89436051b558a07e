"""Plain values and pure rules. Standard library only; no I/O and no clock, so everything here is thread-safe.

=================  ===============================================================
``models``         what the service says about images
``names``          the rule between image names and file names
``inodes``         inode numbers that stay the same over remounts
``control_lines``  the grammar of ``.fetch``
``intents``        what the mount has set out to do to the account
``formats``        which of the service's formats a content has
``extents``        sets of half-open intervals
``text``           texts made fit to be shown
=================  ===============================================================
"""
