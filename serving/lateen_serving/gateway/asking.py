# SPDX-License-Identifier: Apache-2.0
"""What the model is asked: from a request's fields to the engine's requests. Called by the generating endpoints."""

import asyncio
from collections.abc import Sequence

from lateen_serving.engine.protocol import GenerateRequest
from lateen_serving.errors import InputError
from lateen_serving.gateway import formats, tools
from lateen_serving.gateway.context import RequestContext
from lateen_serving.gateway.formats import Format
from lateen_serving.gateway.requests.formats import TextFormat
from lateen_serving.gateway.requests.functions import Function, Mode

_SEEDS = 2**63


def requests(context: RequestContext, prompts: Sequence[str] = ()) -> list[GenerateRequest]:
    """The engine's requests: for each prompt (or once for the conversation) `context.choices` of them, in order.

    With a seed each choice has one of its own, counted on from it, so that they differ and all can be had again.
    """
    return [
        _request(context, prompt, number)
        for prompt in prompts or (None,)
        for number in range(context.choices)
    ]


def _request(context: RequestContext, prompt: str | None, number: int) -> GenerateRequest:
    sampling = context.sampling
    seed = sampling.seed
    request = GenerateRequest(
        messages=context.messages if prompt is None else [],
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=None if seed is None else (seed + number + _SEEDS) % (2 * _SEEDS) - _SEEDS,
        stop=list(sampling.stop),
    )
    if prompt is not None:
        request["prompt"] = prompt
    _add_options(request, context)
    return request


def _add_options(request: GenerateRequest, context: RequestContext) -> None:
    """Fields that engines may lack; they are left out unless they ask for something."""
    sampling = context.sampling
    if sampling.top_k:
        request["top_k"] = sampling.top_k
    if sampling.min_p:
        request["min_p"] = sampling.min_p
    if sampling.presence_penalty:
        request["presence_penalty"] = sampling.presence_penalty
    if sampling.frequency_penalty:
        request["frequency_penalty"] = sampling.frequency_penalty
    if sampling.logit_bias:
        request["logit_bias"] = dict(sampling.logit_bias)
    if sampling.logprobs is not None:
        request["logprobs"] = sampling.logprobs
    if context.tools:
        request["tools"] = context.tools
    if context.grammar is not None:
        request["grammar"] = context.grammar
    if context.window is not None:
        request["window"] = context.window
    if context.adapter:
        request["adapter"] = context.adapter


async def constrain(
    context: RequestContext,
    answer_format: Format,
    functions: Sequence[Function],
    paths: Sequence[str],
    mode: Mode,
    named: str | None,
    parallel: bool,
) -> bool:
    """Fill `context.tools` and `context.grammar`; whether the answer may hold calls.

    Args:
        context: The request's.
        answer_format: What an answer without calls looks like.
        functions: What may be called.
        paths: Where the request has each of them.
        mode: Whether the model may, must or must not call; `none` hides the functions from it.
        named: The function it must call.
        parallel: Whether it may call several times.

    Raises:
        InputError: A schema or a name is wrong.

    """
    if named is not None and named not in {function.name for function in functions}:
        raise InputError(f"The function '{named}' of 'tool_choice' is not in 'tools'.", param="tool_choice")
    if mode == "required" and not functions:
        raise InputError("'tool_choice' asks for a call, but 'tools' has no function.", param="tool_choice")
    is_plain = mode == "none" or not functions
    if is_plain and isinstance(answer_format, TextFormat):
        return False
    # llguidance compiles for up to a second, without the interpreter's lock: other requests go on meanwhile.
    if is_plain:
        context.grammar = await asyncio.to_thread(formats.grammar, answer_format)
        return False

    def compiled() -> list[tools.Callable]:
        callables = tools.callables(functions, paths)
        document = formats.schema(answer_format)
        context.grammar = tools.grammar(callables, mode, named, parallel, document)
        tools.check(context.grammar)
        return callables

    context.tools = [function.tool() for function in await asyncio.to_thread(compiled)]
    return True
