"""Each thing that is refused: the text, the place that is told, and what is said about it."""

import time

import pytest

from .samples import problems

N = "nodes: [{name: n}]\n"  # an inventory that is right, on one line

# text, line, column, path, a part of the message
READING = [
    ("", 1, 1, "", "the key `nodes` is missing"),
    ("- name: n\n", 1, 1, "", "a mapping (key: value) is wanted here, not a list"),
    ("nodes:\n- name: a\n  name: b\n", 3, 3, "nodes[0].name", "stands here twice, first on line 2"),
    (N + "groups: {a: {}, a: {}}", 2, 17, "groups.a", "twice"),
    (N + "defaults: &d {}", 2, 11, "defaults", "anchors are not read"),
    (N + "defaults: *d", 2, 11, "defaults", "aliases are not read"),
    (N + "defaults: {<<: {}}", 2, 12, "defaults[<<]", "merge keys are not read"),
    (N + "defaults: !!python/name:os.system x", 2, 11, "defaults", "tags are not read"),
    ("nodes:\n- name: !secret n", 2, 9, "nodes[0].name", "tags are not read"),
    (N + "defaults: {? [a] : b}", 2, 14, "defaults", "a key must be text"),
    (N + "defaults: {5: b}", 2, 12, "defaults.5", "write '5' in quotes"),
    (N + "---\nnodes: []\n", 2, 1, "", "a second document begins here"),
    (N + "groups: [", 3, 1, "", "this is not YAML"),
    (N + "groups:\n\t- a", 3, 1, "", "this is not YAML"),
    ("x: " + "[" * 30, 1, 23, "x" + "[0]" * 19, "nested more than 20 deep"),
    ("x: " + "[" * 200_000, 1, 23, "x" + "[0]" * 19, "nested more than 20 deep"),
    ("x" * (8 * 2**20 + 1), 1, 1, "", "larger than 8 MiB"),
    (bytes(range(256)) * 40, 1, 1, "", "not a text file: U+0000 a NUL"),
]

CHARACTERS = [
    (b"nodes:\n- name: n\n  labels: {r: a\xffb}", 3, 16, "nodes[0].labels.r", "byte 0xff"),
    (b"nodes:\n- name: a\0b", 2, 10, "nodes[0].name", "U+0000 a NUL"),
    ("nodes:\n- name: 'a\x1b[31m'", 2, 11, "nodes[0].name", "U+001B"),
    ("nodes:\n- name: a\x7f", 2, 10, "nodes[0].name", "U+007F"),
    ("nodes:\n- name: a\x9b", 2, 10, "nodes[0].name", "U+009B"),
    ("nodes:\n- name: a\u2028b", 2, 10, "nodes[0].name", "U+2028 LINE SEPARATOR"),
    ("nodes:\n- name: a\u202eb", 2, 10, "nodes[0].name", "U+202E RIGHT-TO-LEFT OVERRIDE"),
    ("nodes:\n- name: a\u2066b", 2, 10, "nodes[0].name", "U+2066"),
    ("nodes:\n- name: a\u200bb", 2, 10, "nodes[0].name", "U+200B ZERO WIDTH SPACE"),
    (N + "# \ufeff", 2, 3, "", "U+FEFF"),
    (N + "# a comment \u202e", 2, 13, "", "U+202E"),
    ("nodes:\n- name: n\n  labels: {\u202er: a}", 3, 12, "nodes[0].labels[\ufffdr]", "U+202E"),
    ('nodes:\n- name: "a\\u202eb"', 2, 9, "nodes[0].name", r"`a\u202eb` has U+202E"),
    ('nodes:\n- name: "a\\nb"', 2, 9, "nodes[0].name", "a line break"),
    ("nodes:\n- name: 'a\tb'", 2, 9, "nodes[0].name", "a tab"),
    ("nodes:\n- name: |\n    a\n", 2, 9, "nodes[0].name", "a line break"),
    ("nodes:\n- name: e\u0301", 2, 9, "nodes[0].name", r"`e\u0301` is not in Unicode normal form"),
]

