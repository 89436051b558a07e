"""What ``scripts/bench`` runs: imagefs and other programs side by side.

===============  =============================================================================
``__main__``     arguments, rounds, progress
``experiments``  all experiments, in the order in which they are run
``reading``      whole images: cold, slowed down by the server, cached
``parts``        the head of an image, and random reads
``listing``      ``ls`` and ``ls -l``
``sharing``      many readers at once, and the memory that they cost
``changing``     changes to the account, against the bare calls
``starting``     how long commands take to begin
``experiment``   what an experiment is, and what it gets to work with
``results``      goals, values, the table and its JSON
``server``       the emulator in a process of its own, and its control plane
``mounts``       imagefs and rclone, mounted for a while
``machine``      page cache, timed commands, what this machine is
``cpu_time``     which threads and programs used the CPUs
===============  =============================================================================

One thread; the programs that are measured are processes of their own.
"""
