"""The cross-snapshot crosscoder."""
