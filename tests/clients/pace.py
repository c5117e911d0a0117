"""What the Python clients share: their command line, their pace, and one line of JSON for each call."""

import argparse
import asyncio
import json
import sys


def options(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--base-url", required=True, help="scheme, host and port of the server")
    parser.add_argument("--ca", help="PEM file of the authority to trust")
    parser.add_argument("--api", choices=["openai", "anthropic"], default="openai")
    parser.add_argument("--request", action="append", required=True, type=json.loads, metavar="JSON",
                        help="body of a call; may be repeated")
    parser.add_argument("--calls", type=int, default=1, help="how often the bodies are gone through")
    parser.add_argument("--pad", type=int, default=0, metavar="BYTES",
                        help="makes the last message this long, different for each call")
    parser.add_argument("--cancel-after", type=int, metavar="EVENTS",
                        help="leaves a streamed answer after so many events")
    parser.add_argument("--async", dest="asynchronous", action="store_true", help="uses the asyncio client")
    parser.add_argument("--concurrency", type=int, default=1, help="calls in flight, for asyncio")
    parser.add_argument("--http2", action="store_true", help="speaks HTTP/2, in the clear without asking first")
    parser.add_argument("--before", type=int, default=0, metavar="CALLS", help="calls before it waits")
    parser.add_argument("--wait", action="store_true",
                        help="opens a connection, prints 'ready' and starts at a line on standard input")
    return parser.parse_args()


def content(number, size):
    """Text of exactly `size` bytes that says at every place which call and which place it is."""
    blocks = (f"{number:04}:{at:08} " for at in range(0, size + 14, 14))
    return "".join(blocks)[:size]


def bodies(opts):
    number = 0
    for _ in range(opts.calls):
        for request in opts.request:
            body = json.loads(json.dumps(request))
            if opts.pad:
                body["messages"][-1]["content"] = content(number, opts.pad)
            yield number, body
            number += 1


class Answer:
    """What a client got to know of one answer, from documents or streamed events of either API."""

    def __init__(self, number):
        self.call = number
        self.id = self.model = self.usage = self.error = self.status = None
        self.finish_reasons = {}
        self.events = 0
        self.text = []

    def request_id(self):
        """Another one for each call, and long enough to fill the tables of HTTP/2 soon."""
        return f"{self.call:06}" * 10

    def openai(self, document):
        self.id = self.id or document.get("id")
        self.model = self.model or document.get("model")
        self.usage = document.get("usage") or self.usage
        self.error = document.get("error") or self.error
        for choice in document.get("choices") or []:
            if choice.get("finish_reason"):
                self.finish_reasons[choice["index"]] = choice["finish_reason"]
            self.text.append((choice.get("message") or choice.get("delta") or {}).get("content") or "")

    def anthropic(self, document):
        message = document.get("message") or document
        self.id = self.id or message.get("id")
        self.model = self.model or message.get("model")
        self.error = document.get("error") or self.error
        reason = message.get("stop_reason") or (document.get("delta") or {}).get("stop_reason")
        if reason:
            self.finish_reasons[0] = reason
        for source in (message, document):
            told = {k: v for k, v in (source.get("usage") or {}).items() if v is not None}
            self.usage = {**(self.usage or {}), **told} or None
        self.text += [block.get("text") or "" for block in message.get("content") or []]
        self.text.append((document.get("delta") or {}).get("text") or "")

    def feed_line(self, line, api):
        """A line of an event stream, as clients without an SDK read it. True once it was an event."""
        if not line.startswith("data:") or line[5:].strip() == "[DONE]":
            return False
        getattr(self, api)(json.loads(line[5:]))
        self.events += 1
        return True

    def report(self):
        print(json.dumps({
            "call": self.call, "status": self.status, "id": self.id, "model": self.model,
            "finish_reasons": [self.finish_reasons[i] for i in sorted(self.finish_reasons)],
            "usage": self.usage, "events": self.events, "bytes": len("".join(self.text).encode()),
            "error": self.error if isinstance(self.error, (str, type(None))) else json.dumps(self.error),
        }), flush=True)


def pause(opts):
    """Blocks until the test says go."""
    if opts.wait:
        print(json.dumps({"ready": True}), flush=True)
        sys.stdin.readline()


def run(opts, warm, call):
    """Drives a synchronous client: `warm()` opens a connection, `call(body, answer)` makes a call."""
    if opts.wait:
        warm()
        for number in range(-opts.before, 0):
            call(opts.request[0], Answer(number))
    pause(opts)
    for number, body in bodies(opts):
        answer = Answer(number)
        try:
            call(body, answer)
        except Exception as error:
            answer.error = answer.error or f"{type(error).__name__}: {error}"
        answer.report()


async def run_async(opts, warm, call):
    """Drives an asyncio client the same way, with several calls in flight."""
    if opts.wait:
        await asyncio.gather(*(warm() for _ in range(opts.concurrency)))
        for number in range(-opts.before, 0):
            await call(opts.request[0], Answer(number))
        await asyncio.to_thread(pause, opts)
    room = asyncio.Semaphore(opts.concurrency)

    async def one(number, body):
        answer = Answer(number)
        async with room:
            try:
                await call(body, answer)
            except Exception as error:
                answer.error = answer.error or f"{type(error).__name__}: {error}"
        answer.report()

    await asyncio.gather(*(one(number, body) for number, body in bodies(opts)))


PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
HEADERS = {
    "openai": {"authorization": "Bearer test-key"},
    "anthropic": {"x-api-key": "test-key", "anthropic-version": "2023-06-01"},
}
