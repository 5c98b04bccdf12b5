"""Shell that waits until a kube-proxy which has just begun has all in the kernel that it was told.

kube-proxy takes "the caches are filled" for "I have been told all of it": what it writes first may
lack endpoints of which it hears a moment later, and its next sync brings them (kubernetes issue
126468, mended in 1.32). So a first sync alone is not enough to stand on.
"""

SHELL = r"""
synced() {
  http_get "$metrics_host" "$metrics_port" /metrics | awk -v earlier="$1" -v waited="$2" '
    function told(name) { return index($1, "kubeproxy_sync_proxy_rules_" name) == 1 }
    function whole() {
      if (families || !queued) return 1
      if (split(earlier, seen) < 4 || count < seen[1]) return count == 1 && queued <= at - spent
      if (count == seen[1]) return seen[3] <= at && waited > 10 + 3 * spent / (count ? count : 1)
      return count > seen[1] + 1 || seen[3] <= seen[2] || seen[3] <= at - spent + seen[4]
    }
    told("last_timestamp_seconds") {
      at = $NF + 0
      if (at <= 0) none = 1
      if (index($1, "{")) families = 1
    }
    told("last_queued_timestamp_seconds") { queued = $NF + 0 }
    told("duration_seconds_count") { count = $NF + 0 }
    told("duration_seconds_sum") { spent = $NF + 0 }
    END {
      if (none || !at) exit
      if (whole()) print "whole"
      else if (seen[1] != "" && count >= seen[1]) print earlier
      else printf "%d %.6f %.6f %.6f\n", count, at, queued, spent
    }'
}
wait_for_sync() {
  sync=
  tell_time
  give_up=$((since_boot + gate_limit)) first_look=$since_boot
  while [ "$since_boot" -lt "$give_up" ]; do
    if proxy_stays_down; then return 1; fi
    earlier=$sync
    sync=$(synced "$earlier" $((since_boot - first_look)))
    [ "$sync" != whole ] || return 0
    [ "$sync" = "$earlier" ] || first_look=$since_boot
    sleep 1
    tell_time
  done
  echo "no sync within $gate_limit s"
  return 1
}
"""
"""Defines ``synced EARLIER WAITED`` and ``wait_for_sync``, which waits ``gate_limit`` seconds.

``synced`` prints nothing before the first sync: a metric tells of it, and a health answer alone
would be "well" before. It prints ``whole`` where all that kube-proxy was told by now was told
before its last sync began. Where that is not sure it prints what it has seen, for the next look:
EARLIER, which was so for WAITED seconds. Another sync makes it sure, or that none comes: it would
soon.

Where it began is known of a sync by its end, and by how much longer all of them took than at the
look before. Releases that tell of each family alone, since 1.33, are mended: they wait for all
before they sync.
"""
