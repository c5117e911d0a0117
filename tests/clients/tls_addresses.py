"""Calls over asyncio and TLS, to one address until a line comes, and then to many at once. No request has a Host header.
Arguments: port, authority, connections, addresses, size of the answer to the first address."""

import asyncio
import json
import ssl
import sys

port, authority, *numbers = sys.argv[1:]
connections, addresses, size = map(int, numbers)
context = ssl.create_default_context(cafile=authority)
context.check_hostname = False


async def connect(number):
    return await asyncio.open_connection(f"127.0.0.{1 + number}", int(port), ssl=context)


async def call(reader, writer, model):
    body = json.dumps({"messages": [], "model": model}).encode()
    writer.write(f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))


async def call_once(number, connected):
    reader, writer = await connect(number)
    await connected.wait()
    await call(reader, writer, f"mock-size{size + number}")
    writer.close()


async def main():
    line = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    first = await connect(0)
    while not line.done():
        await call(*first, "mock")
    connected = asyncio.Barrier(connections)
    await asyncio.gather(*(call_once(number % addresses, connected) for number in range(connections)))


print("ready", flush=True)
sys.stdin.readline()
asyncio.run(main())
print("done", flush=True)
sys.stdin.read()
