// Calls the gateway with HTTP clients of Node.js and with gRPC's dynamic loader for proto/.
//
// Prints a line for each case, and exits with 1 if one of them failed.
import { createRequire } from "node:module";
import { Agent as HttpAgent } from "node:http";
import { Readable } from "node:stream";
import { setTimeout as after } from "node:timers/promises";
import path from "node:path";
import url from "node:url";

const [modules, argument] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const load = (name) => import(url.pathToFileURL(require.resolve(name)));
const given = JSON.parse(argument);
const proto = path.join(path.dirname(url.fileURLToPath(import.meta.url)), "../../../proto");

const LARGE = Buffer.alloc(5_000_000, "0123456789");
const SMALL = LARGE.subarray(0, 100_000);
const DEADLINE = 30_000;
let failed = false;

async function report(client, name, run) {
  const begin = performance.now();
  let outcome = "ok";
  try {
    const late = after(2 * DEADLINE, undefined, { ref: false }).then(() => {
      throw new Error("does not end");
    });
    await Promise.race([run(), late]);
  } catch (error) {
    failed = true;
    outcome = `FAILED: ${JSON.stringify(`${error.code ?? ""} ${error.message}`)}`;
  }
  console.log(`${client} ${name} ${Math.round(performance.now() - begin)} ms: ${outcome}`);
}

function equal(got, wanted) {
  const [left, right] = [JSON.stringify(got), JSON.stringify(wanted)];
  if (left !== right) throw new Error(`${left} is not ${right}`);
}

// A body in parts, whose length the client does not know.
function pieces(content) {
  const parts = [];
  for (let begin = 0; begin < content.length; begin += 10_000) {
    parts.push(content.subarray(begin, begin + 10_000));
  }
  return Readable.from(parts);
}

// `send(method, uri, headers, body)` returns { status, headers, body }.
async function httpCases(client, send, skipped = []) {
  const good = { authorization: `Bearer ${given.token}` };
  const expired = { authorization: `Bearer ${given.expired}` };
  const echo = `${given.base}/echo`;
  const expect = { expect: "100-continue" };
  const early = (uri, headers, wanted) => async () => {
    for (let i = 0; i < given.repeats; i++) {
      equal((await send("PUT", uri, headers, LARGE)).status, wanted);
    }
  };
  const uploaded = async (headers, body) => {
    const got = await send("PUT", echo, { ...good, ...headers }, body);
    equal(got.status, 200);
    equal(JSON.parse(got.body).bytes, LARGE.length);
  };
  const kept = (name, body) => async () => {
    const own = given.keepalive[`${client} ${name}`];
    for (let i = 0; i < 5; i++) {
      equal((await send("PUT", `${own}/echo`, good, body())).status, 200);
      equal((await send("GET", `${own}/gzip`, good)).status, 200);
    }
  };
  const cases = {
    "early-expired": early(echo, expired, 401),
    "early-denied": early(given.denied, good, 403),
    chunked: () => uploaded({}, pieces(LARGE)),
    gzip: async () => {
      const got = await send("GET", `${given.base}/gzip`, { ...good, "accept-encoding": "gzip" });
      equal([got.status, got.body.length], [200, 100_000]);
    },
    expect: () => uploaded(expect, LARGE),
    "expect-expired": async () => {
      equal((await send("PUT", echo, { ...expired, ...expect }, LARGE)).status, 401);
    },
    range: async () => {
      const got = await send("GET", `${given.base}/range`, { ...good, range: "bytes=10-19" });
      const part = [got.status, got.headers["content-range"], got.body.toString()];
      equal(part, [206, "bytes 10-19/26", "klmnopqrst"]);
    },
    multipart: async () => {
      const data = new FormData();
      data.append("file", new Blob([SMALL]), "a.bin");
      const encoded = new Response(data);
      const body = Buffer.from(await encoded.arrayBuffer());
      const headers = { ...good, "content-type": encoded.headers.get("content-type") };
      const got = await send("POST", echo, headers, body);
      equal(got.status, 200);
      const { bytes } = JSON.parse(got.body);
      equal(bytes > SMALL.length && bytes < SMALL.length + 1000, true);
    },
    "keep-alive": kept("keep-alive", () => SMALL),
    "keep-alive-chunked": kept("keep-alive-chunked", () => pieces(SMALL)),
  };
  for (const [name, run] of Object.entries(cases)) {
    if (!skipped.includes(name)) await report(client, name, run);
  }
}

