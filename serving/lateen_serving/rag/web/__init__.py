# SPDX-License-Identifier: Apache-2.0
"""Pages of web sites as documents: asked for politely, within bounds, and only when they have changed."""
