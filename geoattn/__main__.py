"""``python -m geoattn`` is the command ``geoattn``."""

from geoattn.cli import main

if __name__ == "__main__":
    main()
