# SPDX-License-Identifier: Apache-2.0
"""Ray Serve as it comes: its default proxy, a FastAPI ingress of ten lines, and the same model behind it.

The other side of a comparison with the gateway; `serving.py` runs it as a process of its own, which prints one line
`READY PORT` and serves until its standard input ends.
"""

import json
import sys
from typing import Any

from fastapi import FastAPI, Request
from ray import serve

from lateen_serving.engine import app as engine

web = FastAPI()


@serve.deployment(max_ongoing_requests=512, ray_actor_options={"num_cpus": 0.1})
@serve.ingress(web)
class PlainIngress:
    """Forwards a chat to the model and joins its answer."""

    def __init__(self, model: Any) -> None:
        self._model = model.generate.options(stream=True)

    @web.post("/v1/chat/completions")
    async def chat(self, request: Request) -> dict[str, Any]:
        """One answer."""
        body = await request.json()
        order = {
            "messages": body["messages"],
            "max_tokens": body["max_completion_tokens"],
            "temperature": 0.0,
            "top_p": 1.0,
            "seed": None,
            "stop": [],
        }
        events = [event async for event in self._model.remote(order)]
        text = "".join(event["text"] for event in events)
        return {"content": text, "usage": {"completion_tokens": events[-1]["completion_tokens"]}}


def main(arguments: list[str]) -> None:
    """Serve until standard input ends; arguments: the port and the model's arguments as JSON."""
    import ray

    port, model_arguments = int(arguments[0]), json.loads(arguments[1])
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    model = engine.bound(model_arguments)
    serve.run(PlainIngress.bind(model), route_prefix="/")  # type: ignore[attr-defined]  # a deployment
    sys.stdout.write(f"READY {port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    serve.shutdown()  # type: ignore[no-untyped-call]
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
