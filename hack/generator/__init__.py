# SPDX-License-Identifier: Apache-2.0
"""What `hack/generate` writes: CRDs and reference pages, from the types in `crds/lateen_api`."""
