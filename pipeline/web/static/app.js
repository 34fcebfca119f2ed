// Conveniences for all pages. Everything works without this script.
"use strict";

// Copy buttons: <button data-copy="#id" hidden>. Without this script, they stay hidden.
for (const button of document.querySelectorAll("button[data-copy]")) {
  const source = document.querySelector(button.dataset.copy);
  if (!source || !navigator.clipboard) continue;
  button.hidden = false;
  const label = button.textContent;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 2000);
  });
}

// POST forms are sent once, however often a button is pressed. In <form data-busy="Sending…">, the button then shows that text.
for (const form of document.querySelectorAll("form[method=post]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "1";
    const button = form.dataset.busy && form.querySelector("button:not([type=button])");
    if (!button) return;
    button.setAttribute("aria-busy", "true");
    button.setAttribute("aria-live", "polite");
    button.textContent = form.dataset.busy;
  });
}
// If the browser restores the page from its back/forward cache, reload it, so that its forms can be sent again.
window.addEventListener("pageshow", (event) => { if (event.persisted && document.querySelector("form[data-sent]")) location.reload(); });

// "/" and Ctrl-K (on a Mac also Cmd-K) focus the search box, except for "/" in a text field.
const find = document.querySelector("[data-find]");
if (find) {
  document.addEventListener("keydown", (event) => {
    const isWriting = event.target instanceof Element && event.target.closest("input, textarea, select, [contenteditable]");
    const isSlash = event.key === "/" && !isWriting && !event.ctrlKey && !event.metaKey && !event.altKey;
    const isControlK = event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey;
    if (!isSlash && !isControlK) return;
    event.preventDefault();
    find.focus();
    find.select();
  });
}

// The login form sends the browser's time zone. After that, pages propose it until the user chooses a zone.
const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
for (const brought of document.querySelectorAll("[data-own-zone]")) brought.value = own || "";
const zone = document.querySelector("[data-zone]");
if (zone) {
  const chosen = zone.querySelector("input[name=zone]");
  if (own && own !== chosen.value) {
    chosen.value = own;
    zone.querySelector("[data-zone-name]").textContent = own;
    zone.hidden = false;
  }
}

// Live parts: <div data-live="/webhooks/live" data-seconds="5">. Their content is fetched again while the page is visible, unless the
// keyboard focus is in it. A redirect to the login ends that.
for (const part of document.querySelectorAll("[data-live]")) {
  const pause = Number(part.dataset.seconds || 5) * 1000;
  const state = document.querySelector("[data-live-state]");
  const say = (text) => { if (state && state.textContent !== text) state.textContent = text; };
  const refresh = async () => {
    if (part.contains(document.activeElement)) {
      say("Paused while a link or button here has the focus");
    } else if (!document.hidden) {
      try {
        const answer = await fetch(part.dataset.live, { headers: { Accept: "text/html" }, redirect: "manual" });
        if (answer.type === "opaqueredirect" || answer.status === 403) {
          say("You are logged out. Reload the page.");
          return;
        }
        if (answer.ok) {
          part.innerHTML = await answer.text();
          say("Live");
        } else {
          say("Update failed. Trying again…");
        }
      } catch {
        say("Update failed. Trying again…");
      }
    }
    setTimeout(refresh, pause);
  };
  say("Live");
  setTimeout(refresh, pause);
}
