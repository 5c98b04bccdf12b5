"""``python -m nodeprep`` is ``nodeprep``."""

from nodeprep.cli import main

main()
