// Checks the text of an editor while the user types: <form data-check="…">. Without this script, use the buttons.
"use strict";

for (const form of document.querySelectorAll("form[data-check]")) {
  const text = form.querySelector("textarea");
  const problems = form.querySelector("[data-problems]");
  const pause = 400;
  const unknown = "The text could not be checked now. It will be checked when you publish it.";
  let timer = 0;
  let asked = null;

  const check = async () => {
    if (asked) asked.abort();
    asked = new AbortController();
    const fields = new URLSearchParams(new FormData(form));
    fields.set("part", "1");
    try {
      const answer = await fetch(form.dataset.check, { method: "POST", body: fields, redirect: "manual", signal: asked.signal });
      if (!answer.ok) { problems.textContent = unknown; return; }
      problems.innerHTML = await answer.text();
      text.toggleAttribute("aria-invalid", problems.querySelector("[data-start]") !== null);
    } catch (error) {
      if (error.name !== "AbortError") problems.textContent = unknown; // AbortError: a newer text is being checked
    }
  };
  form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(check, pause); });

  // The link of a problem selects its place in the text.
  problems.addEventListener("click", (event) => {
    const place = event.target.closest("[data-start]");
    if (!place) return;
    event.preventDefault();
    text.focus();
    text.setSelectionRange(Number(place.dataset.start), Number(place.dataset.end));
    const line = Number(place.dataset.line);
    text.scrollTop = Math.max(0, (line - 4) * parseFloat(getComputedStyle(text).lineHeight));
  });
}
