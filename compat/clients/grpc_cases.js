// The interoperability client on @grpc/grpc-js: grpc_cases.js NODE_MODULES PROTO ADDRESS:PORT
const { createRequire } = require("module");
const assert = require("assert").strict;
const [modules, proto, address] = process.argv.slice(2);
const from = createRequire(modules + "/");
const grpc = from("@grpc/grpc-js");
const definition = from("@grpc/proto-loader").loadSync(proto, { keepCase: true, defaults: true });
const { testing } = grpc.loadPackageDefinition(definition).grpc;
const options = { "grpc.enable_http_proxy": 0 };
const stub = new testing.TestService(address, grpc.credentials.createInsecure(), options);
const gzip = new testing.TestService(address, grpc.credentials.createInsecure(), { ...options, "grpc.default_compression_algorithm": 2 });
const absent = new testing.UnimplementedService(address, grpc.credentials.createInsecure(), options);
const INITIAL = "x-grpc-test-echo-initial", TRAILING = "x-grpc-test-echo-trailing-bin";
const SENT = [27182, 8, 1828, 45904], ANSWERED = [31415, 9, 2653, 58979];
const LIMIT_MS = 30_000;

const payload = (size) => ({ type: 0, body: Buffer.alloc(size) });
const large = { response_size: 314159, payload: payload(271828) };
const output = (size, sent, more = {}) => ({ response_parameters: [{ size, ...more }], payload: payload(sent) });
const size = (answer) => answer.payload.body.length;

// An answer, with what was told before and after it.
function unary(method, request, metadata = new grpc.Metadata(), from = stub) {
  return new Promise((resolve, reject) => {
    let initial;
    const call = from[method](request, metadata, (error, answer) => { if (error) reject(error); else call.answer = answer; });
    call.on("metadata", (told) => { initial = told; });
    call.on("status", (status) => { if (status.code === 0) resolve({ answer: call.answer, initial, trailing: status.metadata }); });
  });
}

async function fails(code, promise) {
  const error = await promise.then(() => { throw new Error(`no status ${code}`); }, (error) => error);
  assert.equal(error.code, code, error.message);
  return error;
}

async function all(call) {
  const sizes = [];
  for await (const answer of call) sizes.push(size(answer));
  return sizes;
}

function input(client) {
  return new Promise((resolve, reject) => {
    const call = client.StreamingInputCall((error, answer) => (error ? reject(error) : resolve(answer.aggregated_payload_size)));
    for (const sent of SENT) call.write({ payload: payload(sent) });
    call.end();
  });
}

function echoing() {
  const metadata = new grpc.Metadata();
  metadata.add(INITIAL, "test_initial_metadata_value");
  metadata.add(TRAILING, Buffer.from("ababab", "hex"));
  return metadata;
}

function echoed(initial, trailing) {
  assert.deepEqual(initial.get(INITIAL), ["test_initial_metadata_value"]);
  assert.deepEqual(trailing.get(TRAILING), [Buffer.from("ababab", "hex")]);
}

