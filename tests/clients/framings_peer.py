"""Either end of exchanges whose bodies are framed: forms with files, lines of JSON, Amazon's event streams, gRPC-Web.

`serve` answers with aiohttp until its input ends; `call` sends forms with three libraries and asks for the streamed
answers. Each end prints a line of JSON for every framed body that it sends: `path`, `side`, and in `body` what it is
made of. `framings_peer.mjs` makes the calls of gRPC-Web.
"""

import argparse
import asyncio
import base64
import contextlib
import gzip
import itertools
import json
import random
import ssl
import struct
import urllib.parse
import uuid
import zlib

import aiohttp
import httpx
import requests
from aiohttp import web
from botocore.eventstream import EventStreamBuffer

FILENAME = 'Übung "1".bin'
FIELDS = {"model": "whisper", "prompt": "two\r\nlines, größer", "empty": ""}
NOTES = b"--\r\n\r\n--"

LINES = [
    *({"model": "tiny", "message": {"role": "assistant", "content": word}, "done": False}
      for word in ["It", " is", " größer", "\n", "\u2028", "😀", " " * 2000, "."]),
    {"model": "tiny", "message": {"role": "assistant", "content": ""}, "done": True, "eval_count": 8},
]

# Of every type that a header can have.
HEADERS = {
    ":event-type": ("string", "größer"),
    "yes": ("boolean", True),
    "no": ("boolean", False),
    "byte": ("byte", -2),
    "short": ("short", -300),
    "integer": ("integer", 70_000),
    "long": ("long", -(1 << 40)),
    "bytes": ("byte_array", bytes(range(256))),
    "empty": ("byte_array", b""),
    "time": ("timestamp", 1_700_000_000_123),
    "uuid": ("uuid", uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")),
}


def event(kind, payload):
    texts = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return {name: ("string", text) for name, text in texts.items()}, json.dumps(payload)


EVENTS = [
    event("messageStart", {"role": "assistant"}),
    *(event("contentBlockDelta", {"delta": {"text": text}, "contentBlockIndex": 0})
      for text in ["It is", " größer", "x" * 3000]),
    (HEADERS, ""),
    ({}, "no headers"),
    event("metadata", {"usage": {"inputTokens": 9, "outputTokens": 3, "totalTokens": 12}}),
]


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="answers until its input ends; prints its port first")
    serve.add_argument("--cert", help="PEM file with certificate and key; without it, no TLS")
    call = commands.add_parser("call", help="makes every exchange once")
    call.add_argument("--url", required=True)
    call.add_argument("--ca", help="PEM file of the authority to trust")
    call.add_argument("--file", required=True, type=int, help="length of the file in the forms, in bytes")
    return parser.parse_args()


def told(path, side, body):
    print(json.dumps({"path": path, "side": side, "body": body}), flush=True)


def pieces(body, size):
    """Cut with no regard to what is in it."""
    return [body[at:at + size] for at in range(0, len(body), size)]


# Event streams, as the Smithy specification states them.

FIXED = {"byte": (2, ">b"), "short": (3, ">h"), "integer": (4, ">i"), "long": (5, ">q"), "timestamp": (8, ">q")}


def header(name, kind, value):
    match kind:
        case "boolean":
            code, data = 0 if value else 1, b""
        case "byte_array":
            code, data = 6, struct.pack(">H", len(value)) + value
        case "string":
            code, data = 7, struct.pack(">H", len(value.encode())) + value.encode()
        case "uuid":
            code, data = 9, value.bytes
        case _:
            code, data = FIXED[kind][0], struct.pack(FIXED[kind][1], value)
    return bytes([len(name.encode())]) + name.encode() + bytes([code]) + data


def message(headers, payload):
    block, payload = b"".join(header(name, *of) for name, of in headers.items()), payload.encode()
    prelude = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    framed = prelude + struct.pack(">I", zlib.crc32(prelude)) + block + payload
    return framed + struct.pack(">I", zlib.crc32(framed))


