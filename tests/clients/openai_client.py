"""Calls Chat Completions with OpenAI's SDK, synchronously or with asyncio."""

import asyncio
import ssl

import openai

import pace

opts = pace.options(__doc__)
verify = ssl.create_default_context(cafile=opts.ca)
common = {"base_url": opts.base_url + "/v1", "api_key": "test-key", "max_retries": 0}


def failed(answer, error):
    answer.status = error.status_code
    answer.error = f"{type(error).__name__}: {error.code}"


def sync():
    client = openai.OpenAI(**common, http_client=openai.DefaultHttpxClient(verify=verify))

    def warm():
        client.models.list()

    def call(body, answer):
        try:
            result = client.chat.completions.create(**body)
        except openai.APIStatusError as error:
            return failed(answer, error)
        answer.status = 200
        if not body.get("stream"):
            return answer.openai(result.model_dump())
        with result:
            for chunk in result:
                answer.openai(chunk.model_dump())
                answer.events += 1
                if answer.events == opts.cancel_after:
                    return

    pace.run(opts, warm, call)
    client.close()


async def asynchronous():
    client = openai.AsyncOpenAI(**common, http_client=openai.DefaultAsyncHttpxClient(verify=verify))

    async def warm():
        await client.models.list()

    async def call(body, answer):
        try:
            result = await client.chat.completions.create(**body)
        except openai.APIStatusError as error:
            return failed(answer, error)
        answer.status = 200
        if not body.get("stream"):
            return answer.openai(result.model_dump())
        async with result:
            async for chunk in result:
                answer.openai(chunk.model_dump())
                answer.events += 1
                if answer.events == opts.cancel_after:
                    return

    await pace.run_async(opts, warm, call)
    await client.close()


if opts.asynchronous:
    asyncio.run(asynchronous())
else:
    sync()
