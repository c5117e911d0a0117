// Calls Chat Completions with OpenAI's SDK for Node. Run it where the SDK is installed; NODE_EXTRA_CA_CERTS
// names the authority to trust, as for every Node program. The command line is that of the Python clients.
import { createRequire } from "node:module";
import path from "node:path";
import readline from "node:readline";
import { parseArgs } from "node:util";

const { OpenAI, APIError } = createRequire(path.join(process.cwd(), "here.js"))("openai");

const { values } = parseArgs({
  options: {
    "base-url": { type: "string" },
    ca: { type: "string" },
    request: { type: "string", multiple: true },
    calls: { type: "string", default: "1" },
    "cancel-after": { type: "string" },
    wait: { type: "boolean", default: false },
  },
});
const cancelAfter = Number(values["cancel-after"] ?? 0);
const client = new OpenAI({ baseURL: values["base-url"] + "/v1", apiKey: "test-key", maxRetries: 0 });

if (values.wait) {
  await client.models.list();
  console.log(JSON.stringify({ ready: true }));
  const input = readline.createInterface({ input: process.stdin });
  await new Promise((resolve) => input.once("line", resolve));
  input.close();
}

function learn(answer, document) {
  answer.id ||= document.id;
  answer.model ||= document.model;
  answer.usage = document.usage ?? answer.usage;
  for (const choice of document.choices) {
    if (choice.finish_reason) answer.finish_reasons[choice.index] = choice.finish_reason;
    answer.bytes += Buffer.byteLength((choice.message ?? choice.delta).content ?? "");
  }
}

let call = 0;
for (let round = 0; round < Number(values.calls); round++) {
  for (const request of values.request) {
    const answer = {
      call: call++, status: null, id: null, model: null, finish_reasons: [], usage: null, events: 0, bytes: 0,
      error: null,
    };
    try {
      const result = await client.chat.completions.create(JSON.parse(request));
      answer.status = 200;
      if (Symbol.asyncIterator in result) {
        for await (const chunk of result) {
          learn(answer, chunk);
          if (++answer.events === cancelAfter) break;
        }
      } else {
        learn(answer, result);
      }
    } catch (error) {
      answer.status ??= error.status ?? null;
      answer.error = error instanceof APIError ? `${error.constructor.name}: ${error.code}` : String(error);
    }
    console.log(JSON.stringify(answer));
  }
}
