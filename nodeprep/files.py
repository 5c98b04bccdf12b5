"""Files of ours on a node: how they are looked at, compared, judged and written.

A file is ours when one of its first two lines carries :data:`MARK`. Anything else that stands at
one of our paths is somebody's, and is left as it is until the inventory says ``adopt: true``.
"""

import difflib
import hashlib
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from nodeprep.errors import FactError
from nodeprep.frames import Frame, framed
from nodeprep.model import APPLY, Change, FileKind, FileState, Finding, Guard, Status
from nodeprep.shell import Script, Secret, quote, words

MARK = "Managed by nodeprep"
WORK = "/run/nodeprep"
"""On the node: the lock and its holder, gone after a reboot as they should be."""

STATE = "/var/lib/nodeprep"
"""On the node: the record and the log of the last run, and the files that ours replaced."""

LIMIT = 1 << 18
"""Bytes: a longer file is none of ours, and is refused without being read."""

LARGE = 1 << 25
"""The same for a file whose content stays on the node, such as the longest of an ipset."""


@dataclass(frozen=True, kw_only=True)
class ManagedFile:
    """A file as it should be. A secret's content is a :class:`~nodeprep.shell.Secret`.

    One that is not ``shown`` may be large: what stands on the node is known by its digest alone.
    """

    path: str
    content: str | Secret
    mode: int = 0o644
    shown: bool = True

    @property
    def text(self) -> str:
        """The content itself, secret or not: for digests and for sending, never for showing."""
        return self.content.reveal() if isinstance(self.content, Secret) else self.content

    @property
    def limit(self) -> int:
        """Bytes above which what stands in its place is none of ours."""
        return LIMIT if self.shown else LARGE

    # Both are kept: a fleet shares one value of a large file.
    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @cached_property
    def quoted(self) -> Script:
        """The content as one word of the shell."""
        return quote(self.content)


# --- looking --------------------------------------------------------------------------------


def probe(paths: Iterable[str], secrets: Iterable[str]) -> Script:
    """Return frames that tell all about ``paths``, with three processes however many there are.

    The content of ``secrets`` never leaves the node: only its digest does.
    """
    every, hidden = words(*paths), "|".join(map(words, secrets)) or "''"
    return (
        framed("files.parents", _PARENTS % every)
        + framed("files.stat", _STAT % (every, hidden))
        + framed("files.digest", '[ $# -eq 0 ] || sha256sum -- "$@"')
        + framed("files.marked", _MARKED)
        + framed("files.content", _CONTENT % hidden)
    )


# Changing the working directory resolves a folder without starting a process.
_PARENTS = """\
for path in %s; do
  w=ro; [ -w "${path%%/*}" ] && { [ ! -e "$path" ] || [ -w "$path" ]; } && w=rw
  cd -P -- "${path%%/*}" 2>/dev/null && printf '%%s %%s %%s\\n' "$w" "$path" "$PWD"
done
cd /"""

# The raw mode in hex (8xxx: a regular file) is the one form that all stat programs print alike.
_STAT = f"""\
seen=$(stat -c '%%f %%u:%%g %%h %%s %%Y %%n' -- %s)
printf '%%s\\n' "$seen"
set --
while read -r kind _ _ size _ path; do
  most={LIMIT}
  case $path in %s) most={LARGE} ;; esac
  case $kind in 8???) [ "$size" -gt "$most" ] || set -- "$@" "$path" ;; esac
done <<END
$seen
END"""

_MARKED = f"""\
for path do
  one=; two=
  {{ IFS= read -r one; IFS= read -r two; }} <"$path"
  case $one$two in *"{MARK}"*) printf '%s\\n' "$path" ;; esac
done"""

# One after the other in the order of `stat`, to be cut by size: one process, any bytes.
_CONTENT = """\
for path do
  shift
  case $path in %s) continue ;; esac
  set -- "$@" "$path"
done
[ $# -eq 0 ] || cat -- "$@\""""


def parse(frames: Mapping[str, Frame], secrets: Iterable[str]) -> Mapping[str, FileState]:
    """Return the state of every path that was asked for and has a parent or exists.

    Raises FactError where the pieces do not fit together.
    """
    try:
        return _parsed(frames, frozenset(secrets))
    except (LookupError, ValueError, OverflowError) as error:
        raise FactError(f"the answer about files cannot be read: {error}") from error


