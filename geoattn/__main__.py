"""``python -m geoattn`` is the command ``geoattn``."""

import sys

from geoattn.cli import main

sys.exit(main())
