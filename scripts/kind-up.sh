#!/usr/bin/env bash
# A kind cluster with both images in it, for trying the operator and for the tests. KIND_CLUSTER names it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
name=${KIND_CLUSTER:-swarmrun}
say() { echo "kind-up: $*" >&2; }

missing=()
for program in docker kind kubectl helm; do command -v $program >/dev/null || missing+=("$program"); done
if ((${#missing[@]})); then
  say "missing: ${missing[*]}. See https://kind.sigs.k8s.io/docs/user/quick-start/ and https://helm.sh/docs/intro/install/"
  exit 1
fi
docker info >/dev/null 2>&1 || { say "the docker daemon does not answer"; exit 1; }
# Older ones have a network plug-in that lets everything through, and no run starts where agents are not fenced.
version=$(kind version | sed -n 's/.*v\([0-9]*\.[0-9]*\).*/\1/p')
if [[ $(printf '%s\n0.24\n' "$version" | sort -V | head -n 1) != 0.24 ]]; then
  say "kind $version does not enforce NetworkPolicy: 0.24 or newer is needed"
  exit 1
fi

kind get clusters 2>/dev/null | grep -qx "$name" || kind create cluster --name "$name" --wait 180s
appversion=$(sed -n 's/^appVersion: *"\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' charts/swarmrun/Chart.yaml)
for image in sandbox operator; do
  KIND_CLUSTER=$name scripts/kind-build.sh -f "$image-image/Dockerfile" . "swarmrun-$image:$appversion"
  # The name that the tests use.
  docker tag "swarmrun-$image:$appversion" "localhost/swarmrun-$image:dev"
  kind load docker-image "localhost/swarmrun-$image:dev" --name "$name"
done
cat <<TEXT

Cluster $name is up, with swarmrun-operator:$appversion and swarmrun-sandbox:$appversion in it. Next:

  helm install swarmrun charts/swarmrun -n swarmrun-system --create-namespace --wait
  kubectl apply --server-side -k examples/url-shortener/
  kubectl -n swarmrun-demo get swr -w

or  make e2e E2E_BUILD=    (the tests), and  kind delete cluster --name $name  at the end.
TEXT
