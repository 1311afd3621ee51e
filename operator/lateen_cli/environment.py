# SPDX-License-Identifier: Apache-2.0
"""What `lateen env` prints for a shell to evaluate."""

import shlex

from lateen_cli.state import Stack, StateDir


def variables(state: StateDir, stack: Stack) -> dict[str, str]:
    """What a client of the stack needs."""
    return {
        "KUBECONFIG": str(state.kubeconfig),
        "KUBECACHEDIR": str(state.cache("kubectl")),
        "OPENAI_BASE_URL": f"http://127.0.0.1:{stack.ports.gateway}/v1",
        "OPENAI_API_KEY": stack.secrets.api_key,
    }


def exports(state: StateDir, stack: Stack) -> str:
    """Lines for `eval`; kubectl comes first on PATH."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables(state, stack).items()]
    lines.append(f'export PATH={shlex.quote(str(state.programs))}:"$PATH"')
    return "\n".join(lines)
