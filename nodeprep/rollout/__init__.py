"""A roll: a fleet moves from one kube-proxy mode to another, node by node, with a way back.

Everything in this room is pure: it decides, and writes the scripts that nodes run.

::

    batches     which nodes go together, and how many may be in hand
    machine     what is done next, after each thing that happened
    replay      where a roll goes on that was cut short
    switching   the contract: what "switch this node" means for one kind of cluster
    node_steps  the node's own half of each verb, the same for both kinds
    systemd     kube-proxy as a systemd unit
    daemonset   kube-proxy as kubeadm's DaemonSet
    exchange    the cluster's half: a node's pod is exchanged, and given back
    cluster_objects  what the cluster has while a roll lasts, and what is left of it: nothing
    proxy_process  which process is kube-proxy on a node, and how another one comes
    way_back    what a node keeps before it is switched, and how it returns by itself
    first_sync  when a new kube-proxy has all in the kernel that it was told
    bridge      services kept alive until kube-proxy has synced in its new mode
    sources     the node's own connections, made independent of kube-ipvs0 before it goes
    leftovers   what a mode leaves in the kernel, taken away piece by piece
    foreign_ipvs  virtual servers of others, kept over kube-proxy's flush
    artefacts   what a mode must have in the kernel, and what it must not
    gates       what is asked of a node after each step, and judged
    preflight   what is asked of all nodes before the first is touched
    operator    an operator's own gates and probe
    windows     the hours in which nodes may be begun
"""
