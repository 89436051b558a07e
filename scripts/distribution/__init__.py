"""Makes what is given to others: the manual page (``manpage``), source and binary packages."""
