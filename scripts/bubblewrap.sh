#!/usr/bin/env bash
# Exit 0 when bubblewrap works here; tries to install it where that needs no password. Says what it does.
set -uo pipefail
works() { command -v bwrap >/dev/null && bwrap --unshare-all --ro-bind / / true 2>/dev/null; }

works && exit 0
if ! command -v bwrap >/dev/null && command -v apt-get >/dev/null; then
  sudo=
  if [[ $(id -u) != 0 ]]; then sudo="sudo -n"; fi
  echo "bubblewrap is missing: trying to install it" >&2
  { $sudo apt-get install -y -q bubblewrap || { $sudo apt-get update -q && $sudo apt-get install -y -q bubblewrap; }; } >/dev/null 2>&1
fi
works && exit 0
echo "bubblewrap is missing or does not work here: agents run unsandboxed" >&2
exit 1
