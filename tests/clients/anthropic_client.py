"""Calls Messages with Anthropic's SDK, synchronously or with asyncio."""

import asyncio
import ssl

import anthropic

import pace

opts = pace.options(__doc__)
verify = ssl.create_default_context(cafile=opts.ca)
common = {"base_url": opts.base_url, "api_key": "test-key", "max_retries": 0}


def failed(answer, error):
    answer.status = error.status_code
    answer.error = f"{type(error).__name__}: {error.message}"


def sync():
    client = anthropic.Anthropic(**common, http_client=anthropic.DefaultHttpxClient(verify=verify))

    def warm():
        client.get("/v1/models", cast_to=object)

    def call(body, answer):
        try:
            result = client.messages.create(**body)
        except anthropic.APIStatusError as error:
            return failed(answer, error)
        answer.status = 200
        if not body.get("stream"):
            return answer.anthropic(result.model_dump())
        with result:
            for event in result:
                answer.anthropic(event.model_dump())
                answer.events += 1
                if answer.events == opts.cancel_after:
                    return

    pace.run(opts, warm, call)
    client.close()


async def asynchronous():
    client = anthropic.AsyncAnthropic(**common, http_client=anthropic.DefaultAsyncHttpxClient(verify=verify))

    async def warm():
        await client.get("/v1/models", cast_to=object)

    async def call(body, answer):
        try:
            result = await client.messages.create(**body)
        except anthropic.APIStatusError as error:
            return failed(answer, error)
        answer.status = 200
        if not body.get("stream"):
            return answer.anthropic(result.model_dump())
        async with result:
            async for event in result:
                answer.anthropic(event.model_dump())
                answer.events += 1
                if answer.events == opts.cancel_after:
                    return

    await pace.run_async(opts, warm, call)
    await client.close()


if opts.asynchronous:
    asyncio.run(asynchronous())
else:
    sync()
