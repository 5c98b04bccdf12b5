#!/bin/sh
# Runs once, as root inside the image, after its packages are in.
set -eu

# Debian has a group named operator already.
useradd --create-home --shell /bin/bash --gid operator operator
useradd --create-home --shell /bin/bash guarded
chmod 440 /etc/sudoers.d/lab
mkdir -p /srv/lab /var/log/journal

# Each node gets a key of its own from its seed disk, and its machine-id from the command line.
rm -f /etc/ssh/ssh_host_*
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id

# How this image was downloaded is the host's business. So is what it was downloaded from.
rm -f /etc/apt/apt.conf.d/99mmdebstrap /etc/apt/sources.list.d/*
: > /etc/apt/sources.list
echo "nameserver 10.0.2.3" > /etc/resolv.conf
[ ! -e /usr/lib/nodeprep-lab/rpm-base ] || /usr/lib/nodeprep-lab/rpm-base
# The kernel's command line mounts the only disk there is.
: > /etc/fstab

systemctl set-default multi-user.target
systemctl enable lab-seed.service lab-network.service lab-endpoints.service \
    lab-node-agent.service
# Debian lets nobody but root in until the boot is over; the lab says that a node is up before.
ln -s /dev/null /etc/tmpfiles.d/systemd-nologin.conf

# No timers that wake up in a rehearsal, and no consoles that nobody types on.
systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer man-db.timer systemd-tmpfiles-clean.timer \
    getty@tty1.service serial-getty@ttyS0.service systemd-logind.service
# Nothing that costs an emulated processor a second at boot and does nothing for a node of a lab.
# The hardware is known, so udev need not go over it; it still hears of what comes later.
systemctl mask systemd-udev-trigger.service systemd-sysusers.service systemd-random-seed.service \
    systemd-pstore.service systemd-binfmt.service systemd-initctl.socket \
    systemd-journald-audit.socket systemd-ask-password-console.path systemd-ask-password-wall.path \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service \
    modprobe@configfs.service modprobe@dm_mod.service modprobe@fuse.service modprobe@loop.service \
    dev-hugepages.mount dev-mqueue.mount sys-fs-fuse-connections.mount sys-kernel-config.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount

# Each of these runs at every daemon-reload and finds nothing here; sysv stays: ipvsadm needs it.
mkdir -p /etc/systemd/system-generators
for generator in cryptsetup debug gpt-auto hibernate-resume integritysetup rc-local run \
    system-update veritysetup; do
    ln -s /dev/null "/etc/systemd/system-generators/systemd-$generator-generator"
done
