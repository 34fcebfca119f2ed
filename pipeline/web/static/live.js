// Shows attempts as they are made: <tbody data-live-rows="/webhooks/attempts/live?…">. Rows arrive as server-sent events.
"use strict";

for (const body of document.querySelectorAll("[data-live-rows]")) {
  const most = Number(body.dataset.most || 200);
  const state = document.querySelector("[data-live-state]");
  const button = document.querySelector("[data-live-pause]");
  const say = (text) => { if (state.textContent !== text) state.textContent = text; };
  let waiting = [];
  let isPaused = false;
  let source = null;

  const show = (rows) => {
    for (const row of [...body.querySelectorAll(".new, .nothing")]) {
      if (row.classList.contains("nothing")) row.remove();
      row.classList.remove("new");
    }
    for (const row of [...rows].reverse()) {
      if (body.querySelector(`[data-attempt="${CSS.escape(row.dataset.attempt)}"]`)) continue;
      row.classList.add("new");
      body.prepend(row);
    }
    // A row that has the keyboard focus is not removed.
    while (body.rows.length > most && !body.rows[body.rows.length - 1].contains(document.activeElement)) body.deleteRow(-1);
  };
  // A browser that reconnects by itself sends the last id. A page that is opened late, or comes back from the history, has to say it.
  let shown = body.dataset.shown;
  const listen = () => {
    const url = body.dataset.liveRows;
    source = new EventSource(`${url}${url.includes("?") ? "&" : "?"}last_event_id=${shown}`);
    source.addEventListener("open", () => say(isPaused ? "Paused" : "Live"));
    source.addEventListener("attempts", (event) => {
      shown = event.lastEventId || shown;
      const parsed = document.createElement("template");
      parsed.innerHTML = `<table><tbody>${event.data}</tbody></table>`;
      const rows = [...parsed.content.querySelectorAll("tr[data-attempt]")];
      say(isPaused ? "Paused" : "Live"); // a problem has ended
      if (!rows.length) return;
      if (!isPaused) { show(rows); return; }
      waiting = [...rows, ...waiting].slice(0, most);
      button.textContent = `Resume (${waiting.length} new)`;
    });
    source.addEventListener("problem", (event) => say(event.data));
    source.addEventListener("over", (event) => { say(event.data); source.close(); button.hidden = true; });
    source.addEventListener("error", () => say(source.readyState === EventSource.CLOSED ? "Disconnected. Reload the page." : "Reconnecting…"));
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    isPaused = !isPaused;
    button.textContent = isPaused ? "Resume" : "Pause";
    say(isPaused ? "Paused" : "Live");
    if (!isPaused) { show(waiting); waiting = []; }
  });
  window.addEventListener("pagehide", () => source.close());
  window.addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
  say("Connecting…");
  listen();
}
