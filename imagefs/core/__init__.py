"""Plain values and pure rules. Standard library only; no I/O and no clock, so everything here is thread-safe."""
