"""The tree: what a name or an inode number means, and what its attributes are. Knows no FUSE library.

Everything here runs on trio's thread.
"""
