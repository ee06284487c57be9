"""The edge: one module per rule; it opens files, calls the core, writes files."""