const agent = new HttpAgent({ keepAlive: true, maxSockets: 1 });

async function axiosCases() {
  const { default: axios } = await load("axios");
  await httpCases("axios", async (method, uri, headers, data) => {
    const got = await axios.request({
      method, url: uri, headers, data, httpAgent: agent, timeout: DEADLINE,
      responseType: "arraybuffer", validateStatus: () => true, maxRedirects: 0,
      maxBodyLength: Infinity,
    });
    return { status: got.status, headers: got.headers, body: got.data };
  });
}

async function gotCases() {
  const { got } = await load("got");
  await httpCases("got", async (method, uri, headers, body) => {
    const answer = await got(uri, {
      method, headers, body, agent: { http: agent }, timeout: { request: DEADLINE },
      responseType: "buffer", throwHttpErrors: false, retry: { limit: 0 },
    });
    return { status: answer.statusCode, headers: answer.headers, body: answer.body };
  });
}

async function undiciCases() {
  const { Agent, fetch } = require("undici");
  const dispatcher = new Agent({ connections: 1, headersTimeout: DEADLINE });
  const send = async (method, uri, headers, body) => {
    const got = await fetch(uri, { method, headers, body, dispatcher, duplex: "half" });
    const content = Buffer.from(await got.arrayBuffer());
    return { status: got.status, headers: Object.fromEntries(got.headers), body: content };
  };
  // undici refuses to send `Expect`.
  await httpCases("undici", send, ["expect", "expect-expired"]);
}

async function generated() {
  const grpc = require("@grpc/grpc-js");
  const loader = require("@grpc/proto-loader");
  const protobuf = require("protobufjs");
  const common = path.dirname(require.resolve("google-proto-files/package.json"));
  const options = { keepCase: true, includeDirs: [proto] };
  const files = ["tenantgateway/v1/tenant.proto", "tenantgateway/v1/token.proto"];
  const { v1 } = grpc.loadPackageDefinition(loader.loadSync(files, options)).tenantgateway;
  const rpc = protobuf.loadSync(
    ["status", "error_details"].map((file) => path.join(common, `google/rpc/${file}.proto`)),
  );
  const credentials = grpc.credentials.createInsecure();
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${given.token}`);
  const deadline = { deadline: Date.now() + DEADLINE };
  const tenants = (more) => new v1.TenantService(given.grpc, credentials, more);
  const get = (client, name) =>
    new Promise((done, fail) => {
      const answered = (error, answer) => (error ? fail(error) : done(answer.tenant));
      client.GetTenant({ name }, metadata, deadline, answered);
    });
  const named = async (client) => equal((await get(client, given.tenant)).name, given.tenant);
  await report("grpc-js", "unary", () => named(tenants({})));
  const gzip = { "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip };
  await report("grpc-js", "gzip", () => named(tenants(gzip)));
  await report("grpc-js", "watch", async () => {
    const tokens = new v1.TokenService(given.grpc, credentials);
    const stream = tokens.WatchSystemTicket({ tenant: given.tenant }, metadata, deadline);
    const end = new Promise((done) => stream.on("error", (error) => done(error.code)));
    const first = await new Promise((done) => stream.once("data", done));
    equal(first.ticket.value.length > 0, true);
    stream.cancel();
    equal(await end, grpc.status.CANCELLED);
  });
  await report("grpc-js", "error-details", async () => {
    const error = await get(tenants({}), "nonsense").catch((error) => error);
    equal(error.code, grpc.status.INVALID_ARGUMENT);
    const [bytes] = error.metadata.get("grpc-status-details-bin");
    const said = {};
    for (const { type_url, value } of rpc.lookupType("google.rpc.Status").decode(bytes).details) {
      const name = type_url.split("/")[1];
      said[name] = rpc.lookupType(name).decode(value);
    }
    const info = said["google.rpc.ErrorInfo"];
    equal([info.domain, info.reason], ["tenantgateway", "INVALID_ARGUMENT"]);
    equal(said["google.rpc.BadRequest"].fieldViolations.map((v) => v.field), ["name"]);
  });
}

await axiosCases();
await gotCases();
await undiciCases();
await generated();
process.exit(failed ? 1 : 0);
