"""Makes what is given to others: the manual page, source and binary packages."""
