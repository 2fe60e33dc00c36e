// What customers see: HTTP, and a WebSocket with news of their orders.
const http = require('node:http');
const { WebSocketServer } = require('ws');

const { CATALOG_URL, CART_URL, ORDERS_URL, LISTEN } = process.env;

// Which service answers what; its answer is passed on as it is.
function backend(path) {
  if (path.startsWith('/products')) return CATALOG_URL;
  if (path.startsWith('/carts') || path.startsWith('/offers')) return CART_URL;
  if (path.startsWith('/orders')) return ORDERS_URL;
  return undefined;
}

const server = http.createServer(async (request, response) => {
  const base = backend(request.url);
  if (!base) {
    response.writeHead(404).end();
    return;
  }
  try {
    const answer = await fetch(base + request.url, { method: request.method });
    const body = Buffer.from(await answer.arrayBuffer());
    response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') ?? 'text/plain' }).end(body);
  } catch (error) {
    console.error(`${request.method} ${request.url}: ${error.cause ?? error}`);
    response.writeHead(502).end();
  }
});

// ws://…/news/alice: each event of alice's orders becomes a message.
new WebSocketServer({ server }).on('connection', async (socket, request) => {
  const customer = request.url.split('/').pop();
  const gone = new AbortController();
  socket.on('close', () => gone.abort());
  try {
    const events = await fetch(`${ORDERS_URL}/orders/${customer}/events`, { signal: gone.signal });
    socket.send(JSON.stringify({ watching: customer }));
    let text = '';
    for await (const chunk of events.body.pipeThrough(new TextDecoderStream())) {
      const blocks = (text + chunk).split('\n\n');
      text = blocks.pop();
      for (const block of blocks) socket.send(block.replace(/^data: /, ''));
    }
    socket.close();
  } catch (error) {
    if (!gone.signal.aborted) {
      console.error(`news for ${customer}: ${error.cause ?? error}`);
      socket.close(1011);
    }
  }
});

const [host, port] = LISTEN.split(':');
server.listen(Number(port), host);
