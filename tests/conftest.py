# SPDX-License-Identifier: Apache-2.0
"""Makes the fixtures of the real stack known to all suites; unit tests don't use them and start nothing."""

pytest_plugins = ["stack.fixtures"]
