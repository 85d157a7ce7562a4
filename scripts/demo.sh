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

if [[ " $* " != *" --no-guards "* ]]; then
  exec .venv/bin/swarmrun --home "$home" run -f "examples/$name/run.yaml" "$@"
fi

# The negative control: it is the bad result that is to be shown, so its failure is no failure of this script.
.venv/bin/swarmrun --home "$home" run -f "examples/$name/run.yaml" "$@" || true
echo
echo "The same recording with the guards off. What they would have stopped, measured on the merged tree:"
tree=$(.venv/bin/swarmrun --home "$home" get "$name" -o json | .venv/bin/python -c 'import json, sys; print(json.load(sys.stdin)["status"]["result"]["commit"])')
repo=$home/runs/default/$name/repo.git
git -C "$repo" cat-file -e "$tree:tests/test_whole_way.py" 2>/dev/null ||
  echo "- tests/test_whole_way.py does not exist, although its agent was believed when it said so"
git -C "$repo" show "$tree:shortener/models.py" | grep -q 'quote(' ||
  echo "- shortener/models.py was restored from one side: the API's change to short_url is lost"
