# SPDX-License-Identifier: Apache-2.0
"""Which replica of a model answers a request: policies (pure) and the Ray Serve routers that ask them."""
