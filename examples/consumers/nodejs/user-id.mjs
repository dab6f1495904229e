// Who holds a token of Claviger? By GET on Redis, with node-redis.

import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { createClient } from "redis";

const TOKEN = /^clv_[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}$/;

// The user's id; null is "not logged in". An exception is "can't tell": answer 503 then, and never 401.
export async function userId(client, token, { keyPrefix = "", sha256 = false } = {}) {
  if (!TOKEN.test(token)) return null;
  const key = sha256 ? createHash("sha256").update(token).digest("hex") : token;
  const value = await within(1000, client.get(keyPrefix + key));
  if (value === null) return null;
  if (!Number.isSafeInteger(Number(value))) throw new Error("what is kept under the token is no id");
  return Number(value);
}

// The client itself waits for an answer as long as the connection is open.
function within(milliseconds, answer) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(reject, milliseconds, new Error("Redis did not answer in time"));
  });
  return Promise.race([answer, late]).finally(() => clearTimeout(timer));
}

// One client for the whole process. While it has no connection it fails at once, and connects anew by itself.
export function connect(url) {
  const client = createClient({
    url,
    disableOfflineQueue: true,
    socket: { connectTimeout: 1000, reconnectStrategy: (tries) => Math.min(tries * 50, 500) },
  });
  client.on("error", (error) => console.error(`Redis: ${error.message}`));
  return client;
}

// To try it: reads tokens, one a line. The settings have the names that Claviger has for them.
if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const client = connect(process.env.REDIS_URL);
  const options = {
    keyPrefix: process.env.CLAVIGER_TOKENS__KEY_PREFIX ?? "",
    sha256: process.env.CLAVIGER_TOKENS__KEY === "sha256",
  };
  await client.connect();
  for await (const line of createInterface({ input: process.stdin })) {
    const found = await userId(client, line, options).catch(() => "can't tell");
    console.log(found ?? "not logged in");
  }
  client.destroy();
}
