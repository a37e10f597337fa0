# shellcheck shell=bash
# lib.sh: what the scripts in tests/servers and tests/run share. It is sourced, not run.

# Things that are worth keeping between checkouts (a Python environment, tools that
# take minutes to build) lie here; nothing of a test run does.
cache_dir=${KEEPHOLD_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/var/tmp}/.cache}/keephold-tests}

say() { echo "${0##*/}: $*" >&2; }
die() {
  say "$*"
  exit 1
}

# as_root COMMAND...: runs it as root, with sudo where we are somebody else.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo -n "$@"
  else
    die "this needs root, and there is no sudo: $*"
  fi
}

# need_packages PACKAGE...: installs those Debian packages that are missing.
need_packages() {
  local package missing=()
  command -v dpkg-query >/dev/null ||
    die "not a Debian system: install the equivalents of: $*"
  for package; do
    [ "$(dpkg-query -Wf '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
      missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing Debian packages: ${missing[*]}"
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600)
  as_root "${apt[@]}" update || die "apt-get update failed"
  as_root "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >&2 ||
    die "these packages could not be installed: ${missing[*]}"
}

# need_venv: makes the Python environment with LocalStack and boto3, pinned by
# requirements.txt, and sets $venv to it.
need_venv() {
  local pins python=${PYTHON:-/usr/bin/python3}
  pins=$(dirname "${BASH_SOURCE[0]}")/requirements.txt
  [ -x "$python" ] || python=$(command -v python3) || die "there is no python3"
  venv=$cache_dir/localstack-$({ cat "$pins" && "$python" -VV && command -v "$python"; } |
    sha256sum | cut -c 1-12)
  mkdir -p "$cache_dir"
  # Two checkouts may get here at once; the lock goes when the subshell ends.
  (
    flock 9
    [ -e "$venv/complete" ] && exit 0
    say "making the Python environment $venv"
    rm -rf "$venv"
    "$python" -m venv "$venv" &&
      "$venv/bin/pip" install --disable-pip-version-check --requirement "$pins" \
        >"$venv/pip.log" 2>&1 && : >"$venv/complete"
  ) 9>"$cache_dir/venv.lock" ||
    die "the Python environment could not be made: see $venv/pip.log, where there is one"
}

listening() { # PORT: does anything accept connections there?
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# free_ports COUNT: prints the first of COUNT consecutive ports that nobody listens
# on, below the range from which the kernel takes ports for outgoing connections.
free_ports() {
  local base port try
  for try in $(seq 50); do
    base=$((20000 + (RANDOM % 480) * 25))
    for port in $(seq "$base" $((base + $1 - 1))); do
      listening "$port" && continue 2
    done
    echo "$base"
    return
  done
  die "no $1 free ports in a row after $try tries"
}

# A process is known by its pid and its start time, since pids are used again.
started_at() { sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }

# launch DIR NAME COMMAND...: starts a daemon in a session of its own, so that no
# Ctrl-C reaches it; its output goes to DIR/NAME.out and its pid to DIR/NAME.pid.
launch() {
  local dir=$1 name=$2
  shift 2
  # 9 is the lock of `up`, which must not outlive it in a daemon.
  setsid "$@" >"$dir/$name.out" 2>&1 </dev/null 9>&- &
  echo "$! $(started_at $!)" >"$dir/$name.pid"
}

# alive DIR NAME: does the daemon that launch started still run?
alive() {
  local pid start
  read -r pid start 2>/dev/null <"$1/$2.pid" || return 1
  [ -n "$start" ] && [ "$(started_at "$pid")" = "$start" ]
}

# halt DIR NAME: stops it, at last by force, and waits until it is gone.
halt() {
  local dir=$1 name=$2 pid tick
  if alive "$dir" "$name"; then
    read -r pid _ <"$dir/$name.pid"
    kill "$pid" 2>/dev/null || true
    for tick in $(seq 150); do
      alive "$dir" "$name" || break
      if [ "$tick" = 100 ]; then
        say "$name ($pid) ignores SIGTERM: killing it"
        kill -KILL "$pid" 2>/dev/null || true
      fi
      sleep 0.1
    done
    alive "$dir" "$name" && { say "$name ($pid) still runs"; return 1; }
  fi
  rm -f "$dir/$name.pid"
}
