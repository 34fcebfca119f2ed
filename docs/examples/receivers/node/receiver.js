// An endpoint for OMS webhooks: verify, store, answer, then process.
//
//   npm install
//   WEBHOOK_SECRET=whsec_... PORT=8000 node receiver.js

import { createHash } from "node:crypto";
import { mkdir, open, readFile, readdir, rename, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import express from "express";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

const webhook = new Webhook(process.env.WEBHOOK_SECRET);
const inbox = process.env.INBOX ?? "inbox";
let parts = 0;
let working = false;
let somethingCame = false;

const app = express();

// express.raw leaves the bytes as they came: parsed and written again, they would not fit the signature.
app.post("/webhooks", express.raw({ type: () => true, limit: "8mb" }), async (request, response) => {
  const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
  try {
    webhook.verify(body, request.headers);
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error;
    return response.sendStatus(401);
  }
  await keep(request.headers["webhook-id"], body);
  response.sendStatus(204);
  void work();
});

// Write a webhook to disk, once. A copy of it writes the same bytes to the same file, which does no harm.
async function keep(webhookId, body) {
  const name = path.join(inbox, createHash("sha256").update(webhookId).digest("hex"));
  const part = `${name}.${process.pid}.${parts++}`;
  const file = await open(part, "w");
  try {
    await file.writeFile(body);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(part, `${name}.json`);
}

// Work on all that has no mark yet, also on what came before the last crash.
async function work() {
  somethingCame = true;
  if (working) return;
  working = true;
  while (somethingCame) {
    somethingCame = false;
    for (const name of await waiting()) {
      try {
        await handle(JSON.parse(await readFile(`${name}.json`, "utf8")));
        await writeFile(`${name}.done`, "");
      } catch (error) {
        console.error(`${name} could not be handled; it is tried again with the next webhook`, error);
      }
    }
  }
  working = false;
}

async function waiting() {
  const files = new Set(await readdir(inbox));
  const names = [...files].filter((file) => file.endsWith(".json")).map((file) => file.slice(0, -".json".length));
  const found = names.filter((name) => !files.has(`${name}.done`)).map((name) => path.join(inbox, name));
  const came = await Promise.all(found.map(async (name) => [name, (await stat(`${name}.json`)).mtimeMs]));
  return came.sort(([, one], [, other]) => one - other).map(([name]) => name);
}

// Yours: here is time for what takes long.
async function handle(event) {
  await sleep(1000 * Number(process.env.WORK_SECONDS ?? 0));
  console.log("handled", event.id, event.event_name);
}

await mkdir(inbox, { recursive: true });
app.listen(Number(process.env.PORT ?? 8000), "127.0.0.1");
void work();
