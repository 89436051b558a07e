"""The kinds of rounds. Each module has ``run(scene, rng)`` and ``KINDS``, the faults that it is there for."""
