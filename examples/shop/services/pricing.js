// What things cost: gRPC.
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const CENTS = { apple: 60, bread: 320, cheese: 780 };
const OFFER_BELOW = 500;

const definition = loader.loadSync(path.join(__dirname, 'pricing.proto'), { defaults: true });
const { shop } = grpc.loadPackageDefinition(definition);

function quote({ request }, reply) {
  const unknown = request.lines.find(({ product }) => !Object.hasOwn(CENTS, product));
  if (unknown) {
    reply({ code: grpc.status.NOT_FOUND, details: `no price for ${unknown.product}` });
    return;
  }
  const cents = request.lines.reduce((sum, { product, count }) => sum + CENTS[product] * count, 0);
  reply(null, { cents });
}

function offers(call) {
  for (const [product, cents] of Object.entries(CENTS)) {
    if (cents < OFFER_BELOW) call.write({ product, cents });
  }
  call.end();
}

const server = new grpc.Server();
server.addService(shop.Pricing.service, { quote, offers });
server.bindAsync(process.env.LISTEN, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
});
