"""Virtual nodes with kernels of their own, to rehearse a change before it meets production.

Read it in this order, which is also the order of ``nodeprep lab up``:

- ``settings``      what a lab is asked to be
- ``requirements``  may it run here? everything that is missing, at once
- ``mirror``        where Debian's packages come from: the host's own apt configuration
- ``kinds``         which package managers a node may have
- ``image``         the disk, kernel and initrd that all nodes of a kind share, built once
- ``repository``    the packages that nodes install, and the server they get them from
- ``rpms``          those of them that come through rpm, made of Debian's
- ``golang``        the compiler for what is built from source
- ``kubernetes``    a real kube-proxy and a real API server, for those who ask
- ``etcd``          the store behind that
- ``kubectl``       the cluster's own client, for the nodes
- ``acceleration``  KVM where it really works, else emulation
- ``materials``     all of the above together
- ``keys``          host keys, the operator's key, known_hosts
- ``seed``          the small disk that tells a node who it is
- ``control_plane`` etcd and the API server as processes, and the keys they need
- ``keep``          how these run in the background
- ``api``           the API server, asked from Python
- ``objects``       what is in the cluster: its nodes, and a service of each kind
- ``kubeadm``       kube-proxy as kubeadm leaves it: a DaemonSet, and what belongs to it
- ``machine``       one node as a QEMU process
- ``readiness``     does it answer yet?
- ``state``         what was started, as a value and as ``lab.json``
- ``lifecycle``     up, reboot, reset, down: **the API**
- ``commands``      the same for a shell
"""
