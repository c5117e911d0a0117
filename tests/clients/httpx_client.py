"""Calls an LLM API with httpx, synchronously or with asyncio."""

import asyncio
import ssl

import httpx

import pace

opts = pace.options(__doc__)
common = {
    "verify": ssl.create_default_context(cafile=opts.ca),
    "headers": pace.HEADERS[opts.api],
    "base_url": opts.base_url,
    "timeout": 60,
}
if opts.http2:
    common |= {"http1": False, "http2": True, "limits": httpx.Limits(max_connections=1)}


def sync():
    with httpx.Client(**common) as client:

        def warm():
            client.get("/v1/models").raise_for_status()

        def call(body, answer):
            headers = {"x-request-id": answer.request_id()}
            with client.stream("POST", pace.PATHS[opts.api], json=body, headers=headers) as response:
                answer.status = response.status_code
                if not response.headers["content-type"].startswith("text/event-stream"):
                    response.read()
                    getattr(answer, opts.api)(response.json())
                    return
                for line in response.iter_lines():
                    if answer.feed_line(line, opts.api) and answer.events == opts.cancel_after:
                        return

        pace.run(opts, warm, call)


async def asynchronous():
    async with httpx.AsyncClient(**common) as client:

        async def warm():
            (await client.get("/v1/models")).raise_for_status()

        async def call(body, answer):
            headers = {"x-request-id": answer.request_id()}
            async with client.stream("POST", pace.PATHS[opts.api], json=body, headers=headers) as response:
                answer.status = response.status_code
                if not response.headers["content-type"].startswith("text/event-stream"):
                    await response.aread()
                    getattr(answer, opts.api)(response.json())
                    return
                async for line in response.aiter_lines():
                    if answer.feed_line(line, opts.api) and answer.events == opts.cancel_after:
                        return

        await pace.run_async(opts, warm, call)


if opts.asynchronous:
    asyncio.run(asynchronous())
else:
    sync()
