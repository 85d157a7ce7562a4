#!/usr/bin/env bash
# The end-to-end tests from nothing, on the cluster of KUBECONFIG (else ~/.kube/config), which must be one for tests.
#
#   E2E_BUILD     builds an image and brings it there; called as  $E2E_BUILD [--build-arg K=V] -f FILE DIRECTORY IMAGE,
#                 FILE relative to DIRECTORY. Default: docker, then kind load. Empty: the images are there.
#   More variables (kills, runs, seed, a command that kills the API server): tests/e2e/cluster/conftest.py
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export KUBECONFIG=${KUBECONFIG:-$HOME/.kube/config} SWARMRUN_TEST_CLUSTER=1
export SWARMRUN_TEST_OPERATOR_IMAGE=${SWARMRUN_TEST_OPERATOR_IMAGE:-localhost/swarmrun-operator:dev}
export SWARMRUN_TEST_SANDBOX_IMAGE=${SWARMRUN_TEST_SANDBOX_IMAGE:-localhost/swarmrun-sandbox:dev}
build=${E2E_BUILD-scripts/kind-build.sh}

for program in kubectl helm; do
  command -v $program >/dev/null || { echo "e2e: $program is not installed" >&2; exit 1; }
done
kubectl get --raw /readyz >/dev/null || { echo "e2e: no cluster answers at KUBECONFIG=$KUBECONFIG; try make kind-up" >&2; exit 1; }

if [[ $build ]]; then
  $build -f sandbox-image/Dockerfile . "$SWARMRUN_TEST_SANDBOX_IMAGE"
  $build -f operator-image/Dockerfile . "$SWARMRUN_TEST_OPERATOR_IMAGE"
  export SWARMRUN_TEST_OTHER_OPERATOR_IMAGE=localhost/swarmrun-operator:other
  $build --build-arg "OPERATOR_IMAGE=$SWARMRUN_TEST_OPERATOR_IMAGE" -f Dockerfile tests/e2e/cluster/other \
    "$SWARMRUN_TEST_OTHER_OPERATOR_IMAGE"
fi
exec .venv/bin/python -m pytest tests/e2e/cluster -s "$@"
