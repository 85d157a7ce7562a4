#!/usr/bin/env bash
# kind-build.sh [--build-arg K=V] -f FILE DIRECTORY IMAGE: builds with docker and loads into the kind cluster of
# KIND_CLUSTER (default swarmrun). FILE is relative to DIRECTORY.
set -euo pipefail
arguments=()
while [[ ${1:-} == -* ]]; do
  case $1 in
    -f) file=$2 ;;
    --build-arg) arguments+=(--build-arg "$2") ;;
    *) echo "kind-build: unknown option $1" >&2; exit 2 ;;
  esac
  shift 2
done
for program in docker kind; do
  command -v $program >/dev/null || { echo "kind-build: $program is not installed (or name another builder: E2E_BUILD)" >&2; exit 1; }
done
docker build "${arguments[@]}" -f "$1/${file:-Dockerfile}" -t "$2" "$1"
kind load docker-image "$2" --name "${KIND_CLUSTER:-swarmrun}"
