"""What a node keeps before it is switched, and how it returns, with a controller or without one.

Under ``/var/lib/nodeprep/switch/RUN`` a node keeps the old files, which process ran, and one
script, ``way-back``. A dead man's switch, a transient systemd service, runs that script when its
deadline in ``/run/nodeprep`` passes; every step of the controller moves the deadline on. Both take
the node's lock, so that the controller and the dead man's switch never act at the same time.

The deadline counts seconds since boot: no clock that is set can bring it nearer. A reboot ends the
dead man's switch; what is kept stays.
"""

from dataclasses import dataclass

from nodeprep import files
from nodeprep.model import Fact, Facts, Mode, Node
from nodeprep.rollout import bridge, first_sync, foreign_ipvs, leftovers, proxy_process, sources
from nodeprep.shell import HTTP_GET, TCP_OPEN, Script, quote, words

KEPT = f"{files.STATE}/switch"
"""On the node: one folder for each roll that had it in hand."""

UNIT = "nodeprep-way-back.service"
PROBE_UNIT = "nodeprep-probe.service"
PROBE_PAUSE = "0.2"
"""Seconds between two connections of the probe."""


# --- the library ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Trip:
    """One switch of one node: the roll, the two modes, the files it may write, its limits."""

    run: str
    gone: Mode
    to: Mode
    paths: tuple[str, ...]
    gate_limit: int
    dead_man: int


def library(node: Node, trip: Trip) -> Script:
    """Return the settings and functions of every step of a switch, for any root shell."""
    proxy = node.desired.kube_proxy
    settings = {
        "run": trip.run,
        "old_mode": trip.gone,
        "new_mode": trip.to,
        "unit": proxy.unit_name,
        "metrics_host": proxy.metrics_endpoint[0],
        "metrics_port": proxy.metrics_endpoint[1],
        "gate_limit": str(trip.gate_limit),
        "dead_man": str(trip.dead_man),
        "work": files.WORK,
        "state": files.STATE,
        "record": f"{KEPT}/{trip.run}",
    }
    lines = "".join(f"{name}={words(value)}\n" for name, value in settings.items())
    return Script(
        lines,
        HTTP_GET,
        TCP_OPEN,
        bridge.SHELL,
        leftovers.SHELL,
        sources.SHELL,
        foreign_ipvs.SHELL,
        proxy_process.shell(node),
        first_sync.SHELL,
        _KEEPING,
        _GOING_BACK,
    )


def keep(node: Node, trip: Trip) -> Script:
    """Return the step that keeps the old files and the way back; a second time it keeps nothing."""
    whole_way = library(node, trip) + '"$@"\n'
    return Script(f"keep_all {words(*trip.paths)} ") + "&& write_way_back " + quote(str(whole_way))


