"""`python -m scalesearch`."""

import sys

from scalesearch.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
