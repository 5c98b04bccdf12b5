"""nodeprep: make Linux nodes ready for kube-proxy over SSH, and prove it."""

__version__ = "0.1.0"
