"""`python -m motion`."""

import sys

from motion.cli.main import main

sys.exit(main())
