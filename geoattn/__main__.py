"""``python -m geoattn`` is the command ``geoattn``."""

import sys

from geoattn.cli import main

if __name__ == "__main__":
    sys.exit(main())