def _parsed(frames: Mapping[str, Frame], hidden: frozenset[str]) -> Mapping[str, FileState]:
    parents = dict(_parent(line) for line in frames["files.parents"].text.splitlines())
    digests = dict(_digest(line) for line in frames["files.digest"].text.splitlines())
    marked = frozenset(frames["files.marked"].text.splitlines())
    content = memoryview(frames["files.content"].body)
    states: dict[str, FileState] = {
        path: FileState(path=path, real_parent=real, writable=writable)
        for path, (writable, real) in parents.items()
    }
    for line in filter(None, frames["files.stat"].text.splitlines()):
        state = _stated(line, parents, digests, marked)
        if state.digest and state.path not in hidden:
            piece = bytes(content[: state.size])
            content = content[len(piece) :]
            state = _with_content(state, piece)
        states[state.path] = state
    return states


def _parent(line: str) -> tuple[str, tuple[bool, str]]:
    writable, path, real = line.split(" ", 2)
    return path, (writable == "rw", real)


def _digest(line: str) -> tuple[str, str]:
    digest, _, path = line.partition("  ")
    return path, digest


def _stated(
    line: str,
    parents: Mapping[str, tuple[bool, str]],
    digests: Mapping[str, str],
    marked: frozenset[str],
) -> FileState:
    try:
        raw, owner, links, size, mtime, path = line.split(" ", 5)
        mode = int(raw, 16)
        numbers = int(links), int(size), int(mtime)
    except ValueError as error:
        raise FactError(f"`stat` answered {line!r}") from error
    writable, real = parents.get(path, (True, ""))
    return FileState(
        path=path,
        kind=_kind(mode),
        mode=stat.S_IMODE(mode),
        owner=owner,
        links=numbers[0],
        size=numbers[1],
        mtime=numbers[2],
        digest=digests.get(path, ""),
        real_parent=real,
        ours=path in marked,
        writable=writable,
    )


def _kind(mode: int) -> FileKind:
    if stat.S_ISREG(mode):
        return "regular"
    if stat.S_ISLNK(mode):
        return "symlink"
    return "directory" if stat.S_ISDIR(mode) else "other"


def _with_content(state: FileState, piece: bytes) -> FileState:
    if hashlib.sha256(piece).hexdigest() != state.digest:
        raise FactError(f"{state.path} changed while it was read", hint="run the command again")
    return FileState(**{**vars(state), "content": piece})


# --- judging --------------------------------------------------------------------------------


_KINDS: Mapping[FileKind, str] = {
    "symlink": "symbolic link",
    "directory": "directory",
    "other": "device, socket or pipe",
}


def refusal(file: ManagedFile, state: FileState, *, adopt: bool) -> tuple[str, str]:
    """Return why ``file`` must not be written where it should go, and what to type; or two ''."""
    parent = file.path.rpartition("/")[0]
    if state.real_parent not in ("", parent):
        return (
            f"its folder is a link to {state.real_parent}",
            f"name {state.real_parent} in the inventory",
        )
    if state.kind not in ("absent", "regular"):
        return f"a {_KINDS[state.kind]} stands there", f"ls -ld {file.path}, then move it away"
    if state.size > file.limit:
        return f"a file of {state.size} bytes stands there", f"ls -l {file.path}, then move it away"
    if state.links > 1:
        return f"it has {state.links} hard links", f"find / -xdev -samefile {file.path}"
    if not state.writable:
        return "it cannot be written", f"findmnt -T {file.path}; lsattr {file.path}"
    if state.kind == "regular" and not state.ours and not adopt and state.digest != file.digest:
        return (
            "another hand wrote it",
            f"move {file.path} away, or set `adopt: true` for this node to take it over",
        )
    return "", ""


def is_right(file: ManagedFile, state: FileState) -> bool:
    """Tell whether content, mode and owner are as they should be."""
    return (state.digest, state.mode, state.owner) == (file.digest, file.mode, "0:0")


def finding(topic: str, file: ManagedFile, state: FileState, *, adopt: bool) -> Finding:
    """Return the verdict on one file."""
    why, hint = refusal(file, state, adopt=adopt)
    if why:
        return _finding(topic, file, Status.FAIL, why, hint)
    if is_right(file, state):
        return _finding(topic, file, Status.OK, "as it should be", "")
    return _finding(topic, file, Status.FAIL, _difference(file, state), APPLY)


