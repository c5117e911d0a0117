"""Calls an LLM API with aiohttp, which has asyncio only."""

import asyncio
import ssl

import aiohttp

import pace

opts = pace.options(__doc__)


async def main():
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=opts.ca))
    headers = pace.HEADERS[opts.api]
    async with aiohttp.ClientSession(opts.base_url, connector=connector, headers=headers) as session:

        async def warm():
            async with session.get("/v1/models") as response:
                response.raise_for_status()
                await response.read()

        async def call(body, answer):
            async with session.post(pace.PATHS[opts.api], json=body) as response:
                answer.status = response.status
                if response.content_type != "text/event-stream":
                    getattr(answer, opts.api)(await response.json())
                    return
                async for line in response.content:
                    if answer.feed_line(line.decode(), opts.api) and answer.events == opts.cancel_after:
                        response.close()
                        return

        await pace.run_async(opts, warm, call)


asyncio.run(main())
