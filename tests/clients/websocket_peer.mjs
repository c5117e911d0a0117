// Either end of a WebSocket, with the library `ws`: over HTTP/1.1, or in a stream of Node's own HTTP/2 (RFC 8441).
// The command line and what it prints are those of websocket_peer.py.
import { createHash } from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";
import { createRequire } from "node:module";
import { once } from "node:events";
import { parseArgs } from "node:util";

// From the folder of the packages, which is the working directory.
const { WebSocket, WebSocketServer } = createRequire(`${process.cwd()}/`)("ws");

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: "string" },
    say: { type: "string" },
    cert: { type: "string" },
    ca: { type: "string" },
    compression: { type: "string" },
    http2: { type: "boolean", default: false },
  },
});
const perMessageDeflate = values.compression ? { threshold: 0 } : false;

function told(kind, data) {
  const sha256 = createHash("sha256").update(data).digest("hex");
  console.log(JSON.stringify({ kind, length: data.length, sha256 }));
}

function content(length) {
  let text = "";
  for (let at = 0; at < length; at += 8) text += `${String(at).padStart(7, "0")} `;
  return text.slice(0, length);
}

function send(socket, kind, text, count) {
  const size = Math.max(1, Math.ceil(text.length / Math.max(1, count)));
  const binary = kind === "binary";
  for (let at = 0; at < text.length || at === 0; at += size) {
    const piece = text.slice(at, at + size);
    socket.send(binary ? Buffer.from(piece) : piece, { binary, fin: at + size >= text.length });
  }
  told(kind, Buffer.from(text));
}

function answer(socket) {
  socket.on("message", (message) => {
    const { length } = message;
    send(socket, "text", `${length} ${content(Math.floor(length / 2))}`, 3);
    send(socket, "binary", content(length % 1000), 1);
  });
}

// `ws` makes no sockets for HTTP/2, but speaks over any stream.
function over(stream, server) {
  const socket = new WebSocket(null, undefined, { autoPong: true });
  socket._isServer = server;
  socket.setSocket(stream, Buffer.alloc(0), { allowSynchronousEvents: true, maxPayload: 0, skipUTF8Validation: false });
  return socket;
}

async function connect() {
  if (!values.http2) {
    const socket = new WebSocket(values.url, { ca: values.ca && fs.readFileSync(values.ca), perMessageDeflate });
    await once(socket, "open");
    return [socket, async () => {}];
  }
  const { origin, pathname } = new URL(values.url.replace(/^ws/, "http"));
  const session = http2.connect(origin, { ca: values.ca && fs.readFileSync(values.ca) });
  await once(session, "remoteSettings");
  const stream = session.request(
    { ":method": "CONNECT", ":protocol": "websocket", ":path": pathname, "sec-websocket-version": "13" },
    { endStream: false },
  );
  await once(stream, "response");
  return [over(stream, false), async () => session.close()];
}

async function call() {
  const [socket, end] = await connect();
  for (const [kind, length, count] of JSON.parse(values.say)) {
    let left = 2;
    const answered = new Promise((resolve) => {
      socket.on("message", function one() {
        if (--left > 0) return;
        socket.off("message", one);
        resolve();
      });
    });
    send(socket, kind, content(length), count);
    await answered;
  }
  socket.close();
  await once(socket, "close");
  await end();
}

async function serve() {
  const identity = values.cert && fs.readFileSync(values.cert);
  const options = { cert: identity, key: identity, settings: { enableConnectProtocol: true } };
  let server;
  if (values.http2) {
    server = identity ? http2.createSecureServer(options) : http2.createServer(options);
    server.on("stream", (stream, head) => {
      if (head[":protocol"] !== "websocket") return stream.respond({ ":status": 404 }, { endStream: true });
      stream.respond({ ":status": 200 });
      answer(over(stream, true));
    });
  } else {
    server = identity ? https.createServer(options) : http.createServer();
    new WebSocketServer({ server, perMessageDeflate }).on("connection", answer);
  }
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  console.log(JSON.stringify({ port: server.address().port }));
  process.stdin.resume();
  await once(process.stdin, "end");
  process.exit();
}

await (positionals[0] === "call" ? call() : serve());
