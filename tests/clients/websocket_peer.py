"""Either end of a WebSocket, with the library `websockets`, its threads or asyncio.

What is said is on the command line; the server answers each message with one in pieces and a binary one. Each end
prints a line of JSON for every message that it sends.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import ssl
import threading

import websockets.asyncio.client
import websockets.asyncio.server
import websockets.sync.client
import websockets.sync.server


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    call = commands.add_parser("call", help="connects, says all, waits for the answers")
    call.add_argument("--url", required=True)
    call.add_argument("--say", required=True, type=json.loads, metavar="JSON",
                      help="list of [kind, length, pieces]")
    serve = commands.add_parser("serve", help="answers until its input ends; prints its port first")
    serve.add_argument("--cert", help="PEM file with certificate and key; without it, no TLS")
    for command in (call, serve):
        command.add_argument("--ca", help="PEM file of the authority to trust")
        command.add_argument("--compression", choices=["deflate"])
        command.add_argument("--async", dest="asynchronous", action="store_true")
    return parser.parse_args()


def told(kind, body):
    data = body.encode() if isinstance(body, str) else body
    print(json.dumps({"kind": kind, "length": len(data), "sha256": hashlib.sha256(data).hexdigest()}),
          flush=True)


def content(kind, length):
    """Not the same at any two places, and worth compressing."""
    text = "".join(f"{at:07} " for at in range(0, length, 8))[:length]
    return text if kind == "text" else text.encode()


def pieces(body, count):
    """The message itself, or that many fragments of it."""
    if count < 2:
        return body
    size = -(-len(body) // count)
    return [body[at:at + size] for at in range(0, len(body), size)]


def answers(message):
    """What a server says to a message: in three pieces, and binary."""
    length = len(message)
    yield "text", f"{length} " + content("text", length // 2), 3
    yield "binary", content("binary", length % 1000), 1


def context(opts):
    if getattr(opts, "cert", None):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(opts.cert)
        return tls
    if opts.command == "call" and opts.url.startswith("wss:"):
        return ssl.create_default_context(cafile=opts.ca)
    return None


def call(opts):
    connect = websockets.sync.client.connect
    with connect(opts.url, ssl=context(opts), compression=opts.compression, max_size=None) as socket:
        for kind, length, count in opts.say:
            body = content(kind, length)
            socket.send(pieces(body, count))
            told(kind, body)
            socket.recv()
            socket.recv()


def serve(opts):
    def handle(socket):
        for message in socket:
            for kind, body, count in answers(message):
                socket.send(pieces(body, count))
                told(kind, body)

    server = websockets.sync.server.serve(
        handle, "127.0.0.1", 0, ssl=context(opts), compression=opts.compression, max_size=None)
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(json.dumps({"port": server.socket.getsockname()[1]}), flush=True)
        with contextlib.suppress(EOFError):
            input()


async def call_async(opts):
    connect = websockets.asyncio.client.connect
    async with connect(opts.url, ssl=context(opts), compression=opts.compression, max_size=None) as socket:
        for kind, length, count in opts.say:
            body = content(kind, length)
            await socket.send(pieces(body, count))
            told(kind, body)
            await socket.recv()
            await socket.recv()


async def serve_async(opts):
    async def handle(socket):
        async for message in socket:
            for kind, body, count in answers(message):
                await socket.send(pieces(body, count))
                told(kind, body)

    server = websockets.asyncio.server.serve(
        handle, "127.0.0.1", 0, ssl=context(opts), compression=opts.compression, max_size=None)
    async with server as running:
        print(json.dumps({"port": running.sockets[0].getsockname()[1]}), flush=True)
        with contextlib.suppress(EOFError):
            await asyncio.to_thread(input)


opts = options()
if opts.asynchronous:
    asyncio.run((call_async if opts.command == "call" else serve_async)(opts))
else:
    (call if opts.command == "call" else serve)(opts)
