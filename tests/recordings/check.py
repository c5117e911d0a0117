"""Serves recorded HTTP interactions over TLS exactly as recorded, makes each call with httpx while tokentap observes the
caller, and checks every span against the recording itself. `cargo xtask recordings FOLDER` runs it.

The trace id of each request is its number, so that spans find their recordings. What a span must say is read from the whole
bodies, by code that shares nothing with the agent."""

import argparse
import base64
import gzip
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from urllib.parse import unquote, urlsplit

import httpx
import yaml

HOP = {"transfer-encoding", "content-length", "connection", "keep-alive", "alt-svc"}


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Also for the tags of Ruby."""


Loader.add_multi_constructor("!ruby", lambda loader, suffix, node: None)
Loader.add_constructor("!binary", lambda loader, node: base64.b64decode(loader.construct_scalar(node)))


def text_or_bytes(value):
    return value if isinstance(value, bytes) else str(value or "").encode()


def body_of(message):
    if isinstance(message.get("parsed_body"), (dict, list)):
        return json.dumps(message["parsed_body"]).encode()
    body = message.get("body", message.get("content"))
    if isinstance(body, dict):
        if "base64_string" in body:
            return base64.b64decode(body["base64_string"])
        return text_or_bytes(body.get("string"))
    return text_or_bytes(body)


def fields(headers):
    for name, values in (headers or {}).items():
        yield name, str(values[0] if isinstance(values, list) and values else values or "")


def load(folder):
    """Interactions as (file, method, host, target, request fields and body, status, response fields and body)."""
    for path in sorted(pathlib.Path(folder).rglob("*.y*ml")):
        whole = yaml.load(path.read_text(), Loader)
        for one in whole.get("interactions") or whole.get("http_interactions") or []:
            request, response = one.get("request"), one.get("response")
            if not isinstance(request, dict) or "uri" not in request:
                yield path.name, None
                continue
            parts = urlsplit(request["uri"])
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            status = response.get("status")
            status = status.get("code") if isinstance(status, dict) else response.get("status_code", status)
            body = body_of(response)
            kept = [(n, v) for n, v in fields(response.get("headers")) if n.lower() not in HOP]
            if body[:2] != b"\x1f\x8b":
                kept = [(n, v) for n, v in kept if n.lower() != "content-encoding"]
            asked = [
                (n, v)
                for n, v in fields(request.get("headers"))
                if n.lower() not in HOP | {"host", "accept-encoding", "content-encoding", "traceparent"}
            ]
            yield path.name, {
                "method": request["method"].upper(),
                "host": parts.netloc,
                "target": target,
                "asked": asked,
                "request": body_of(request),
                "status": int(status),
                "fields": kept,
                "response": body,
            }


# What a recording says.


def documents(body):
    if body[:2] == b"\x1f\x8b":
        body = gzip.decompress(body)
    events = aws_events(body)
    if events is not None:
        return events
    text = body.decode(errors="replace").lstrip("\ufeff")
    try:
        whole = json.loads(text)
        return whole if isinstance(whole, list) else [whole]
    except ValueError:
        pass
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line.removeprefix("data:")))
        except ValueError:
            continue
    return [one for one in found if isinstance(one, dict)]


def aws_events(body):
    """The payloads of an Amazon event stream, those of InvokeModel unwrapped."""
    if len(body) < 16 or int.from_bytes(body[:4], "big") > len(body) or body[:1] not in (b"\x00", b"\x01"):
        return None
    found, at = [], 0
    while at + 16 <= len(body):
        total, headers = (int.from_bytes(body[at + n : at + n + 4], "big") for n in (0, 4))
        payload = json.loads(body[at + 12 + headers : at + total - 4] or b"{}")
        found.append(json.loads(base64.b64decode(payload["bytes"])) if "bytes" in payload else payload)
        at += total
    return found


def pick(docs, *paths, last=True):
    for doc in reversed(docs) if last else docs:
        for path in paths:
            value = doc
            for key in path.split("."):
                value = value.get(key) if isinstance(value, dict) else None
            if value not in (None, "", {}):
                return value
    return None


def add(*numbers):
    known = [int(float(n)) for n in numbers if n is not None]
    return sum(known) if known else None


def chat(docs, facts):
    facts["gen_ai.response.id"] = pick(docs, "id", last=False)
    facts["gen_ai.response.model"] = pick(docs, "model", last=False)
    usage = pick(docs, "usage", "x_groq.usage") or {}
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    total = usage.get("total_tokens")
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    if None not in (prompt, completion, total) and reasoning and prompt + completion + reasoning == total:
        completion += reasoning
    facts["gen_ai.usage.input_tokens"], facts["gen_ai.usage.output_tokens"] = prompt, completion
    reasons = {}
    for doc in docs:
        for choice in doc.get("choices") or []:
            reasons[choice.get("index", 0)] = choice.get("finish_reason") or reasons.get(choice.get("index", 0))
    if reasons and all(reasons.values()):
        facts["gen_ai.response.finish_reasons"] = [reasons[key] for key in sorted(reasons)]


def anthropic(docs, facts):
    facts["gen_ai.response.id"] = pick(docs, "message.id", "id", last=False)
    facts["gen_ai.response.model"] = pick(docs, "message.model", "model", last=False)
    usage = {}
    for doc in docs:
        for part in ((doc.get("message") or {}).get("usage"), doc.get("usage")):
            usage |= {key: value for key, value in (part or {}).items() if value is not None}
    metrics = pick(docs, "amazon-bedrock-invocationMetrics") or {}
    cached = [usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")]
    facts["gen_ai.usage.input_tokens"] = add(metrics.get("inputTokenCount", usage.get("input_tokens")), *cached)
    facts["gen_ai.usage.output_tokens"] = metrics.get("outputTokenCount", usage.get("output_tokens"))
    reason = pick(docs, "delta.stop_reason", "stop_reason", "message.stop_reason")
    facts["gen_ai.response.finish_reasons"] = [reason] if reason else None


def responses(docs, facts):
    facts["gen_ai.response.id"] = pick(docs, "response.id", "id")
    facts["gen_ai.response.model"] = pick(docs, "response.model", "model")
    usage = pick(docs, "response.usage", "usage") or {}
    facts["gen_ai.usage.input_tokens"] = usage.get("input_tokens")
    facts["gen_ai.usage.output_tokens"] = usage.get("output_tokens")


def gemini(docs, facts):
    facts["gen_ai.response.id"] = pick(docs, "responseId")
    facts["gen_ai.response.model"] = pick(docs, "modelVersion")
    usage = pick(docs, "usageMetadata") or {}
    facts["gen_ai.usage.input_tokens"] = usage.get("promptTokenCount")
    facts["gen_ai.usage.output_tokens"] = add(usage.get("candidatesTokenCount"), usage.get("thoughtsTokenCount"))


def converse(docs, facts):
    usage = pick(docs, "usage") or {}
    cached = [usage.get("cacheReadInputTokens"), usage.get("cacheWriteInputTokens")]
    facts["gen_ai.usage.input_tokens"] = add(usage.get("inputTokens"), *cached)
    facts["gen_ai.usage.output_tokens"] = usage.get("outputTokens")
    reason = pick(docs, "stopReason")
    facts["gen_ai.response.finish_reasons"] = [reason] if reason else None


def cohere(docs, facts):
    facts["gen_ai.response.id"] = pick(docs, "id", "response.response_id", "response_id", last=False)
    usage = pick(docs, "delta.usage", "usage", "response.meta", "meta") or {}
    billed = usage.get("billed_units") or usage.get("tokens") or {}
    facts["gen_ai.usage.input_tokens"] = add(billed.get("input_tokens"))
    facts["gen_ai.usage.output_tokens"] = add(billed.get("output_tokens"))


def ollama(docs, facts):
    facts["gen_ai.response.model"] = pick(docs, "model")
    facts["gen_ai.usage.input_tokens"] = pick(docs, "prompt_eval_count")
    facts["gen_ai.usage.output_tokens"] = pick(docs, "eval_count")


def embeddings(docs, facts):
    facts["gen_ai.response.model"] = pick(docs, "model")
    facts["gen_ai.usage.input_tokens"] = pick(docs, "usage.prompt_tokens", "usage.total_tokens")


def nothing(docs, facts):
    facts["gen_ai.response.id"] = pick(docs, "id")


def rerank(docs, facts):
    facts["gen_ai.usage.input_tokens"] = pick(docs, "usage.prompt_tokens", "usage.total_tokens")


def runs(docs, facts):
    mine = [doc for doc in docs if doc.get("object") == "thread.run"]
    facts["gen_ai.response.id"] = pick(mine, "id")
    facts["gen_ai.usage.input_tokens"] = pick(mine, "usage.prompt_tokens")
    facts["gen_ai.usage.output_tokens"] = pick(mine, "usage.completion_tokens")


FORMATS = [
    (r"/chat/completions$", "chat", chat),
    (r"/fim/completions$|/completions$", "text_completion", chat),
    (r"/responses$", "chat", responses),
    (r"/embeddings$", "embeddings", embeddings),
    (r"/moderations$", "moderation", nothing),
    (r"/images/(generations|edits|variations)$", "generate_content", lambda docs, facts: None),
    (r"/audio/(transcriptions|translations)$", "transcription", lambda docs, facts: None),
    (r"/v1/messages$|:rawPredict$|:streamRawPredict$", "chat", anthropic),
    (r":(streamG|g)enerateContent$", "generate_content", gemini),
    (r"/model/.+/converse(-stream)?$", "chat", converse),
    (r"/model/.*claude.*/invoke(-with-response-stream)?$", None, anthropic),
    (r"/v2/chat$", "chat", cohere),
    (r"/api/chat$", "chat", ollama),
    (r"/api/generate$", "text_completion", ollama),
    (r"/rerank$", "rerank", rerank),
    (r"/threads/[^/]+/runs$", "invoke_agent", runs),
]


def expected(one):
    """What the span must say; None where this script does not know the format."""
    path = urlsplit(one["target"]).path.rstrip("/")
    for pattern, operation, read in FORMATS:
        if one["method"] != "POST" or not re.search(pattern, path):
            continue
        facts = {"gen_ai.operation.name": operation, "server.address": one["host"].split(":")[0]}
        try:
            asked = json.loads(one["request"])
        except ValueError:
            asked = {}
        named = re.search(r"/deployments/([^/]+)/|/models/([^/:]+):|/model/(.+)/(?:converse|invoke)", path)
        model = next((unquote(part) for part in named.groups() if part), None) if named else None
        facts["gen_ai.request.model"] = model or (asked.get("model") if isinstance(asked, dict) else None)
        facts["http.response.status_code"] = one["status"]
        if one["status"] < 400:
            read([doc for doc in documents(one["response"]) if isinstance(doc, dict)], facts)
        return {key: value for key, value in facts.items() if value is not None}
    return None


# The server, the caller and the agent.


class Server(threading.Thread):
    """Answers each request with the recording whose number its trace id is."""

    def __init__(self, recordings, context):
        super().__init__(daemon=True)
        self.recordings, self.context = recordings, context
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def run(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with self.context.wrap_socket(connection, server_side=True) as peer, peer.makefile("rb") as stream:
            while (start := stream.readline()) not in (b"", b"\r\n"):
                head = {}
                while (line := stream.readline().strip()) != b"":
                    name, _, value = line.partition(b":")
                    head[name.lower()] = value.strip()
                stream.read(int(head.get(b"content-length", 0)))
                number = int(head[b"traceparent"].split(b"-")[1], 16) - 1
                self.answer(peer, self.recordings[number])

    @staticmethod
    def answer(peer, one):
        streamed = any(n.lower() == "content-type" and "json" not in v for n, v in one["fields"])
        lines = [f"HTTP/1.1 {one['status']} Recorded"] + [f"{n}: {v}" for n, v in one["fields"]]
        lines.append("transfer-encoding: chunked" if streamed else f"content-length: {len(one['response'])}")
        peer.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace"))
        if not streamed:
            return peer.sendall(one["response"])
        # An event, or else a piece of it, is a chunk.
        pieces = re.split(rb"(?<=\n\n)|(?<=\r\n\r\n)", one["response"])
        for piece in filter(None, pieces):
            for at in range(0, len(piece), 4096):
                part = piece[at : at + 4096]
                peer.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        peer.sendall(b"0\r\n\r\n")


def call(recordings, port):
    """In a process of its own: waits for a line, then makes every call."""
    print("ready", flush=True)
    sys.stdin.readline()
    with httpx.Client(verify=False, timeout=30) as client:
        for number, one in enumerate(recordings, 1):
            headers = dict(one["asked"]) | {
                "host": one["host"],
                "traceparent": f"00-{number:032x}-{1:016x}-01",
            }
            url = f"https://127.0.0.1:{port}{one['target']}"
            try:
                client.request(one["method"], url, headers=headers, content=one["request"])
            except httpx.HTTPError as error:
                print(f"{number}: {error!r}", file=sys.stderr)


def observe(agent, recordings, folder):
    """Spans by the number of their recording."""
    with tempfile.TemporaryDirectory() as home:
        pem = f"{home}/server.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", pem, "-out", f"{home}/cert.pem"]
            + ["-days", "2", "-subj", "/CN=recordings"],
            check=True,
            capture_output=True,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{home}/cert.pem", pem)
        server = Server(recordings, context)
        server.start()
        caller = [sys.executable, __file__, str(folder), "--call", str(server.port)]
        with subprocess.Popen(caller, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            client.stdout.readline()
            command = [agent, "run", "--pid", str(client.pid), "--console=json"]
            log = open(f"{home}/log", "w+")
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as observer:
                spans = {}

                def read():
                    for line in observer.stdout:
                        span = json.loads(line)
                        spans.setdefault(int(span["trace_id"], 16), []).append(span)

                reader = threading.Thread(target=read)
                reader.start()
                deadline = time.monotonic() + 30
                while "ready" not in open(f"{home}/log").read():
                    if time.monotonic() > deadline or observer.poll() is not None:
                        sys.exit("the agent did not become ready:\n" + open(f"{home}/log").read())
                    time.sleep(0.05)
                client.stdin.write("go\n")
                client.stdin.flush()
                client.wait()
                observer.send_signal(signal.SIGTERM)
                observer.wait()
                reader.join()
        return spans


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--call", type=int, help="make the calls, to a server at this port")
    parser.add_argument("--json", action="store_true", help="print one object for each recording")
    options = parser.parse_args()
    all_of_them = list(load(options.folder))
    recordings = [one for _, one in all_of_them if one]
    if options.call:
        return call(recordings, options.call)
    names = [name for name, one in all_of_them if one]
    spans = observe(os.environ["TOKENTAP_BIN"], recordings, options.folder)
    right = wrong = unknown = 0
    for number, (name, one) in enumerate(zip(names, recordings), 1):
        found, wanted = spans.get(number, []), expected(one)
        problems = []
        if wanted is None:
            unknown += 1
        elif len(found) != 1:
            problems.append(f"{len(found)} spans")
        else:
            attributes = found[0]["attributes"]
            problems += [
                f"{key} is {attributes.get(key)!r}, not {value!r}"
                for key, value in wanted.items()
                if attributes.get(key) != value
            ]
            problems += [
                f"{key} is {value!r}, and the recording has none"
                for key, value in attributes.items()
                if key in ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens") and key not in wanted
            ]
        right += wanted is not None and not problems
        wrong += bool(problems)
        if options.json:
            print(json.dumps({"file": name, "request": f"{one['method']} {one['host']}{one['target']}",
                              "spans": found, "problems": problems, "known": wanted is not None}))
        elif problems:
            print(f"{name}\n  {one['method']} {one['host']}{one['target']}\n  " + "\n  ".join(problems))
    others = len(all_of_them) - len(recordings)
    print(f"{right} right, {wrong} wrong, {unknown} of formats that only the agent reads, {others} not HTTP",
          file=sys.stderr if options.json else sys.stdout)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
