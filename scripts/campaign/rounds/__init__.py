"""The kinds of rounds. Each module has ``run(scene, rng)`` and ``KINDS``, the faults that it is there for.

==============  ===============================================================
``transfers``   transfers, and the details before them, are struck
``service``     the whole service or network goes away, and comes back
``images``      images change behind the mount's back while they are read
``crowd``       64 readers of 16 cold images
``changes``     the account is changed, and answers are lost
``interrupts``  the service never answers
``machine``     the mount's process is killed, stopped and limited
``cache``       the cache is damaged, its disk full or read-only
==============  ===============================================================
"""
