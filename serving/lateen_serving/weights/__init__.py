# SPDX-License-Identifier: Apache-2.0
"""Weights: from where a spec says they are into a folder that is safe to load."""
