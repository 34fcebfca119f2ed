"""An endpoint for OMS webhooks: verify, store, answer, then process.

pip install -r requirements.txt
WEBHOOK_SECRET=whsec_... flask --app receiver run --port 8000
"""

import hashlib
import json
import os
import threading
import time
from pathlib import Path

from flask import Flask, Response, request
from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["WEBHOOK_SECRET"])
inbox = Path(os.environ.get("INBOX", "inbox"))
inbox.mkdir(parents=True, exist_ok=True)
something_came = threading.Event()

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 8 * 1024 * 1024


@app.post("/webhooks")
def receive() -> Response:
    body = request.get_data()  # the bytes as they came: parsed and written again, they would not fit the signature
    try:
        webhook.verify(body, {name.lower(): value for name, value in request.headers.items()})
    except WebhookVerificationError:
        return Response(status=401)
    keep(request.headers["webhook-id"], body)
    return Response(status=204)


def keep(webhook_id: str, body: bytes) -> None:
    """Write a webhook to disk, once. A copy of it writes the same bytes to the same file, which does no harm."""
    path = inbox / f"{hashlib.sha256(webhook_id.encode()).hexdigest()}.json"
    part = path.with_suffix(f".{threading.get_ident()}")
    with part.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    something_came.set()


def work() -> None:
    """Work on all that has no mark yet, also on what came before the last crash."""
    while True:
        something_came.clear()
        for path in sorted(inbox.glob("*.json"), key=lambda path: path.stat().st_mtime):
            mark = path.with_suffix(".done")
            if not mark.exists():
                try:
                    handle(json.loads(path.read_bytes()))
                    mark.touch()
                except Exception:
                    app.logger.exception("%s could not be handled; it is tried again", path)
        something_came.wait(timeout=60)


def handle(event: dict) -> None:
    """Yours: here is time for what takes long."""
    time.sleep(float(os.environ.get("WORK_SECONDS", "0")))
    print("handled", event["id"], event["event_name"], flush=True)


threading.Thread(target=work, daemon=True).start()
