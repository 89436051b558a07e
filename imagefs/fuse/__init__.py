"""The adapter to the kernel: operations, the errno table, the session. Holds no policy."""
