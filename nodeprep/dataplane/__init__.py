"""How much the data plane of a node carries, and what the same services would cost in another mode.

Everything in this room is pure. Each fact counts on the node and brings home sums, and nothing that
is asked loads a module or changes anything.

::

    rules            the rules of iptables, both backends and both families
    virtual_servers  IPVS
    sets             ipsets, and how full they are
    tables           kube-proxy's tables of nftables
    conntrack        connections in use against their maximum
    process          kube-proxy's own word: mode, release, syncs
    services         what is served, in sums that any mode can be asked for
    estimates        what these services cost in each mode
    reading          all of it, as one value
    judging          what is full, or nearly
"""
