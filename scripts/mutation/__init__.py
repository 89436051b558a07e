"""Planted bugs, each with the test that has to find it: what ``scripts/mutants`` runs.

================  ===========================================================
``bug``           what a planted bug is
``bugs_below``    those of core, store and api
``bugs_content``  those of content
``bugs_account``  those of account
``bugs_above``    those of vfs, fuse and cli
``planting``      planted in a copy of the tree, and tested there
``__main__``      the command
================  ===========================================================
"""
