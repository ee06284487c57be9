"""`python -m snapcoder`: steps for rules, commands for people."""

import os
import sys

# OpenMP threads that spin while they wait make torch twenty times slower as soon as anything else wants a core
# (benchmarks/thread_waiting.py). Read when torch is loaded, so it has to be set before any import of it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from snapcoder.cli import main

if __name__ == "__main__":
    sys.exit(main())
