"""`python -m snapcoder`: steps for rules, commands for people."""

import sys

from snapcoder.cli import main

if __name__ == "__main__":
    sys.exit(main())
