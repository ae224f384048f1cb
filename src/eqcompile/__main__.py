"""`python -m eqcompile` is `eqcompile`."""

import sys

from eqcompile.app.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
