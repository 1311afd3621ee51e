# SPDX-License-Identifier: Apache-2.0
"""What an application that uses LlamaIndex does; run by `test_llama_index.py` in an environment of its own.

LlamaIndex's OpenAI client needs an older `openai` than Lateen's own tests use. Needs OPENAI_BASE_URL and OPENAI_API_KEY.
"""

import json
import os
import sys

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike


def main() -> None:
    """Complete, chat and stream; print what came as JSON."""
    model = OpenAILike(
        model="smollm2",
        api_base=os.environ["OPENAI_BASE_URL"],
        api_key=os.environ["OPENAI_API_KEY"],
        is_chat_model=True,
        max_tokens=24,
        temperature=0.0,
        max_retries=0,
    )
    question = [ChatMessage(role="user", content="What is the capital of France?")]
    streamed = [part.delta or "" for part in model.stream_chat(question)]
    plain = OpenAILike(
        model="smollm2",
        api_base=os.environ["OPENAI_BASE_URL"],
        api_key=os.environ["OPENAI_API_KEY"],
        is_chat_model=False,
        max_tokens=8,
        temperature=0.0,
    )
    result = {
        "chat": model.chat(question).message.content,
        "streamed": "".join(streamed),
        "pieces": len(streamed),
        "completion": plain.complete("The capital of France is").text,
    }
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
