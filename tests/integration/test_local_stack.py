# SPDX-License-Identifier: Apache-2.0
"""What the running stack shows to the outside of this machine."""

from stack.local import LocalStack

DOCUMENTED = {"weaviate"}
"""Weaviate 1.38 opens its gRPC and cluster ports on every interface; both ask for generated credentials."""


def test_nothing_but_the_documented_listens_beyond_loopback(stack: LocalStack) -> None:
    """Every other socket of the stack is reachable from this machine only."""
    found = stack.open_sockets()
    assert sorted(name for name in found.values() if name not in DOCUMENTED) == []
    assert set(found) <= {stack.ports.weaviate_grpc, stack.ports.weaviate_data, stack.ports.weaviate_gossip}


def test_secrets_are_in_no_command_line(stack: LocalStack) -> None:
    """Other users of the machine see command lines, so no token or key is in one."""
    secrets = [value for value in stack.secrets.model_dump().values() if isinstance(value, str)]
    shown = [" ".join(process.cmdline()) for process in stack.processes()]
    assert shown
    assert [line for line in shown for secret in secrets if secret in line] == []
