"""`python -m phiedge`, the same as the `phiedge` command."""

import sys

from phiedge.cli import main

sys.exit(main())