const cases = {
  async empty_unary() { assert.deepEqual((await unary("EmptyCall", {})).answer, {}); },
  async large_unary() { assert.equal(size((await unary("UnaryCall", large)).answer), 314159); },
  async client_compressed_unary() { assert.equal(size((await unary("UnaryCall", large, undefined, gzip)).answer), 314159); },
  async server_compressed_unary() {
    for (const value of [true, false]) assert.equal(size((await unary("UnaryCall", { ...large, response_compressed: { value } })).answer), 314159);
  },
  async client_streaming() { assert.equal(await input(stub), 74922); },
  async client_compressed_streaming() { assert.equal(await input(gzip), 74922); },
  async server_streaming() {
    assert.deepEqual(await all(stub.StreamingOutputCall({ response_parameters: ANSWERED.map((size) => ({ size })) })), ANSWERED);
  },
  async server_compressed_streaming() {
    const wanted = [{ size: 31415, compressed: { value: true } }, { size: 58979, compressed: { value: false } }];
    assert.deepEqual(await all(stub.StreamingOutputCall({ response_parameters: wanted })), [31415, 58979]);
  },
  async ping_pong() {
    const call = stub.FullDuplexCall(), answers = call[Symbol.asyncIterator]();
    for (let i = 0; i < SENT.length; i++) {
      call.write(output(ANSWERED[i], SENT[i]));
      assert.equal(size((await answers.next()).value), ANSWERED[i]);
    }
    call.end();
    assert.equal((await answers.next()).done, true);
  },
  async empty_stream() {
    const call = stub.FullDuplexCall();
    call.end();
    assert.deepEqual(await all(call), []);
  },
  async cancel_after_begin() {
    await fails(1, new Promise((resolve, reject) => {
      const call = stub.StreamingInputCall((error, answer) => (error ? reject(error) : resolve(answer)));
      call.cancel();
    }));
  },
  async cancel_after_first_response() {
    const call = stub.FullDuplexCall(), answers = call[Symbol.asyncIterator]();
    call.write(output(31415, 27182));
    assert.equal(size((await answers.next()).value), 31415);
    call.cancel();
    await fails(1, answers.next());
  },
  async timeout_on_sleeping_server() {
    const began = Date.now();
    const call = stub.FullDuplexCall(new grpc.Metadata(), { deadline: began + 100 });
    call.on("error", () => {});
    call.write(output(31415, 27182, { interval_us: 1_000_000 }));
    await fails(4, call[Symbol.asyncIterator]().next());
    assert.ok(Date.now() - began < 900, "in time");
  },
  async status_code_and_message() {
    const response_status = { code: 2, message: "test status message" };
    assert.equal((await fails(2, unary("UnaryCall", { response_status }))).details, response_status.message);
    const call = stub.FullDuplexCall();
    call.write({ response_status });
    call.end();
    assert.equal((await fails(2, all(call))).details, response_status.message);
  },
  async special_status_message() {
    const message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
    assert.equal((await fails(2, unary("UnaryCall", { response_status: { code: 2, message } }))).details, message);
  },
  async each_status_code() {
    for (let code = 1; code <= 16; code++) {
      assert.equal((await fails(code, unary("UnaryCall", { response_status: { code, message: `m${code}` } }))).details, `m${code}`);
    }
  },
  async unimplemented_method() { await fails(12, unary("UnimplementedCall", {})); },
  async unimplemented_service() { await fails(12, unary("UnimplementedCall", {}, undefined, absent)); },
  async custom_metadata() {
    const told = await unary("UnaryCall", large, echoing());
    echoed(told.initial, told.trailing);
    const call = stub.FullDuplexCall(echoing());
    const initial = new Promise((resolve) => call.on("metadata", resolve));
    const status = new Promise((resolve) => call.on("status", resolve));
    call.write(output(314159, 271828));
    call.end();
    assert.deepEqual(await all(call), [314159]);
    echoed(await initial, (await status).metadata);
  },
  async many_calls_at_once() {
    const wanted = Array.from({ length: 100 }, (_, index) => 1000 + index);
    const answers = await Promise.all(wanted.map((response_size) => unary("UnaryCall", { response_size, payload: payload(100) })));
    assert.deepEqual(answers.map(({ answer }) => size(answer)), wanted);
  },
  async a_long_stream_in_order() {
    const wanted = Array.from({ length: 2000 }, (_, index) => index);
    assert.deepEqual(await all(stub.StreamingOutputCall({ response_parameters: wanted.map((size) => ({ size })) })), wanted);
  },
};

(async () => {
  for (const [name, run] of Object.entries(cases)) {
    const told = { case: name, status: "passed" };
    let timer;
    const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`not within ${LIMIT_MS} ms`)), LIMIT_MS); });
    try {
      await Promise.race([run(), late]);
    } catch (error) {
      Object.assign(told, { status: "failed", why: String(error && error.message || error).replace(/\s+/g, " ").slice(0, 400) });
    }
    clearTimeout(timer);
    console.log(JSON.stringify(told));
  }
  process.exit(0);
})();
