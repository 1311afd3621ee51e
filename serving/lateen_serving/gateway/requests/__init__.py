# SPDX-License-Identifier: Apache-2.0
"""Bodies of the requests the gateway understands, a module per endpoint. Parsed by `body.py`, used by the endpoints.

Accepted without effect, because in OpenAI's API they don't change the answer either: `user`, `safety_identifier` and
`metadata` (labels for the caller's own accounting; `metadata` is echoed by responses), `store: false` (nothing is ever
stored), `service_tier: auto | default` (there is one tier) and `prompt_cache_key` (a hint about speed). A neutral value of
an unsupported field, such as `modalities: ["text"]`, counts as leaving it out.
"""
