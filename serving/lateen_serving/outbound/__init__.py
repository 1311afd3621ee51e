# SPDX-License-Identifier: Apache-2.0
"""Reaching servers that a spec names: checked addresses, bounded replies, credentials from Secrets, typed failures."""
