"""Calls whose answers end with their connection, on blocking sockets with TLS. Arguments: port, authority, models."""

import json
import socket
import ssl
import sys

port, authority, *models = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
print("ready", flush=True)
sys.stdin.readline()
kept = []
for model in models:
    connection = context.wrap_socket(
        socket.create_connection(("127.0.0.1", int(port))), server_hostname="127.0.0.1"
    )
    body = json.dumps({"messages": [], "model": model}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    # Python takes every end for one in good order.
    while connection.recv(1000):
        pass
    if "cut" in model:
        connection.close()
    else:
        kept.append(connection)  # That it is closed is not what ends the answer.
print("done", flush=True)
sys.stdin.read()
