"""Quoting and secrecy as types, and the few POSIX sh idioms that every script of ours uses.

A :class:`Script` is shell text whose secret parts stay wrapped: printing, logging or comparing it
shows ``<secret>``, and only the transport, which sends it, calls :meth:`Script.reveal`.

>>> print(Script("printf %s ") + quote("it's"))
printf %s 'it'\\''s'
"""

import re
from dataclasses import dataclass
from typing import NoReturn, Self


@dataclass(frozen=True)
class Secret:
    """Text that must never be seen: only :meth:`reveal` gives it back."""

    _text: str

    def reveal(self) -> str:
        """Return the secret itself; to be called where it is sent or written, nowhere else."""
        return self._text

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: it would travel to wherever that goes. Raises TypeError."""
        raise TypeError("a secret is not pickled")


@dataclass(frozen=True)
class Script:
    """Shell text in parts, some of them secret."""

    parts: tuple[str | Secret, ...]

    def __init__(self, *parts: str | Secret) -> None:
        object.__setattr__(self, "parts", parts)

    def __add__(self, other: "Script | str") -> Self:
        return type(self)(*self.parts, *(other.parts if isinstance(other, Script) else (other,)))

    def __str__(self) -> str:
        return "".join(map(str, self.parts))

    def reveal(self) -> str:
        """Return the text with its secrets, for the one place that sends it to a node."""
        return "".join(p.reveal() if isinstance(p, Secret) else p for p in self.parts)


# A node may have no curl: any of five programs will do, and bash itself is one of them. Each takes
# the place of the shell that calls it, which is a subshell already: no process is started twice.
HTTP_GET = """\
# shellcheck disable=SC2016
http_get() {
  if command -v curl >/dev/null; then
    exec curl -s -m 3 --noproxy '*' "http://$1:$2$3"
  elif command -v wget >/dev/null; then
    exec timeout 4 wget -q -T 3 -O - "http://$1:$2$3"
  elif command -v bash >/dev/null; then
    exec timeout 3 bash -c 'exec 3<>"/dev/tcp/$0/$1" || exit
      printf "GET %s HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n" "$2" >&3
      while IFS= read -r line <&3 && [ "${line%?}" ]; do :; done; exec cat <&3' "$1" "$2" "$3"
  elif command -v python3 >/dev/null; then
    exec python3 -c 'import sys, urllib.request as u
print(u.build_opener(u.ProxyHandler({})).open(sys.argv[1], timeout=3).read().decode())' \
      "http://$1:$2$3"
  elif command -v perl >/dev/null; then
    exec timeout 3 perl -MIO::Socket::INET -e '
      $s = IO::Socket::INET->new("$ARGV[0]:$ARGV[1]") or exit 1;
      print $s "GET $ARGV[2] HTTP/1.0\\r\\n\\r\\n"; $h = 1;
      while (<$s>) { if ($h) { $h = 0 if /^\\r?$/; next } print }' "$1" "$2" "$3"
  else
    echo no-http-client
  fi
}
"""
"""Defines ``http_get HOST PORT PATH``: prints the body that a plain HTTP server answers.

It is called in ``$(...)`` or in a pipe only, for it ends the shell that runs it.
"""

TCP_OPEN = """\
# shellcheck disable=SC2016
tcp_open() {
  if command -v bash >/dev/null; then
    timeout "${3:-3}" bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>/dev/null
  elif command -v nc >/dev/null; then
    timeout "${3:-3}" nc -z "$1" "$2" 2>/dev/null
  elif command -v python3 >/dev/null; then
    python3 -c 'import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]))' \
      "$1" "$2" "${3:-3}" 2>/dev/null
  elif command -v perl >/dev/null; then
    timeout "${3:-3}" perl -MIO::Socket::IP -e 'IO::Socket::IP->new(
      PeerHost => $ARGV[0], PeerPort => $ARGV[1]) or exit 1' "$1" "$2" 2>/dev/null
  elif command -v curl >/dev/null; then
    case $(curl -s -o /dev/null -w '%{time_connect}' -m "${3:-3}" "http://$1:$2/" 2>/dev/null) in
      '' | 0 | 0.000000) return 1 ;;
    esac
  else
    echo no-tcp-client
    return 1
  fi
}
# shellcheck disable=SC2016
http_ok() {
  if command -v curl >/dev/null; then
    curl -sf -o /dev/null -m 5 --noproxy '*' "http://$1:$2$3"
  elif command -v wget >/dev/null; then
    timeout 6 wget -q -T 5 -O /dev/null "http://$1:$2$3"
  elif command -v bash >/dev/null; then
    timeout 5 bash -c 'exec 3<>"/dev/tcp/$0/$1" || exit
      printf "GET %s HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n" "$2" >&3
      IFS= read -r line <&3; case $line in "HTTP/1."?" "2*) ;; *) exit 1 ;; esac' "$1" "$2" "$3"
  else
    echo no-http-client
    return 1
  fi
}
"""
"""Defines ``tcp_open HOST PORT [SECONDS]``, and ``http_ok HOST PORT PATH`` for a 2xx answer."""


def quote(value: str | Secret) -> Script:
    """Return ``value`` as exactly one word of POSIX sh, whatever it holds.

    Raises ValueError for a NUL, which no shell word can carry.
    """
    if isinstance(value, Secret):
        return Script(Secret(_single_quoted(value.reveal())))
    return Script(_single_quoted(value))


def words(*values: str) -> str:
    """Return ``values`` quoted and joined by spaces; plain words stay readable."""
    return " ".join(
        v if re.fullmatch(r"[A-Za-z0-9_./:@%+=-]+", v) else _single_quoted(v) for v in values
    )


def join(scripts: list[Script], separator: str = "\n") -> Script:
    """Return the scripts as one, with ``separator`` between them."""
    parts: list[str | Secret] = []
    for position, script in enumerate(scripts):
        parts.extend((separator, *script.parts) if position else script.parts)
    return Script(*parts)


def function(name: str, body: Script | str) -> Script:
    """Return the definition of a shell function."""
    return Script(f"{name}() {{\n") + body + "\n}\n"


def whole(body: Script | str) -> Script:
    """Wrap ``body`` so that a script which arrives only in part runs nothing at all."""
    return function("main", body) + "main\n"


def _single_quoted(text: str) -> str:
    if "\0" in text:
        raise ValueError("a NUL cannot be part of a shell word")
    return "'" + text.replace("'", "'\\''") + "'"
