"""gRPC's own library on either side, in the clear: `serve` answers with what it gets, `call` makes the calls that
it is told to make over one connection, one after the other, and prints a line of JSON for each."""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

SERVICE = "tokentap.test.Texts"
GZIP = grpc.Compression.Gzip


def shout(request, context):
    """One for one; in gzip if asked in that."""
    if dict(context.invocation_metadata()).get("answer") == "gzip":
        context.set_compression(GZIP)
    return request.upper()


def split(request, context):
    """Each word, and an error in the end if the last one says so."""
    context.set_trailing_metadata((("words", str(len(request.split()))),))
    for word in request.split():
        if word == b"fail":
            context.abort(grpc.StatusCode.OUT_OF_RANGE, "no more wörds")
        yield word


def join(requests, context):
    return b" ".join(requests)


def echo(requests, context):
    for request in requests:
        yield request.upper()


def refuse(request, context):
    context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")


def serve():
    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {
        "Shout": grpc.unary_unary_rpc_method_handler(shout),
        "Split": grpc.unary_stream_rpc_method_handler(split),
        "Join": grpc.stream_unary_rpc_method_handler(join),
        "Echo": grpc.stream_stream_rpc_method_handler(echo),
        "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"port": port}), flush=True)
    server.wait_for_termination()


def call(channel, method, messages, gzip):
    messages = [message.encode() for message in messages]
    options = {"compression": GZIP, "metadata": (("answer", "gzip"),)} if gzip else {}
    path = f"/{SERVICE}/{method}"
    replies, code = [], grpc.StatusCode.OK
    try:
        if method == "Split":
            replies += channel.unary_stream(path)(messages[0], **options)
        elif method == "Join":
            replies.append(channel.stream_unary(path)(iter(messages), **options))
        elif method == "Echo":
            replies += channel.stream_stream(path)(iter(messages), **options)
        else:
            replies.append(channel.unary_unary(path)(messages[0], **options))
    except grpc.RpcError as error:
        code = error.code()
    return {"replies": len(replies), "code": code.value[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["serve", "call"])
    parser.add_argument("--to", help="host and port of the server")
    parser.add_argument("--calls", type=json.loads, help="lists of method, messages, and whether in gzip")
    parser.add_argument("--before", type=int, default=0, help="how often the calls are made before it waits")
    opts = parser.parse_args()
    if opts.what == "serve":
        return serve()
    with grpc.insecure_channel(opts.to) as channel:
        for _ in range(opts.before):
            for method, messages, gzip in opts.calls:
                call(channel, method, messages, gzip)
        print(json.dumps({"ready": True}), flush=True)
        sys.stdin.readline()
        for method, messages, gzip in opts.calls:
            print(json.dumps(call(channel, method, messages, gzip)), flush=True)


main()
