"""The cluster's half of a switch: one node's kube-proxy pod is exchanged for one of another mode.

A node cannot ask for another pod: it has no right to. So this is done where ``kubectl`` runs, and
the node meanwhile looks at its own processes. There are two ways. By the canary's, a node's label
moves it from one DaemonSet to the other, over a moment in which neither serves it. By the
recreating way the one ConfigMap is changed, and the node's pod deleted.

The way back has two halves as well. The node bridges its services where that is needed, waits for
a kube-proxy of the old mode and cleans up after the new one; here the cluster is told to let that
one come. This half has its own dead man's switch, which fires a little later than the node's.

Below ``/var/lib/nodeprep/cluster/RUN/NODE`` are the script of the way back and its log. Everything
here looks before it acts, and may be begun again after any interruption.
"""

import json
from dataclasses import dataclass
from hashlib import sha256

from nodeprep import files
from nodeprep.kubernetes.daemonsets import AWAY, LABEL
from nodeprep.kubernetes.kubectl import NAMESPACE, Kubectl
from nodeprep.kubernetes.view import APP, ORIGINAL, SECOND
from nodeprep.shell import Script, quote, words

KEPT = f"{files.STATE}/cluster"
"""Where kubectl runs: one folder for each roll, and in it one for each node."""

LATER = 20
"""Seconds by which this half of the way back waits longer than the node's own."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One node's exchange. ``node`` is its name in the cluster; times are in seconds.

    ``old_pod`` is the UID of the pod that ran before. By the canary's way ``label`` and
    ``old_label`` say what the node's label is afterwards and before, empty for none. By the other
    way both are ``None``: that pod is deleted, and ``old_config`` and ``new_config`` are the texts
    of ``config.conf``. ``guarded`` says that kubectl runs on a machine of the cluster's, as root.
    """

    run: str
    node: str
    dead_man: int
    gate_limit: int
    label: str | None = None
    old_label: str | None = None
    old_pod: str = ""
    old_config: str = ""
    new_config: str = ""
    guarded: bool = True

    @property
    def record(self) -> str:
        """The folder that is kept where kubectl runs, as a word of the shell."""
        place = words(f"{self.run}/{self.node}")
        # An operator's own machine: nothing of it is for root alone.
        own = '"${XDG_STATE_HOME:-$HOME/.local/state}/nodeprep/cluster"'
        return f"{words(KEPT) if self.guarded else own}/{place}"


def library(kubectl: Kubectl, job: Exchange) -> Script:
    """Return the settings and functions of each step, for the shell that kubectl is called from.

    ``drain SECONDS`` cordons the node and evicts its pods, as disruption budgets allow it within
    that time. ``exchange`` takes the node to its new pod and ``give_back`` to one like the old.
    ``renew`` arms the dead man's switch or moves its deadline on; ``stop_watch`` ends it, and
    ``disarm`` takes all away that is kept, and uncordons.
    """
    settings = {
        "run": job.run,
        "node": job.node,
        "dead_man": str(job.dead_man + LATER),
        "gate_limit": str(job.gate_limit),
        "guarded": "yes" if job.guarded else "",
        "work": files.WORK,
        "old_pod": job.old_pod,
    }
    by_label = job.label is not None
    if not by_label:
        settings["new_config"] = sha256(job.new_config.encode()).hexdigest()
    lines = "".join(f"{name}={words(value)}\n" for name, value in settings.items())
    way = (
        _BY_LABEL.replace("@NEW@", words(job.label or "")).replace(
            "@OLD@", words(job.old_label or "")
        )
        if by_label
        else _BY_DELETION
    )
    return Script(
        lines,
        f"record={job.record}\n",
        f'kube() {{ {kubectl.words()} "$@"; }}\n',
        _PODS,
        _DRAINING,
        way,
        _DEAD_MAN,
    )


def keep(kubectl: Kubectl, job: Exchange) -> Script:
    """Return the step that puts the way back where kubectl runs, before anything is exchanged."""
    whole = library(kubectl, job) + '"$@"\n'
    patch = "" if job.label is not None else _config_back(job)
    return (
        Script('(umask 077 && mkdir -p "$record") &&\n  (umask 077 && printf %s ')
        + quote(patch)
        + ' >"$record/config-back" && printf %s '
        + quote(str(whole))
        + (
            ' >"$record/way-back.new") &&\n'
            '  sync "$record/way-back.new" && mv -f "$record/way-back.new" "$record/way-back"'
        )
    )


def _config_back(job: Exchange) -> str:
    """Return a JSON patch (RFC 6902) that the API server refuses where the text is another's."""
    path = "/data/config.conf"
    return json.dumps(
        [
            {"op": "test", "path": path, "value": job.new_config},
            {"op": "replace", "path": path, "value": job.old_config},
        ]
    )


_PODS = f"""\
pods() {{
  kube --namespace {NAMESPACE} get pods -l '{APP} in ({ORIGINAL},{SECOND})' \\
    --field-selector "spec.nodeName=$node" \\
    -o 'jsonpath={{range .items[*]}}{{.metadata.uid}} {{.metadata.name}}{{"\\n"}}{{end}}'
}}
"""

