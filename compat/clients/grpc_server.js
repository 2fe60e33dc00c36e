// The interoperability server on @grpc/grpc-js: server.js NODE_MODULES PROTO ADDRESS:PORT
const { createRequire } = require("module");
const [modules, proto, address] = process.argv.slice(2);
const from = createRequire(modules + "/");
const grpc = from("@grpc/grpc-js");
const definition = from("@grpc/proto-loader").loadSync(proto, { keepCase: true, defaults: true });
const { testing } = grpc.loadPackageDefinition(definition).grpc;
const INITIAL = "x-grpc-test-echo-initial", TRAILING = "x-grpc-test-echo-trailing-bin";

function trailer(call) {
  const initial = call.metadata.get(INITIAL), trailing = call.metadata.get(TRAILING);
  if (initial.length) {
    const head = new grpc.Metadata();
    initial.forEach((value) => head.add(INITIAL, value));
    call.sendMetadata(head);
  }
  const tail = new grpc.Metadata();
  trailing.forEach((value) => tail.add(TRAILING, value));
  return tail;
}

const failure = (request) => request.response_status && request.response_status.code
  ? { code: request.response_status.code, details: request.response_status.message } : null;
const payload = (size) => ({ type: 0, body: Buffer.alloc(size) });

async function outputs(call, request) {
  for (const wanted of request.response_parameters) {
    if (wanted.interval_us) await new Promise((done) => setTimeout(done, wanted.interval_us / 1000));
    if (call.cancelled || call.destroyed) return;
    call.write({ payload: payload(wanted.size) });
  }
}

const server = new grpc.Server();
server.addService(testing.TestService.service, {
  EmptyCall: (call, done) => done(null, {}, trailer(call)),
  UnaryCall: (call, done) => {
    const tail = trailer(call), bad = failure(call.request);
    if (bad) return done(bad, null, tail);
    done(null, { payload: payload(call.request.response_size) }, tail);
  },
  StreamingInputCall: (call, done) => {
    let size = 0;
    call.on("data", (request) => { size += request.payload.body.length; });
    call.on("end", () => done(null, { aggregated_payload_size: size }));
  },
  StreamingOutputCall: async (call) => { await outputs(call, call.request); call.end(); },
  FullDuplexCall: (call) => {
    const tail = trailer(call);
    // One after the other, in the order they came. An iterator would destroy the call at its end.
    let before = Promise.resolve(), over = false;
    call.on("data", (request) => {
      before = before.then(async () => {
        const bad = failure(request);
        if (!over && bad) { over = true; call.emit("error", { ...bad, metadata: tail }); }
        if (!over) await outputs(call, request);
      });
    });
    call.on("end", () => before.then(() => { if (!over) call.end(tail); }));
  },
});
server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error) => { if (error) throw error; });