SURPRISES = [
    (f"nodes:\n- name: n\n  labels: {{r: {word}}}", 3, 15, "nodes[0].labels.r", said)
    for word, said in [
        ("0644", "as the number 420: write '0644' in quotes"),
        ("0899", "do not agree on `0899`"),
        ("0o17", "do not agree on `0o17`"),
        ("0x1F", "as the number 31"),
        ("+5", "as the number 5"),
        ("1_000", "as the number 1000"),
        ("1.20", "as the number 1.2: write '1.20' in quotes"),
        ("1e3", "do not agree on `1e3`"),
        (".inf", "as the number inf"),
        ("12:30:45", "as the number 45045"),
        ("2024-01-01", "as a date"),
        ("NO", "as false: write true or false, or write 'NO' in quotes"),
        ("yes", "as true"),
        ("On", "as true"),
        ("True", "as true"),
        ("~", "as nothing"),
        ("null", "as nothing"),
        ("=", "do not agree"),
        ("9" * 19, "as the number 9999"),
        ("", "there is no value"),
        ("5", "text is wanted here, not the number 5: write it in quotes"),
        ("true", "text is wanted here, not true: write it in quotes"),
    ]
    if word
]

NODES = [
    ("nodes: []", 1, 8, "nodes", "there are no nodes"),
    ("nodes: {n: {}}", 1, 8, "nodes", "a list is wanted here, not a mapping"),
    ("nodes: [n]", 1, 9, "nodes[0]", "a mapping (key: value) is wanted here, not `n`"),
    ("nodes: [{}]", 1, 9, "nodes[0]", "the key `name` is missing"),
    (N + "node: 5", 2, 1, "node", "unknown key `node`; did you mean `nodes`? allowed: defaults"),
    ("nodes:\n- name: a\n- name: A", 3, 9, "nodes[1].name", "`A` is a node already, on line 2"),
    ("nodes:\n- name: 'a[1-3]'\n- name: a2", 3, 9, "nodes[1].name", "`a2` is a node already"),
    ("nodes:\n- name: 'a[1-3,2]'", 2, 9, "nodes[0].name", "`a2` is a node already"),
    (
        "nodes:\n- name: -oProxyCommand=x",
        2,
        9,
        "nodes[0].name",
        "`-oProxyCommand=x` is not allowed",
    ),
    ("nodes:\n- name: a;b", 2, 9, "nodes[0].name", "not allowed here: letters, digits"),
    ("nodes:\n- name: a..b", 2, 9, "nodes[0].name", "single dots"),
    ("nodes:\n- name: a,b", 2, 9, "nodes[0].name", "is a list"),
    ("nodes:\n- name: " + "a" * 254, 2, 9, "nodes[0].name", "too long"),
    ("nodes:\n- name: a[3-1]", 2, 9, "nodes[0].name", "runs backwards"),
    ("nodes:\n- name: a[]", 2, 9, "nodes[0].name", "is no range"),
    ("nodes:\n- name: a[01-100]", 2, 9, "nodes[0].name", "mixes widths"),
    ("nodes:\n- name: a[1-2", 2, 9, "nodes[0].name", "is not closed"),
    ("nodes:\n- name: a[1-100001]", 2, 9, "nodes[0].name", "more than 100000 nodes"),
    ("nodes:\n- name: a[1-3]\n  address: 10.0.0.1", 3, 12, "nodes[0].address", "3 names, but 1 ad"),
    ("nodes:\n- name: a[1-3]\n  address: local", 3, 12, "nodes[0].address", "3 names, but 1 ad"),
    ("nodes:\n- name: a\n  address: 10.0.0.[1-2]", 3, 12, "nodes[0].address", "1 names, but 2"),
    ("nodes:\n- name: rack.1", 2, 9, "nodes[0].name", "cannot be an address as well"),
    *(
        (f"nodes:\n- name: a\n  address: '{bad}'", 3, 12, "nodes[0].address", "is not an address")
        for bad in [
            "-oProxyCommand=x",
            "10.0.0.256",
            "10.0.0.[1-256]",
            "fe80::1%eth0",
            "a:22",
            "$(x)",
        ]
    ),
    ("nodes:\n- name: a\n  groups: [b]", 3, 12, "nodes[0].groups[0]", "no group is called `b`"),
    (
        "groups: {workers: {}}\nnodes:\n- name: a\n  groups: [worker]",
        *(4, 12, "nodes[0].groups[0]", "did you mean `workers`?"),
    ),
    (N + "groups: {-x: {}}", 2, 10, "groups.-x", "`-x` is not allowed here"),
]

