#!/bin/sh
# Makes a node bare again between rounds, whoever prepared it, outside what is measured:
#
#   bare.sh remember   once, on the bare node: what is installed, loaded and set
#   bare.sh return     back to that
set -eu
memory=/var/lib/bench
LC_ALL=C
export LC_ALL

installed() { dpkg-query -W -f='${Package}\n' | sort; }
loaded() { cut -d ' ' -f 1 /proc/modules | sort; }
settings() { sysctl net.ipv4.ip_forward net.ipv4.tcp_keepalive_time; }

forget_packages() {
  installed | comm -13 "$memory/installed" - >"$memory/added"
  # shellcheck disable=SC2046 # names are words
  [ ! -s "$memory/added" ] || dpkg --purge $(cat "$memory/added") >/dev/null
  # As on a node that has never asked its repository.
  apt-get clean
  rm -rf /var/lib/apt/lists /var/lib/apt/periodic/*
  mkdir -p /var/lib/apt/lists/partial /var/lib/apt/periodic
  touch -d @0 /var/lib/apt/lists
}

# Those that others stand on go last, so it takes several turns.
unload() {
  for _ in 1 2 3 4 5 6 7 8; do
    loaded | comm -13 "$memory/loaded" - >"$memory/more"
    [ -s "$memory/more" ] || return 0
    while read -r module; do
      rmmod "$module" 2>/dev/null || :
    done <"$memory/more"
  done
  echo "still loaded: $(cat "$memory/more")"
  return 1
}

case ${1-} in
  remember)
    mkdir -p "$memory"
    installed >"$memory/installed"
    loaded >"$memory/loaded"
    settings >"$memory/settings"
    forget_packages
    ;;
  return)
    systemctl --quiet disable kube-proxy.service 2>/dev/null || :
    rm -f /etc/systemd/system/kube-proxy.service /etc/modules-load.d/nodeprep.conf \
      /etc/sysctl.d/99-nodeprep.conf
    rm -rf /var/lib/kube-proxy /var/lib/nodeprep /run/nodeprep /root/.ansible /tmp/pyinfra-*
    forget_packages
    systemctl daemon-reload
    unload
    sysctl -q -p "$memory/settings"
    ;;
  *)
    sed -n 's/^#   //p' "$0"
    exit 2
    ;;
esac
