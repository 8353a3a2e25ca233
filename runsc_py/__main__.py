"""`python -m runsc_py` is the console script."""

import sys

from runsc_py.cli import main

if __name__ == "__main__":
    sys.exit(main())