# A folder is kept whole or not at all: it gets its name when all of it is on the disk. One of an
# earlier try that went back is set aside; one whose way back did not end holds the only old files.
_KEEPING = (
    """\
# Without a process: the dead man's switch calls it every second.
tell_time() {
  read -r since_boot _ </proc/uptime
  since_boot=${since_boot%%.*}
}
set_state() {
  printf '%s\\n' "$1" >"$record/state.new" && sync "$record/state.new" &&
    mv -f "$record/state.new" "$record/state" && sync "$record"
}
in_other_hands() {
  read -r _ other 2>/dev/null <"$work/deadline" && [ "$other" != "$run" ] || return
  echo "the roll $other has this node in hand"
}
keep_all() {
  if in_other_hands; then return 1; fi
  case $(cat "$record/state" 2>/dev/null) in
    '') ;;
    back) rm -rf -- "$record.before" && mv -- "$record" "$record.before" || return ;;
    back*)
      echo "its way back did not end: sh $record/way-back go_back"
      return 1
      ;;
    *) return 0 ;;
  esac
  rm -rf -- "$record.new"
  (umask 077 && mkdir -p "$record.new/files") && true >"$record.new/paths" || return
  for path do
    printf '%s\\n' "$path" >>"$record.new/paths" || return
    [ -e "$path" ] || continue
    (umask 077 && mkdir -p "$record.new/files${path%/*}") &&
      cp -p -- "$path" "$record.new/files$path" && sync "$record.new/files$path" || return
  done
  process_now >"$record.new/process" &&
    printf '%s\\n' "$old_mode" >"$record.new/from" &&
    printf '%s\\n' "$new_mode" >"$record.new/to" &&
    echo kept >"$record.new/state" || return
  foreign_servers >"$record.new/foreign-ipvs"
  sync "$record.new"/* "$record.new" && mv -- "$record.new" "$record" && sync "$state/switch"
}
write_way_back() {
  (umask 077 && printf '%s' "$1" >"$record/way-back.new") && sync "$record/way-back.new" &&
    mv -f "$record/way-back.new" "$record/way-back"
}

# --- the dead man's switch
went_back() {
  case $(cat "$record/state") in
    back*) echo "the node went back by itself" ;;
    *) return 1 ;;
  esac
}
renew() {
  if went_back || in_other_hands; then return 1; fi
  tell_time
  printf '%d %s\\n' $((since_boot + dead_man)) "$run" >"$work/deadline.new" &&
    mv -f "$work/deadline.new" "$work/deadline" || return
  systemctl is-active --quiet @UNIT@ && return
  systemctl reset-failed @UNIT@ 2>/dev/null
  set_state armed && systemd-run --quiet --unit=@UNIT@ \\
    --description="nodeprep: the way back of $run" /bin/sh "$record/way-back" dead_man_watch
}
disarm() {
  if ! in_other_hands; then
    rm -f "$work/deadline"
    systemctl stop @UNIT@ @PROBE@ @FOREIGN@ 2>/dev/null
  fi
  set_state "$1"
}
settle() {
  if went_back; then return 1; fi
  disarm settled
}
dead_man_watch() {
  while sleep 1; do
    past_deadline || { [ -e "$work/deadline" ] && continue; exit 0; }
    exec 9>>"$work/lock"
    flock 9
    if past_deadline; then
      printf 'the way back of run %s, pid %s\\n' "$run" "$$" >"$work/holder"
      { go_back; } >>"$record/log" 2>&1 9>&-
      rm -f "$work/deadline"
      exec 9>&-
      until_it_serves
      exit 0
    fi
    exec 9>&-
  done
}
# A kube-proxy that comes too late for the way back may still come.
until_it_serves() {
  while [ "$(cat "$record/state")" = back-failed ] && bridged; do
    sleep 5
    serve_on >>"$record/log" 2>&1
  done
}
past_deadline() {
  read -r deadline owner 2>/dev/null <"$work/deadline" && [ "$owner" = "$run" ] || return
  tell_time
  [ "$since_boot" -ge "$deadline" ]
}

# --- the probe
start_probe() {
  systemctl is-active --quiet @PROBE@ && return
  systemctl reset-failed @PROBE@ 2>/dev/null
  systemd-run --quiet --unit=@PROBE@ --description="nodeprep: the probe of $run" \\
    /bin/sh "$record/way-back" probe "$1" "$2"
}
probe() {
  tried=0 lost=0
  while [ -e "$work/deadline" ]; do
    tcp_open "$1" "$2" 2 || lost=$((lost + 1))
    tried=$((tried + 1))
    echo "$tried $lost" >"$record/probe"
    sleep @PAUSE@
  done
}
""".replace("@UNIT@", UNIT)
    .replace("@PROBE@", PROBE_UNIT)
    .replace("@FOREIGN@", foreign_ipvs.UNIT)
    .replace("@PAUSE@", PROBE_PAUSE)
)

# Make before break on the way back too: what the old mode programs comes before what the new one
# left goes. A bridge that still stands, the old mode's own or of a way back that was cut short, is
# kept.
_GOING_BACK = """\
same_file() {
  [ -e "$2" ] && [ "$(sha256sum <"$1")" = "$(sha256sum <"$2")" ] &&
    [ "$(stat -c '%a %u:%g' "$1")" = "$(stat -c '%a %u:%g' "$2")" ]
}
put_back() {
  old_file=$record/files$1
  temp=${1%/*}/.nodeprep-$run.tmp
  if [ ! -e "$old_file" ]; then
    [ ! -e "$1" ] || { rm -f -- "$1" && sync "${1%/*}" && written=1; }
    return
  fi
  same_file "$old_file" "$1" && return
  cp -p -- "$old_file" "$temp" && sync "$temp" && mv -f -- "$temp" "$1" && sync "${1%/*}" &&
    written=1 || return
  if command -v restorecon >/dev/null; then restorecon "$1"; fi
  return 0
}
put_all_back() {
  written=
  while IFS= read -r path; do
    put_back "$path" || { echo "$path could not be put back"; return 1; }
  done <"$record/paths"
}
go_back() {
  [ -e "$record/state" ] && [ "$(cat "$record/state")" != back ] || return 0
  if in_other_hands; then return 1; fi
  set_state back-began
  if put_all_back && proxy_as_before && sources_as_before && unbridge; then
    set_state back
  else
    set_state back-failed
    serve_on
    return 1
  fi
}
# Over a kube-proxy that serves, in whatever mode, a bridge would only grow old.
serve_on() {
  [ "$(synced '' 0)" ] || return
  unbridge
  if in_mode ipvs; then source_services service; fi
}
# Where another has to bring the old kube-proxy back, the bridge stands before it does.
bridge_back() {
  [ "$(process_now)" != "$(cat "$record/process")" ] || return 0
  bridge_new_mode
}
# A new mode that never served, as where kube-proxy fell back, has nothing to bridge from. Into
# nftables mode kube-proxy flushes IPVS when it starts.
bridge_new_mode() {
  bridged || bridge_from "$new_mode" || bridge_from "$old_mode"
  case $new_mode-$old_mode in ipvs-nftables) source_services node && drain_ipvs ;; esac
  return 0
}
sources_as_before() {
  [ "$old_mode" != ipvs ] || source_services service
}
proxy_as_before() {
  [ "$written" ] || [ "$(process_now)" != "$(cat "$record/process")" ] || return 0
  bridge_new_mode
  old_proxy_again && wait_for_sync && in_mode "$old_mode" || return
  case $new_mode-$old_mode in ipvs-iptables) source_services node && await_ipvs ;; esac
  unbridge || return
  for mode in iptables ipvs nftables; do
    remove_leftovers "$mode" "$old_mode" || return
  done
}
"""


