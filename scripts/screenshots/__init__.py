"""Pictures of what commands print, for the README: made anew by scripts/record."""