# Only what was cordoned here is uncordoned, and that at every end of the exchange.
_DRAINING = """\
drain() {
  off=$(kube get node "$node" -o 'jsonpath={.spec.unschedulable}') || return
  if [ "$off" != true ]; then
    : >"$record/cordoned" && kube cordon "$node" || return
  fi
  kube drain "$node" --ignore-daemonsets --timeout="$1s"
}
uncordon() {
  [ -e "$record/cordoned" ] || return 0
  kube uncordon "$node" && rm -f -- "$record/cordoned"
}
"""

# Neither DaemonSet serves a node that is away, so that the pods of both go; what kube-proxy wrote
# into the kernel stays. No other comes before none is left: two would fight over it.
_BY_LABEL = f"""\
label_now() {{
  kube get node "$node" -o 'jsonpath={{.metadata.labels.{LABEL.replace(".", chr(92) + ".")}}}'
}}
set_label() {{
  if [ "$1" ]; then
    kube label node "$node" "{LABEL}=$1" --overwrite
  else
    kube label node "$node" {LABEL}-
  fi
}}
no_pod_is_left() {{
  tell_time
  give_up=$((since_boot + gate_limit))
  while left=$(pods); do
    [ "$left" ] || return 0
    if [ "$since_boot" -ge "$give_up" ]; then
      echo "after $gate_limit s this pod of kube-proxy is still on $node: ${{left##* }}"
      return 1
    fi
    sleep 2
    tell_time
  done
  return 1
}}
move_to() {{
  is=$(label_now) || return
  [ "$is" != "$1" ] || return 0
  if [ "$is" != {AWAY} ]; then set_label {AWAY} || return; fi
  no_pod_is_left && set_label "$1"
}}
take() {{ move_to @NEW@; }}
# Where the old pod never left, there is nothing to wait for.
return_it() {{
  there=$(pods) || return
  if [ "$there" ] && [ "${{there%% *}}" = "$old_pod" ]; then set_label @OLD@; else move_to @OLD@; fi
}}
"""

# What has been given back is not deleted again: by then it has another UID than the old one.
_BY_DELETION = f"""\
delete_pods() {{
  found=$(pods) || return
  printf '%s\\n' "$found" | while read -r uid name; do
    if [ "$uid" ] && "$1" "$uid"; then
      kube --namespace {NAMESPACE} delete pod "$name" --wait=false || exit
    fi
  done
}}
is_old() {{ [ "$1" = "$old_pod" ]; }}
is_other() {{ [ "$1" != "$old_pod" ]; }}
config_back() {{
  text=$(kube --namespace {NAMESPACE} get configmap {ORIGINAL} \\
    -o 'go-template={{{{index .data "config.conf"}}}}@') || return
  if [ "$(printf '%s' "${{text%@}}" | sha256sum)" = "$new_config  -" ]; then
    kube --namespace {NAMESPACE} patch configmap {ORIGINAL} --type=json \\
      --patch-file "$record/config-back"
  fi
}}
take() {{ rm -f -- "$record/given-back" && delete_pods is_old; }}
return_it() {{
  [ ! -e "$record/given-back" ] || return 0
  config_back && delete_pods is_other && : >"$record/given-back"
}}
"""

# A script goes on when its controller is gone. So only one is at work on a node at a time, and none
# exchanges a pod for a roll whose time has passed.
_DEAD_MAN = """\
deadline=$work/cluster/$node
watch=nodeprep-way-back-of-$node.service
tell_time() {
  read -r since_boot _ </proc/uptime
  since_boot=${since_boot%%.*}
}
alone() {
  (umask 077 && mkdir -p "$record") && true >>"$record/lock" || return
  exec 8>>"$record/lock"
  if command -v flock >/dev/null && ! flock -w "$gate_limit" 8; then
    echo "another script of this roll is at work on $node"
    return 1
  fi
  "$@" 8>&-
  came=$?
  exec 8>&-
  return "$came"
}
is_ours() { read -r ends owner 2>/dev/null <"$deadline" && [ "$owner" = "$run" ]; }
is_past() {
  is_ours || return
  tell_time
  [ "$since_boot" -ge "$ends" ]
}
exchange() {
  if [ "$guarded" ] && ! is_ours; then
    echo "the cluster's dead man's switch is not armed any more"
    return 1
  fi
  alone take
}
give_back() { alone return_it; }
renew() { [ ! "$guarded" ] || alone renewed; }
renewed() {
  (umask 077 && mkdir -p "$work/cluster") || return
  tell_time
  printf '%d %s\\n' $((since_boot + dead_man)) "$run" >"$deadline.new" &&
    mv -f "$deadline.new" "$deadline" || return
  systemctl is-active --quiet "$watch" && return
  systemctl reset-failed "$watch" 2>/dev/null
  systemd-run --quiet --unit="$watch" --description="nodeprep: the way back of $node, $run" \\
    /bin/sh "$record/way-back" watch_over
}
stop_watch() {
  [ "$guarded" ] || return 0
  rm -f -- "$deadline"
  systemctl stop "$watch" 2>/dev/null
  return 0
}
disarm() {
  uncordon && stop_watch || return
  rm -rf -- "$record"
  rmdir -- "${record%/*}" 2>/dev/null
  return 0
}
fire() {
  is_past || return 0
  return_it && uncordon && rm -f -- "$deadline"
}
# The API server may be away for a while.
watch_over() {
  while sleep 1 && is_ours; do
    if is_past && ! alone fire >>"$record/log" 2>&1; then sleep 5; fi
  done
}
"""
