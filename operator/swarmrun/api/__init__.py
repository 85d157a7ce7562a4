"""The resources of `swarmrun.dev/v1alpha1`; the one source of their schema."""

from typing import Final

GROUP: Final = "swarmrun.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = "swarmrun.dev/v1alpha1"