def plain(value):
    """As a listing has it."""
    return value.hex() if isinstance(value, bytes) else value.hex if isinstance(value, uuid.UUID) else value


def listed(headers, payload):
    return {"headers": {name: {kind: plain(value)} for name, (kind, value) in headers.items()}, "payload": payload}


# gRPC-Web.


def frames(body):
    """Flags and bytes of each message."""
    while body:
        flags, length = struct.unpack(">BI", body[:5])
        yield flags, body[5:5 + length]
        body = body[5 + length:]


def frame(flags, data):
    return struct.pack(">BI", flags, len(data)) + data


def string(value):
    """A `google.protobuf.StringValue`; none is longer here than 127 bytes."""
    return b"\n" + bytes([len(value)]) + value if value else b""


class Server:
    def __init__(self):
        self.app = web.Application(client_max_size=1 << 24)
        self.app.add_routes([
            web.post("/upload/{client}", self.upload),
            web.post("/lines", self.lines),
            web.post("/events", self.events),
            web.post("/{form}/tokentap.test.Texts/{method}", self.texts),
        ])

    async def stream(self, request, content_type, parts, **headers):
        response = web.StreamResponse(headers={"content-type": content_type, **headers})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        await response.write_eof()
        return response

    async def upload(self, request):
        """What it has got, by name and length."""
        got = []
        async for part in await request.multipart():
            got.append([part.name, len(await part.read())])
        return web.json_response(got)

    async def lines(self, request):
        await request.read()
        lines = [json.dumps(line, ensure_ascii=False) for line in LINES]
        told(request.path, "response", {"lines": lines})
        ends = itertools.chain(["\n", "\r\n", "\n\n"], itertools.repeat("\n"))
        body = "".join(line + end for line, end in zip(lines, ends)).encode().rstrip()
        return await self.stream(request, "application/x-ndjson", pieces(body, 41))

    async def events(self, request):
        await request.read()
        told(request.path, "response", {"events": [listed(*event) for event in EVENTS]})
        body = b"".join(message(*event) for event in EVENTS)
        return await self.stream(request, "application/vnd.amazon.eventstream", pieces(body, 67))

    async def texts(self, request):
        """Calls of gRPC-Web, answered in the form and the compression in which they were made."""
        text, body = request.match_info["form"] == "text", await request.read()
        [(flags, asked)] = frames(base64.b64decode(body) if text else body)
        words = (gzip.decompress(asked) if flags & 1 else asked)[2:].upper()
        match request.match_info["method"]:
            case "Shout":
                said, trailers = [words], ["grpc-status: 0"]
            case "Split":
                said, trailers = words.split(), ["grpc-status: 0", f"words: {len(words.split())}"]
            case _:
                said, trailers = [], ["grpc-status: 7", "grpc-message: not%20w%C3%B6rthy"]
        said = [string(word) for word in said]
        listed = [{"compressed": bool(flags & 1), "bytes": data.decode()} for data in said]
        told(request.path, "response", {"messages": [*listed, {"trailers": trailers}]})
        framed = [frame(flags, gzip.compress(data, mtime=0) if flags & 1 else data) for data in said]
        framed.append(frame(0x80, "".join(f"{line}\r\n" for line in trailers).encode()))
        if text:
            framed = [base64.b64encode(data) for data in framed]
        kind = "application/grpc-web-text+proto" if text else "application/grpc-web+proto"
        coding = {"grpc-encoding": "gzip"} if flags & 1 else {}
        if not said:
            # A client that has read of an error does not wait for what may follow: nothing does.
            return web.Response(body=b"".join(framed), headers={"content-type": kind, **coding})
        return await self.stream(request, kind, pieces(b"".join(framed), 7), **coding)