# --- what a node says of it -----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a node keeps of one roll; empty where that roll never had it in hand.

    ``state`` is kept, armed, settled, back-began, back or back-failed. ``began_as`` is the process
    before the switch and ``process`` the one that runs now, each as boot, id and start. ``wrong``
    are paths that are not as they were kept. ``armed_by`` is the roll that the dead man's switch
    waits for. ``probed`` and ``lost`` count the probe's connections, ``None`` without one.
    """

    state: str = ""
    gone: str = ""
    to: str = ""
    began_as: str = ""
    process: str = ""
    wrong: tuple[str, ...] = ()
    armed_by: str = ""
    watching: bool = False
    probed: int | None = None
    lost: int | None = None


_RECORD = """\
record=%(record)s
work=%(work)s
unit=%(unit)s
%(functions)s
printf 'process %%s\\n' "$(process_now)"
read -r _ owner <"$work/deadline" && printf 'armed_by %%s\\n' "$owner"
if [ -e "$work/deadline" ] && systemctl is-active --quiet %(watch)s; then echo watching yes; fi
if [ -e "$record/state" ]; then
  printf 'state %%s\\nfrom %%s\\nto %%s\\n' "$(cat "$record/state")" "$(cat "$record/from")" \\
    "$(cat "$record/to")"
  printf 'began_as %%s\\n' "$(cat "$record/process")"
  while IFS= read -r path; do
    if [ -e "$record/files$path" ]; then
      [ "$(sha256sum <"$record/files$path")" = "$(sha256sum <"$path")" ] ||
        printf 'wrong %%s\\n' "$path"
    elif [ -e "$path" ]; then
      printf 'wrong %%s\\n' "$path"
    fi
  done <"$record/paths"
  [ ! -e "$record/probe" ] || printf 'probe %%s\\n' "$(cat "$record/probe")"
fi
:"""


def record(run: str, name: str = "rollout.record") -> Fact[Record]:
    """Return the question for what a node keeps of the roll ``run``."""

    def script(node: Node) -> str:
        return _RECORD % {
            "record": words(f"{KEPT}/{run}"),
            "work": files.WORK,
            "unit": words(node.desired.kube_proxy.unit_name),
            "functions": proxy_process.telling(node),
            "watch": UNIT,
        }

    return Fact(name=name, script=script, parse=parse_record)


def kept(facts: Facts) -> Record:
    """Return what the node keeps of the roll that was asked for."""
    return facts[record("")]


def restored(run: str) -> Fact[Record]:
    """Return the same question for an earlier roll, whose files are put back."""
    return record(run, "rollout.restored")


def parse_record(text: str) -> Record:
    r"""Read ``NAME VALUE`` lines; ``wrong`` may come more than once.

    >>> parse_record("process b 1 2\nstate armed\nprobe 40 2\n").lost
    2
    """
    pairs = [line.partition(" ")[::2] for line in text.splitlines()]
    values = dict(pairs)
    tried, _, lost = values.get("probe", "").partition(" ")
    return Record(
        state=values.get("state", ""),
        gone=values.get("from", ""),
        to=values.get("to", ""),
        began_as=values.get("began_as", ""),
        process=values.get("process", ""),
        wrong=tuple(value for name, value in pairs if name == "wrong"),
        armed_by=values.get("armed_by", ""),
        watching="watching" in values,
        probed=int(tried) if tried else None,
        lost=int(lost) if lost else None,
    )
