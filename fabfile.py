"""What ``fab`` finds: nodeprep's tasks. In a folder of your own, this one line does the same."""

from nodeprep.tasks import *  # noqa: F403