def _finding(topic: str, file: ManagedFile, status: Status, actual: str, hint: str) -> Finding:
    wanted = "" if status is Status.OK else f"nodeprep's file, {file.mode:04o}, owner 0:0"
    return Finding(
        topic=topic, name=file.path, status=status, actual=actual, wanted=wanted, hint=hint
    )


def _difference(file: ManagedFile, state: FileState) -> str:
    if state.kind == "absent":
        return "not there"
    if state.digest != file.digest:
        return "other content"
    return f"mode {state.mode:04o}, owner {state.owner}"


# --- changing -------------------------------------------------------------------------------


def change(topic: str, file: ManagedFile, state: FileState, *, adopt: bool) -> Change | None:
    """Return the change that puts ``file`` in place; none where it is right or refused."""
    if is_right(file, state) or refusal(file, state, adopt=adopt)[0]:
        return None
    verb = "write" if state.kind == "absent" else "rewrite"
    what = f"secret, mode {file.mode:04o}" if isinstance(file.content, Secret) else "file"
    return Change(
        topic=topic,
        subject=file.path,
        summary=f"{verb} {file.path}" + (f" ({what})" if what != "file" else ""),
        action=Script(f"put {words(file.path)} {file.mode:04o} {file.digest} ") + file.quoted,
        guard=Guard(path=file.path, seen=state.digest or "absent"),
        diff=_diff(file, state),
    )


def _diff(file: ManagedFile, state: FileState) -> str:
    hidden = isinstance(file.content, Secret) or not file.shown
    if hidden or (state.kind == "regular" and state.content is None):
        return ""
    old = (state.content or b"").decode("utf-8", "backslashreplace")
    source = file.path if state.kind == "regular" else "/dev/null"
    lines = difflib.unified_diff(
        old.splitlines(), file.text.splitlines(), source, file.path, lineterm=""
    )
    return "\n".join(lines)


TEMPORARY = ".nodeprep-*.tmp"
"""Names of half-written files, as a shell pattern: no program reads a hidden file of this kind."""

# Rename is atomic only within a folder, and lasting only once file and folder are on the disk.
# The part of the path that is there is looked at first: nothing is made behind a link.
# What stood there before is kept under $state/previous, with its own mode and owner.
# A folder that is made gets its parent's label of SELinux, where the policy may have another.
PUT = """\
put() {
  folder=${1%/*}
  there=$folder
  until [ -d "$there/" ]; do there=${there%/*}; done
  real=
  cd -P -- "$there/" && real=$PWD
  cd /
  [ "$real" = "${there:-/}" ] || { echo "$there is a link"; return 1; }
  [ -d "$folder" ] || mkdir -p -- "$folder" || return
  label "$folder" "$there"
  if [ -L "$1" ] || { [ -e "$1" ] && [ ! -f "$1" ]; }; then
    echo "$1 is not a regular file"
    return 1
  fi
  temp=$folder/.nodeprep-$run.tmp
  umask 077
  set -C
  printf '%s' "$4" >"$temp"
  set +C
  umask 022
  if [ "$(sha256sum <"$temp")" = "$3  -" ] && chmod "$2" "$temp" && chown 0:0 "$temp" &&
    sync "$temp" && keep "$1" && mv -f -- "$temp" "$1" && sync "$folder"; then
    label "$1" "$folder"
    return 0
  fi
  echo "$1 could not be written"
  rm -f -- "$temp"
  return 1
}
label() {
  command -v restorecon >/dev/null || return 0
  made=$1
  until [ "$made" = "$2" ]; do
    restorecon "$made"
    made=${made%/*}
  done
}
keep() {
  [ -e "$1" ] || return 0
  kept=$state/previous$1
  # Somebody's own file is kept for good, one of ours until the next.
  one=
  two=
  { IFS= read -r one; IFS= read -r two; } <"$1"
  case $one$two in *"@MARK@"*) ;; *) kept=$kept.original ;; esac
  umask 077
  [ -d "${kept%/*}" ] || mkdir -p -- "${kept%/*}"
  cp -p -- "$1" "$kept"
  kept=$?
  umask 022
  return "$kept"
}
""".replace("@MARK@", MARK)
"""Defines ``put PATH MODE SHA256 CONTENT``: the file is the old or the new one, whole."""
