"""What kube-proxy says of itself at its metrics address: mode, release, when it synced.

The metrics are documented at https://kubernetes.io/docs/reference/instrumentation/metrics/ and have
the label ``ip_family`` from 1.33 on.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from nodeprep.model import Fact, Node
from nodeprep.releases import Version, parse_version
from nodeprep.shell import words

_PREFIX = "kubeproxy_sync_proxy_rules_"
_LINES = 300


@dataclass(frozen=True, kw_only=True)
class Process:
    """The running kube-proxy; everything is empty where none answers.

    ``synced`` holds the time of the last sync by address family, in seconds since 1970, under
    ``""`` where the release does not tell families apart; ``now`` is the node's clock just then.
    ``syncs`` took ``seconds`` together, and ``within`` counts those that took at most so many
    seconds, by the histogram's bounds as they are written.
    """

    can_ask: bool = True
    mode: str = ""
    release: Version | None = None
    now: float = 0.0
    synced: Mapping[str, float] = field(default_factory=dict)
    syncs: int = 0
    seconds: float = 0.0
    within: Mapping[str, int] = field(default_factory=dict)

    @property
    def age(self) -> float | None:
        """Seconds since the family that waits longest has synced; none where one never did."""
        if not self.synced or not all(self.synced.values()):
            return None
        return max(0.0, self.now - min(self.synced.values()))

    @property
    def mean(self) -> float | None:
        """Seconds that a sync took, on average since the process began."""
        return self.seconds / self.syncs if self.syncs else None

    def bound(self, share: float) -> float | None:
        """The least bound within which ``share`` of the syncs were; none where no bound holds."""
        enough = [float(at) for at, count in self.within.items() if count >= share * self.syncs]
        return min((bound for bound in enough if math.isfinite(bound)), default=None)


def _script(node: Node) -> str:
    host, port = node.desired.kube_proxy.metrics_endpoint
    return f"""\
printf 'mode %s\\n' "$(http_get {words(host, port)} /proxyMode)"
date '+now %s'
http_get {words(host, port)} /metrics |
  grep -E '^({_PREFIX}(last_timestamp|duration)_seconds|kubernetes_build_info)' | head -n {_LINES}
:"""


_LINE = re.compile(r"(\w+)(?:\{([^}]*)\})? (\S+)")
_LABEL = re.compile(r'(?<!\w)(\w+)="([^"]*)"')


def parse(text: str) -> Process:
    r"""Read ``mode MODE``, ``now SECONDS``, then lines as the metrics server wrote them.

    >>> parse('mode ipvs\nnow 9\nkubernetes_build_info{gitVersion="v1.20.2"} 1\n').release
    Version(major=1, minor=20)
    """
    lines = text.splitlines()
    said = dict(line.partition(" ")[::2] for line in lines[:2])
    mode = said.get("mode", "").strip()
    samples = [_sample(found) for line in lines if (found := _LINE.fullmatch(line))]
    within: dict[str, int] = {}
    for labels, value in _of("duration_seconds_bucket", samples):
        bound = labels["le"]
        if math.isnan(float(bound)):
            raise ValueError(f"{bound} bounds nothing")
        within[bound] = within.get(bound, 0) + _whole(value)
    return Process(
        can_ask=mode != "no-http-client",
        mode=mode if re.fullmatch(r"[a-z]{1,20}", mode) else "",
        release=_release(samples),
        now=float(said.get("now") or 0),
        synced={
            labels.get("ip_family", ""): value
            for labels, value in _of("last_timestamp_seconds", samples)
        },
        syncs=sum(_whole(value) for _, value in _of("duration_seconds_count", samples)),
        seconds=sum(value for _, value in _of("duration_seconds_sum", samples)),
        within=within,
    )


Sample = tuple[str, Mapping[str, str], float]


def _sample(found: re.Match[str]) -> Sample:
    name, labels, value = found.groups(default="")
    known = name.startswith((_PREFIX, "kubernetes_build_info"))
    return name, dict(_LABEL.findall(labels)), float(value) if known else 0.0


def _of(name: str, samples: list[Sample]) -> list[tuple[Mapping[str, str], float]]:
    return [(labels, value) for full, labels, value in samples if full == _PREFIX + name]


def _whole(value: float) -> int:
    if not math.isfinite(value):
        raise ValueError(f"{value} counts nothing")
    return int(value)


def _release(samples: list[Sample]) -> Version | None:
    # Up to 1.16 the label was in camel case.
    for name, labels, _ in samples:
        if name == "kubernetes_build_info":
            return parse_version(labels.get("git_version", labels.get("gitVersion", "")))
    return None


FACT = Fact(name="dataplane.process", script=_script, parse=parse)
