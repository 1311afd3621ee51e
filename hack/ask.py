# SPDX-License-Identifier: Apache-2.0
"""Ask the quickstart's handbook a question with the official SDK; `hack/demo` and readers of the README run it.

Needs what `lateen env` exports and nothing of Lateen: OPENAI_BASE_URL and OPENAI_API_KEY.
"""

import argparse
import sys

from openai import OpenAI
from openai.types.responses import Response


def ask(question: str, model: str, index: str, prompt: str) -> Response | None:
    """Stream one answer to standard output; the complete response, or None where the stream ended early."""
    complete: Response | None = None
    with OpenAI().responses.create(
        model=model,
        prompt={"id": prompt, "variables": {"question": question}},
        tools=[{"type": "file_search", "vector_store_ids": [index]}],
        stream=True,
    ) as events:
        for event in events:
            if event.type == "response.output_text.delta":
                print(event.delta, end="", flush=True)
            elif event.type in ("response.completed", "response.incomplete"):
                complete = event.response
    print()
    return complete


def sources(response: Response) -> list[str]:
    """File names of the answer's citations, each once, in order."""
    found = [
        annotation.filename
        for item in response.output
        if item.type == "message"
        for part in item.content
        if part.type == "output_text"
        for annotation in part.annotations
        if annotation.type == "file_citation"
    ]
    return list(dict.fromkeys(found))


def main(arguments: list[str]) -> int:
    """Question in, answer and sources out; 1 where the answer is cut off, empty or names no source."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--index", default="handbook")
    parser.add_argument("--prompt", default="grounded-answer")
    wanted = parser.parse_args(arguments)
    print(f"Question: {wanted.question}\nAnswer:   ", end="")
    response = ask(wanted.question, wanted.model, wanted.index, wanted.prompt)
    if response is None:
        print("The answer was cut off.", file=sys.stderr)
        return 1
    cited = sources(response)
    print(f"Sources:  {', '.join(cited) or 'none'}")
    return 0 if response.output_text.strip() and cited else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
