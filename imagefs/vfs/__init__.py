"""The tree: what a name or an inode number means, and what its attributes are. Knows no FUSE library.

Everything here runs on trio's thread.

===============  =======================================================================
``tree``         the face: operations on inode numbers, put together from the others
``nodes``        what an inode number can stand for, and the kernel's lookup counts
``resolution``   what a name or a number stands for at this moment
``attributes``   the rules for stat(2), ``xattrs`` those for getxattr(2)
``metadata``     both for a node of the account; ``usage`` for df
``editions``     which inode stands for which content of an image
``directories``  open directories
``files``        open files; ``indexers`` are programs that may not open images
``changes``      create, rename, unlink, link
``control``      the control files
``drafts``       new files: their names and lives; ``draft_file`` is one of them
``fillers``      who puts something into a file
``filling``      what is put into drafts; ``matching`` finds the image that it is
``settling``     how a draft ends: as an image, or refused
``steward``      what the mount tells and does for its owner, as extended attributes
===============  =======================================================================
"""
