"""One run on a terminal, from its record: as text and as JSON."""
