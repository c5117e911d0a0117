"""An OTLP receiver with Python's own protobuf and gRPC: prints its ports, writes what it gets as JSON lines."""

import argparse
import base64
import gzip
import json
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--grpc-port", type=int, default=0)
parser.add_argument("--http-port", type=int, default=0)
parser.add_argument("--out", required=True, help="file of JSON lines")
opts = parser.parse_args()
out = open(opts.out, "a")
lock = threading.Lock()


def write(request):
    document = MessageToDict(request, use_integers_for_enums=True)
    for group in document.get("resourceSpans", []):
        for scope in group.get("scopeSpans", []):
            for span in scope.get("spans", []):
                for key in ("traceId", "spanId", "parentSpanId"):
                    # OTLP's JSON has ids in hex where protobuf's has base64.
                    if key in span:
                        span[key] = base64.b64decode(span[key]).hex()
    with lock:
        out.write(json.dumps(document) + "\n")
        out.flush()


class Traces(trace_grpc.TraceServiceServicer):
    def Export(self, request, context):
        write(request)
        return trace.ExportTraceServiceResponse()


class Metrics(metrics_grpc.MetricsServiceServicer):
    def Export(self, request, context):
        write(request)
        return metrics.ExportMetricsServiceResponse()


REQUESTS = {"/v1/traces": trace.ExportTraceServiceRequest, "/v1/metrics": metrics.ExportMetricsServiceRequest}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        status = 200
        if self.path not in REQUESTS:
            status = 404
        elif self.headers.get("content-type") != "application/x-protobuf":
            status = 415
        else:
            try:
                request = REQUESTS[self.path]()
                request.ParseFromString(body)
                write(request)
            except DecodeError:
                status = 400
        answer = trace.ExportTraceServiceResponse().SerializeToString()
        self.send_response(status)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format, *args):
        print(format % args, file=sys.stderr)


server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), compression=grpc.Compression.NoCompression)
trace_grpc.add_TraceServiceServicer_to_server(Traces(), server)
metrics_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)
grpc_port = server.add_insecure_port(f"127.0.0.1:{opts.grpc_port}")
http = ThreadingHTTPServer(("127.0.0.1", opts.http_port), Handler)
server.start()
print(json.dumps({"grpc": grpc_port, "http": http.server_port}), flush=True)
http.serve_forever()