SETTINGS = [
    (f"{N}defaults: {{{text}}}", 2, 12 + text.index(mark), path, said)
    for text, mark, path, said in [
        ("ssh: x", "x", "defaults.ssh", "a mapping (key: value) is wanted here, not `x`"),
        (
            "ssh: {usr: a}",
            "usr",
            "defaults.ssh.usr",
            "unknown key `usr`; did you mean `user`? allowed",
        ),
        ("ssh: {user: -x}", "-x", "defaults.ssh.user", "`-x` is not allowed here"),
        ("ssh: {user: a b}", "a b", "defaults.ssh.user", "is not allowed here"),
        ("ssh: {port: 0}", "0", "defaults.ssh.port", "the number 0 is not allowed here"),
        ("ssh: {port: 65536}", "65536", "defaults.ssh.port", "less than or equal to 65535"),
        ("ssh: {port: '22'}", "'", "defaults.ssh.port", "a whole number is wanted here, not `22`"),
        (
            "ssh: {port: true}",
            "true",
            "defaults.ssh.port",
            "a whole number is wanted here, not true",
        ),
        ("ssh: {identity_file: ~bob/x}", "~", "defaults.ssh.identity_file", "only ~/ is known"),
        ("ssh: {known_hosts: []}", "[", "defaults.ssh.known_hosts", "no node could be trusted"),
        ("ssh: {known_hosts: [5]}", "5", "defaults.ssh.known_hosts[0]", "text is wanted here"),
        ("ssh: {host_keys: off-x}", "off", "defaults.ssh.host_keys", "write strict or accept-new"),
        ("ssh: {jump: a@b@c}", "a@", "defaults.ssh.jump", "`a@b` is not allowed here"),
        ("ssh: {jump: ['a:99999']}", "'", "defaults.ssh.jump[0]", "is not a jump host"),
        ("ssh: {jump: none}", "none", "defaults.ssh.jump", "[] stands for no jump"),
        ("ssh: {jump: -oX}", "-oX", "defaults.ssh.jump", "`-oX` is not an address"),
        ("sudo: root", "root", "defaults.sudo", "write none or passwordless, or {password: ask}"),
        ("sudo: 5", "5", "defaults.sudo", "none, passwordless or {password: ask} is wanted"),
        ("sudo: {password: x}", "x", "defaults.sudo.password", "a password itself never stands"),
        ("sudo: {passwd: ask}", "passwd", "defaults.sudo.passwd", "did you mean `password`?"),
        ("sudo: {password: {}}", "{}", "defaults.sudo.password", "either `file` or `descriptor`"),
        ("labels: {-r: a}", "-r", "defaults.labels.-r", "a label key as in Kubernetes"),
        ("labels: {r: a b}", "a b", "defaults.labels.r", "a label value as in Kubernetes"),
        ("modules: x", "x", "defaults.modules", "a list is wanted here, not `x`"),
        ("modules: [a/b]", "a/b", "defaults.modules[0]", "a module's name"),
        ("packages: [a, -y]", "-y", "defaults.packages[1]", "a package's name"),
        ("sysctls: {net: 1}", "net", "defaults.sysctls.net", "a kernel setting such as"),
        ("sysctls: {net.*: 1}", "net", "defaults.sysctls[net.*]", "a kernel setting such as"),
        ("sysctls: {a..b: 1}", "a..", "defaults.sysctls[a..b]", "a kernel setting such as"),
        ("sysctls: {a.b: true}", "true", "defaults.sysctls[a.b]", "{at_most: N} is wanted here"),
        ("sysctls: {a.b: ' x'}", "'", "defaults.sysctls[a.b]", "without spaces around it"),
        (
            "sysctls: {a.b: {at_best: 5}}",
            "at_",
            "defaults.sysctls[a.b].at_best",
            "allowed: at_least, at_most",
        ),
        ("adopt: 'true'", "'", "defaults.adopt", "true or false is wanted here, not `true`"),
        *(
            (f"firewall: {{node_ports: {bad}}}", bad, "defaults.firewall.node_ports", said)
            for bad, said in [
                ("30000", "text is wanted here, not the number"),
                ("30000-", "is not a range of ports, such as 30000-32767"),
                ("32767-30000", "is not a range of ports, such as 30000-32767"),
                ("1-65536", "is not a range of ports, such as 30000-32767"),
            ]
        ),
    ]
]

