// A server that speaks HTTP/2 and nothing else, as Node makes it: it refuses to shake hands about anything else.
// node h2_only.mjs CHAIN KEY: prints its port; answers with the request's headers.
import { readFileSync } from "node:fs";
import { createSecureServer } from "node:http2";

const [certificate, key] = process.argv.slice(2);
const server = createSecureServer({ cert: readFileSync(certificate), key: readFileSync(key) });
server.on("stream", (stream, headers) => {
  stream.respond({ ":status": 200, "content-type": "application/json" });
  stream.end(JSON.stringify(headers));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
