// Calls Chat Completions with Node's own HTTP/2, all calls over one connection, one after the other. The command
// line is that of the Python clients.
import fs from "node:fs";
import http2 from "node:http2";
import readline from "node:readline";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    "base-url": { type: "string" },
    ca: { type: "string" },
    request: { type: "string", multiple: true },
    calls: { type: "string", default: "1" },
    "cancel-after": { type: "string" },
    before: { type: "string", default: "0" },
    wait: { type: "boolean", default: false },
  },
});
const cancelAfter = Number(values["cancel-after"] ?? 0);
const session = http2.connect(values["base-url"], { ca: fs.readFileSync(values.ca) });

function exchange(head, body, answer) {
  return new Promise((resolve) => {
    const stream = session.request(head);
    let text = "";
    stream.setEncoding("utf8");
    stream.on("response", (fields) => (answer.status = fields[":status"]));
    stream.on("data", (piece) => {
      const lines = (text + piece).split("\n");
      text = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:") || line.endsWith("[DONE]")) continue;
        if (++answer.events === cancelAfter) stream.close(http2.constants.NGHTTP2_CANCEL);
      }
    });
    stream.on("error", (error) => (answer.error = String(error)));
    stream.on("close", resolve);
    stream.end(body);
  });
}

async function call(number, body) {
  const answer = { call: number, status: null, events: 0, error: null };
  const head = {
    ":method": "POST",
    ":path": "/v1/chat/completions",
    "content-type": "application/json",
    authorization: "Bearer test-key",
    "x-request-id": String(number).padStart(6, "0").repeat(10),
  };
  await exchange(head, body, answer);
  return answer;
}

if (values.wait) {
  await exchange({ ":path": "/v1/models" }, undefined, { events: 0 });
  for (let number = -Number(values.before); number < 0; number++) await call(number, values.request[0]);
  console.log(JSON.stringify({ ready: true }));
  const input = readline.createInterface({ input: process.stdin });
  await new Promise((resolve) => input.once("line", resolve));
  input.close();
}

let number = 0;
for (let round = 0; round < Number(values.calls); round++) {
  for (const request of values.request) console.log(JSON.stringify(await call(number++, request)));
}
session.close();
