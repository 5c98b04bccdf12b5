"""One job done by several tools, side by side: `python -m bench.compare` puts it together.

contenders   what is compared: how each is set up, and what it says of changes
nodes        the lab's nodes: made bare, judged, and their sshd's log counted
results      runs as values, medians and ratios, as a table and as JSON
chart        the same as a picture
"""