KUBE_PROXY = [
    (f"{N}defaults: {{kube_proxy: {{{key}: '{bad}'}}}}", 2, 27 + len(key), path, said)
    for key, bad, said in [
        ("mode", "userspace", "write iptables, ipvs or nftables"),
        ("style", "x", "write config, flags or unmanaged"),
        ("run", "x", "write if-present, required or never"),
        ("version", "2.0", "a version, such as"),
        ("binary", "usr/bin/kube-proxy", "an absolute path"),
        ("binary", "/usr/../etc/x", "without `..`"),
        ("binary", "/usr//bin/x", "without `..` or `//`"),
        ("unit", "/etc/systemd/system/kube-proxy", "ending in `.service`"),
        ("unit", "/etc/systemd/system/.service", "ending in `.service`"),
        ("config", "/etc/$(x)", "an absolute path"),
        ("bind_address", "10.0.0", "is not an IP address"),
        ("hostname_override", "-x", "not allowed here"),
        ("cluster_cidr", "10.244.0.0", "is not a network"),
        ("cluster_cidr", "10.244.0.1/16", "has bits behind its prefix: write 10.244.0.0/16"),
        ("cluster_cidr", "10.0.0.0/16,10.1.0.0/16", "two networks of one kind"),
        ("scheduler", "RR", "an IPVS scheduler"),
        ("masquerade_all", "true", "true or false is wanted"),
        ("exclude_cidrs", "10.0.0.0/8", "a list is wanted here"),
        ("sync_period", "30", "a duration, such as 30s"),
        ("conntrack_max_per_core", "5", "a whole number is wanted"),
        ("healthz_bind_address", "10256", "is not an IP address and a port"),
        ("healthz_bind_address", "::1:10256", "is not an IP address and a port"),
        ("metrics_bind_address", "127.0.0.1:0", "is not an IP address and a port"),
        ("verbosity", "2", "a whole number is wanted"),
    ]
    for path in [f"defaults.kube_proxy.{key}"]
]

MERGED = [
    (
        "defaults: {kube_proxy: {version: '1.26', scheduler: mh}}\n" + N,
        *(1, 53, "defaults.kube_proxy.scheduler", "1.26 does not know the scheduler mh"),
    ),
    (
        "groups: {g: {kube_proxy: {min_sync_period: 1m}}}\nnodes: [{name: n, groups: [g]}]",
        *(1, 44, "groups.g.kube_proxy.min_sync_period", "1m is above sync_period 30s"),
    ),
    (
        "defaults: {kube_proxy: {sync_period: 1s}}\n" + N,
        *(1, 38, "defaults.kube_proxy.sync_period", "2s is above sync_period 1s"),
    ),
    (
        "defaults: {kube_proxy: {healthz_bind_address: '127.0.0.1:10249'}}\n" + N,
        *(1, 47, "defaults.kube_proxy.healthz_bind_address", "cannot share an address and port"),
    ),
    (
        "defaults: {kube_proxy: {hostname_override: x}}\nnodes: [{name: a}, {name: b}]",
        *(
            1,
            44,
            "defaults.kube_proxy.hostname_override",
            "more than one node would call itself `x`",
        ),
    ),
    (
        "nodes:\n- name: a\n- {name: b, kube_proxy: {hostname_override: a}}",
        *(
            3,
            45,
            "nodes[1].kube_proxy.hostname_override",
            "more than one node would call itself `a`",
        ),
    ),
]