async def serve(cert):
    tls = None
    if cert:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(cert)
    runner = web.AppRunner(Server().app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    with contextlib.suppress(EOFError):
        await asyncio.to_thread(input)
    await runner.cleanup()


class Caller:
    def __init__(self, url, ca, length):
        self.url, self.ca = url, ca
        # What looks like the end of a part is in it.
        self.file = random.Random(1).randbytes(length) + b"\r\n--\r\n----"

    def form(self, client, filename, types):
        """Says what a form is made of: each library has a way of its own to write the names of files, and types
        of its own for what has none (fields, the file without a type)."""
        field, file = types
        parts = [{"name": name, "value": value} for name, value in FIELDS.items()]
        parts.append({"name": "file", "filename": filename, "content_type": "audio/wav", "length": len(self.file)})
        parts.append({"name": "notes", "filename": "notes", "length": len(NOTES)})
        for part in parts:
            kind = file if "filename" in part else field
            if kind:
                part.setdefault("content_type", kind)
        told(f"/upload/{client}", "request", {"parts": parts})

    def check(self, got):
        lengths = [[name, len(value.encode())] for name, value in FIELDS.items()]
        assert got == [*lengths, ["file", len(self.file)], ["notes", len(NOTES)]], got

    def files(self):
        return {"file": (FILENAME, self.file, "audio/wav"), "notes": ("notes", NOTES)}

    def requests(self):
        with requests.Session() as session:
            session.verify = self.ca
            self.form("requests", FILENAME.replace('"', "%22"), (None, None))
            response = session.post(f"{self.url}/upload/requests", data=FIELDS, files=self.files())
            self.check(response.json())
            with session.post(f"{self.url}/lines", json={"stream": True}, stream=True) as response:
                lines = [json.loads(line) for line in response.raw if line.strip()]
                assert lines == LINES, lines

    def httpx(self):
        tls = ssl.create_default_context(cafile=self.ca)
        with httpx.Client(verify=tls, base_url=self.url, trust_env=False) as client:
            self.form("httpx", FILENAME.replace('"', "%22"), (None, "application/octet-stream"))
            self.check(client.post("/upload/httpx", data=FIELDS, files=self.files()).json())
            events = EventStreamBuffer()
            with client.stream("POST", "/events", json={"stream": True}) as response:
                for piece in response.iter_raw():
                    events.add_data(piece)
            got = [({name: plain(value) for name, value in event.headers.items()}, event.payload.decode())
                   for event in events]
        want = [({name: plain(value) for name, (_, value) in headers.items()}, payload)
                for headers, payload in EVENTS]
        assert got == want, got

    async def aiohttp(self):
        async def generate():
            for piece in pieces(self.file, 1999):
                yield piece

        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=self.ca))
        async with aiohttp.ClientSession(self.url, connector=connector) as session:

            async def post(client, form):
                async with session.post(f"/upload/{client}", data=form) as response:
                    self.check(await response.json())

            text = "text/plain; charset=utf-8"
            for client, quote, filename in [
                ("aiohttp", True, urllib.parse.quote(FILENAME)),
                ("aiohttp-utf8", False, FILENAME.replace('"', '\\"')),
            ]:
                self.form(client, filename, (text, "application/octet-stream"))
                form = aiohttp.FormData(FIELDS, quote_fields=quote, default_to_multipart=True)
                form.add_field("file", self.file, filename=FILENAME, content_type="audio/wav")
                form.add_field("notes", NOTES, filename="notes")
                await post(client, form)
            self.form("aiohttp-chunked", urllib.parse.quote(FILENAME), (text, "application/octet-stream"))
            with aiohttp.MultipartWriter("form-data") as writer:
                for name, value in FIELDS.items():
                    writer.append(value).set_content_disposition("form-data", name=name)
                file = writer.append(generate(), {"content-type": "audio/wav"})
                file.set_content_disposition("form-data", name="file", filename=FILENAME)
                notes = writer.append(NOTES)
                notes.set_content_disposition("form-data", name="notes", filename="notes")
            await post("aiohttp-chunked", writer)


def main():
    opts = options()
    if opts.command == "serve":
        return asyncio.run(serve(opts.cert))
    caller = Caller(opts.url, opts.ca, opts.file)
    caller.requests()
    caller.httpx()
    asyncio.run(caller.aiohttp())


main()
