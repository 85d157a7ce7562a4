#!/usr/bin/env bash
# Runs an example from its start: a fresh repository, a fresh state, recorded models.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
name=$1
shift
home=${SWARMRUN_HOME:-$PWD/build/home}
repository=build/demo/$name.git

scripts/bubblewrap.sh || set -- --unsafe-no-sandbox "$@"
.venv/bin/swarmrun --home "$home" delete "$name" --force >/dev/null 2>&1 || true
rm -rf "$repository"
mkdir -p build/demo
git init --quiet --bare --initial-branch=main "$repository"
if [[ -x examples/$name/prepare.sh ]]; then "examples/$name/prepare.sh" "$repository"; fi

.venv/bin/swarmrun --home "$home" run -f "examples/$name/run.yaml" "$@"
