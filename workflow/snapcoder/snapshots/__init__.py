"""Snapshots of a language model: made here, or read from disk; and whether they are what they say."""
