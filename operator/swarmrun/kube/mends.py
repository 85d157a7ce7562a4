"""What mends a Pod that is refused for good: by the reason that `api` and `loss` give it. Pure.

The kubelet and the API server say what is wrong, in their own words; these say which field it came from.
"""

from __future__ import annotations

_IMAGE = (
    "name another in spec.sandbox.image, or let the nodes pull it: spec.pods.imagePullSecrets of the SwarmClass, "
    "the default image in the operator's chart"
)

MENDS = {
    "QuotaExceeded": "lower spec.sandbox.resources, end other runs, or raise the ResourceQuota of the namespace",
    "LimitRangeViolated": "set spec.sandbox.resources within the LimitRange of the namespace, or change that",
    "PodSecurityDenied": "take what the standard forbids out of spec.pods of the SwarmClass (annotations, mostly)",
    "RuntimeClassNotFound": "correct spec.pods.runtimeClass of the SwarmClass, or create that RuntimeClass",
    "PriorityClassNotFound": "correct spec.pods.priorityClass of the SwarmClass, or create that PriorityClass",
    "ServiceAccountNotFound": "create spec.pods.serviceAccount of the SwarmClass in the run's namespace",
    "StorageClassNotFound": "correct spec.pods.storageClass of the SwarmClass, or create that StorageClass",
    "VolumeSourceMissing": "create the ConfigMap in the run's namespace, with key ca.crt, or correct "
    "spec.pods.caConfigMap or gitCaConfigMap of the SwarmClass",
    "InvalidImageName": _IMAGE,
    "ImageNotPresent": _IMAGE,
    "ImagePullFailed": _IMAGE,
    "ContainerConfigRefused": "spec.sandbox.image must be one that starts without root",
    "CommandRefused": "spec.sandbox.image needs python3 (3.9 or newer) and git on its PATH",
    "ServerDidNotStart": "spec.sandbox.image needs python3 (3.9 or newer) and git on its PATH",
    "NamespaceTerminating": "the namespace is being deleted: apply the run in another",
    "SecretNotLabelled": "label that Secret swarmrun.dev/git-credential=true if runs may use it, or name another in "
    "spec.repository.credential",
    "SecretHostNotAllowed": "list the host in the annotation swarmrun.dev/allowed-hosts of that Secret if it is "
    "for it, or correct spec.repository",
    "RepositoryNotAllowed": "write spec.repository.url without ?, #, \\ and spaces before its path",
    "OwnPolicyDenied": "SwarmRun's own policy takes its Pods only as the operator makes them: what changes Pods here "
    "(sidecars, mirrors of images) must leave out app.kubernetes.io/managed-by=swarmrun; no runs in namespaces kube-*",
    "PolicyDenied": "ask whoever set that admission policy, or change spec.pods of the SwarmClass",
    "WebhookDenied": "ask whoever runs that admission webhook, or change spec.pods of the SwarmClass",
    "OperatorNotAllowed": "give the operator's ServiceAccount the rights of its chart (rbac.create)",
    "Invalid": "correct spec.pods of the SwarmClass: a field of the Pods is not what Kubernetes takes",
}


def mend_of(reason: str) -> str:
    """Empty where the message must do."""
    return MENDS.get(reason, "")


def with_mend(message: str, reason: str) -> str:
    """A message too long for a status loses its middle, not what mends it."""
    mend = mend_of(reason)
    if not mend:
        return message
    room = max(120, 470 - len(mend))
    if len(message) > room:
        half = room // 2 - 1
        message = f"{message[:half]} … {message[-half:]}"
    return f"{message} ({mend})"
