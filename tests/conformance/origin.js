// A server that reads the whole body and writes a line `METHOD TARGET BODY-BYTES`.
const server = require("http").createServer((request, response) => {
  let bytes = 0;
  request.on("data", (chunk) => (bytes += chunk.length));
  request.on("end", () => {
    console.log(`${request.method} ${request.url} ${bytes}`);
    // httpwg-cli takes answers apart and needs five bytes.
    response.end("taken");
  });
});
server.keepAliveTimeout = 60000;
server.listen(Number(process.argv[2]), "127.0.0.1");
