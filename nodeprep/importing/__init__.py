"""Inventories that people already have, turned into one of ours. All but ``sources`` is pure.

The way from a foreign text to our inventory::

    sources                                 files from the disk
    ansible/, kubespray, kubectl, ssh_config  a text to machines and notes  (ssh_*, settings)
    naming                                  names that we do not allow
    arranging                               which setting stands where
    rows                                    neighbours become one folded row
    writing                                 the YAML, read back by our own loader

What each machine's settings come to is worked out first; where they are written comes after, and
does not change it. What cannot be carried over becomes a note with its place, and never holds a
secret's value.
"""
