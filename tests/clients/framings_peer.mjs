// Calls of gRPC-Web with libraries that nobody here wrote: Connect's in the binary form, Google's own in text.
// It prints a line of JSON for every body that it sends.
import fs from "node:fs";
import { createRequire } from "node:module";
import { parseArgs } from "node:util";

// From the folder of the packages, which is the working directory.
const load = createRequire(`${process.cwd()}/`);
const { create, fromBinary, toBinary } = load("@bufbuild/protobuf");
const { StringValueSchema } = load("@bufbuild/protobuf/wkt");
const { compressionGzip, createGrpcWebTransport } = load("@connectrpc/connect-node");
const grpcWeb = load("grpc-web");
globalThis.XMLHttpRequest = load("xhr2").XMLHttpRequest;

const { values } = parseArgs({ options: { url: { type: "string" }, ca: { type: "string" } } });
const service = "tokentap.test.Texts";
// Method, what is said, the answers, and the status.
const calls = [
  ["Shout", "hello", ["HELLO"], 0],
  ["Split", "server sends größe", ["SERVER", "SENDS", "GRößE"], 0],
  ["Refuse", "me", [], 7],
];

function same(got, want) {
  const [is, wanted] = [JSON.stringify(got), JSON.stringify(want)];
  if (is !== wanted) throw new Error(`${is}, not ${wanted}`);
}

function told(form, method, message, compressed) {
  const bytes = new TextDecoder().decode(toBinary(StringValueSchema, message));
  const body = { messages: [{ compressed, bytes }] };
  console.log(JSON.stringify({ path: `/${form}/${service}/${method}`, side: "request", body }));
}

async function binary(form, sendCompression) {
  const transport = createGrpcWebTransport({
    baseUrl: `${values.url}/${form}`,
    httpVersion: "1.1",
    nodeOptions: values.ca ? { ca: fs.readFileSync(values.ca) } : {},
    sendCompression,
    compressMinBytes: 1,
  });
  for (const [name, text, answers, status] of calls) {
    const message = create(StringValueSchema, { value: text });
    const method = {
      kind: "rpc",
      name,
      methodKind: "server_streaming",
      parent: { typeName: service },
      input: StringValueSchema,
      output: StringValueSchema,
      idempotency: 0,
    };
    told(form, name, message, sendCompression !== null);
    const [got, ended] = [[], { status: 0 }];
    try {
      const input = (async function* () {
        yield message;
      })();
      const response = await transport.stream(method, undefined, undefined, undefined, input);
      for await (const answer of response.message) got.push(answer.value);
    } catch (error) {
      if (error.code === undefined) throw error;
      ended.status = error.code;
    }
    same([got, ended.status], [answers, status]);
  }
}

function text() {
  const client = new grpcWeb.GrpcWebClientBase({ format: "text" });
  const encode = (message) => toBinary(StringValueSchema, message);
  const decode = (bytes) => fromBinary(StringValueSchema, bytes);
  const one = ([name, said, answers, status]) =>
    new Promise((resolve, reject) => {
      const message = create(StringValueSchema, { value: said });
      const method = new grpcWeb.MethodDescriptor(
        `/${service}/${name}`, grpcWeb.MethodType.SERVER_STREAMING, Object, Object, encode, decode);
      told("text", name, message, false);
      const [got, ended] = [[], { status: 0 }];
      const stream = client.serverStreaming(`${values.url}/text/${service}/${name}`, message, {}, method);
      stream.on("data", (answer) => got.push(answer.value));
      const end = () => {
        try {
          resolve(same([got, ended.status], [answers, status]));
        } catch (error) {
          reject(error);
        }
      };
      stream.on("error", (error) => {
        ended.status = error.code;
        end();
      });
      stream.on("end", end);
    });
  return calls.reduce((before, call) => before.then(() => one(call)), Promise.resolve());
}

await binary("binary", null);
await binary("compressed", compressionGzip);
await text();
