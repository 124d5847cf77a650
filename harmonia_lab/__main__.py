"""`python -m harmonia_lab` is the `harmonia` command."""

import sys

from harmonia_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