CLUSTER = [
    (f"{N}{text}", 2, 1 + text.index(mark), path, said)
    for text, mark, path, said in [
        (
            "cluster: {kubectl: {on: m}}",
            "m}",
            "cluster.kubectl.on",
            "no node is called `m`: write a node's name, or `here` for this machine",
        ),
        ("cluster: {kubectl: {off: n}}", "off", "cluster.kubectl.off", "YAML reads `off` as false"),
        (
            "cluster: {kubectl: {onn: n}}",
            "onn",
            "cluster.kubectl.onn",
            "did you mean `on`? allowed: on, kubeconfig, context",
        ),
        (
            "cluster: {kubectl: {kubeconfig: admin.conf}}",
            "{kubeconfig",
            "cluster.kubectl",
            "on a node the `kubeconfig` is an absolute path; or write `on: here`",
        ),
        (
            "defaults: {kube_proxy: {managed_by: pod}}",
            "pod",
            "defaults.kube_proxy.managed_by",
            "write systemd or daemonset",
        ),
        (
            "defaults: {kube_proxy: {managed_by: daemonset, style: flags}}",
            "flags",
            "defaults.kube_proxy.style",
            "`style` is for a unit of systemd: with `managed_by: daemonset` leave it out",
        ),
    ]
]

REFUSED = [
    *READING,
    *CLUSTER,
    *CHARACTERS,
    *SURPRISES,
    *NODES,
    *SETTINGS,
    *KUBE_PROXY,
    *MERGED,
]


@pytest.mark.parametrize(("text", "line", "column", "path", "said"), REFUSED)
def test_is_refused_with_its_place(
    text: str | bytes, line: int, column: int, path: str, said: str
) -> None:
    (problem,) = problems(text)
    assert (problem.line, problem.column, problem.path) == (line, column, path)
    assert said in problem.message


@pytest.mark.parametrize("text", [row[0] for row in REFUSED])
def test_no_message_carries_a_character_that_a_terminal_obeys(text: str | bytes) -> None:
    assert all(str(problem).isprintable() for problem in problems(text))


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    text = """\
defaults:
  ssh: {usr: ada, port: 0}
  kube_proxy: {mode: ivps}
groups:
  db: {labels: {role: 5}}
nodes:
- name: a
  labels: {role: NO}
  groups: [web]
- name: a
  address: -x
- sudo: hunter2
"""
    told = [(p.line, p.path) for p in problems(text)]
    assert told == [
        (2, "defaults.ssh.usr"),
        (2, "defaults.ssh.port"),
        (3, "defaults.kube_proxy.mode"),
        (5, "groups.db.labels.role"),
        (8, "nodes[0].labels.role"),
        (9, "nodes[0].groups[0]"),
        (10, "nodes[1].name"),
        (11, "nodes[1].address"),
        (12, "nodes[2]"),
        (12, "nodes[2].sudo"),
    ]


@pytest.mark.parametrize(
    "sudo",
    [
        "hunter2",
        "{password: hunter2}",
        "{password: 'hunter2\t'}",
        "{password: {descriptor: hunter2}}",
        "{password: hunter2\u202e}",
    ],
)
def test_a_password_written_by_mistake_is_not_repeated(sudo: str) -> None:
    found = problems(f"nodes:\n- name: n\n  sudo: {sudo}\n")
    assert found
    assert not any("hunter2" in str(problem) for problem in found)


def test_a_number_for_a_password_is_not_repeated_either() -> None:
    (found,) = problems("nodes:\n- name: n\n  sudo: {password: 0644}\n")
    assert "0644" not in str(found)


def test_a_feature_gate_is_true_or_false() -> None:
    (found,) = problems(N + "defaults: {kube_proxy: {feature_gates: {A: 'x', B: true}}}")
    assert found.path == "defaults.kube_proxy.feature_gates.A"


LAUGHS = "a: &a [lol]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(20)
)


@pytest.mark.parametrize(
    "bomb",
    [
        LAUGHS,
        "[" * 1_000_000,
        "{a: " * 250_000,
        "- " * 500_000,
        "? " * 500_000,
        b"\xff" * 8_000_000,
    ],
    ids=["laughs", "lists", "mappings", "items", "keys", "bytes"],
)
def test_a_bomb_is_refused_fast(bomb: str | bytes) -> None:
    began = time.process_time()
    assert problems(bomb)
    assert time.process_time() - began < 0.5  # 50 ms and less; a slow machine is no failure
