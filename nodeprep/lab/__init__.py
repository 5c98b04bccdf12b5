"""Virtual nodes with kernels of their own, to rehearse a change before it meets production.

Read it in this order, which is also the order of ``nodeprep lab up``:

- ``settings``      what a lab is asked to be
- ``requirements``  may it run here? everything that is missing, at once
- ``mirror``        where Debian's packages come from: the host's own apt configuration
- ``image``         the disk, kernel and initrd that all nodes share, built once
- ``repository``    the packages that nodes install, and the server they get them from
- ``kubernetes``    a real kube-proxy, for those who ask
- ``acceleration``  KVM where it really works, else emulation
- ``keys``          host keys, the operator's key, known_hosts
- ``seed``          the small disk that tells a node who it is
- ``machine``       one node as a QEMU process
- ``readiness``     does it answer yet?
- ``state``         what was started, as a value and as ``lab.json``
- ``lifecycle``     up, reboot, reset, down: **the API**
- ``commands``      the same for a shell
"""
