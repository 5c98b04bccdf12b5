"""A cluster whose kube-proxy runs in a DaemonSet: what is read of it, and the objects to write.

All of it is pure. :mod:`kubectl` has the words of the one program that speaks with the cluster,
:mod:`look` what it is asked in one go, :mod:`reading` what the objects of an answer say, and
:mod:`view` what is known then. :mod:`matching` tells which of the cluster's nodes an inventory's
node is. :mod:`config_text` and :mod:`daemonsets` compute the objects of a change and of its way
back, :mod:`lease` the lock in the cluster, and :mod:`proxy_log` reads what a kube-proxy said.
"""
