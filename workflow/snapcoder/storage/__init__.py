"""Files on disk: atomic, checksummed, self-describing."""
