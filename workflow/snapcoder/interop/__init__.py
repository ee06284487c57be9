"""Exchange dictionaries with other libraries: read theirs as ours, write ours as theirs."""
