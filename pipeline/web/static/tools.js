// Conveniences for lists and forms. Everything works without this script.
"use strict";

// Toolbars: one stop for the Tab key, and the arrow keys move inside (WAI-ARIA's pattern). From a chip, Tab moves into its panel.
for (const bar of document.querySelectorAll("[data-toolbar]")) {
  const stops = () => [...bar.querySelectorAll(".tool, .chip a")].filter((one) => one.offsetParent !== null);
  let current = bar.querySelector(".tool");
  const settle = () => { for (const one of stops()) one.tabIndex = one === current ? 0 : -1; };
  settle();
  bar.addEventListener("focusin", (event) => {
    if (stops().includes(event.target)) { current = event.target; settle(); }
  });
  bar.addEventListener("keydown", (event) => {
    const all = stops();
    const place = all.indexOf(event.target);
    if (place < 0) return;
    const next = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: all.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    all[(next + all.length) % all.length].focus();
  });
  // A click outside a panel closes it.
  const close = (kept) => { for (const one of bar.querySelectorAll(".menu-chip[open]")) if (one !== kept) one.open = false; };
  document.addEventListener("click", (event) => close(event.target.closest && event.target.closest(".menu-chip")));
  bar.addEventListener("keydown", (event) => {
    const open = event.key === "Escape" && event.target.closest(".menu-chip[open]");
    if (open) { open.open = false; open.querySelector("summary").focus(); }
  });
  for (const one of bar.querySelectorAll(".menu-chip")) {
    one.addEventListener("toggle", () => { const field = one.open && one.querySelector("input:not([type=hidden]), select"); if (field) field.focus(); });
  }
}

// Tables with checkboxes: one checkbox for all rows.
for (const form of document.querySelectorAll("[data-choosing]")) {
  const all = form.querySelector("[data-all]");
  const boxes = [...form.querySelectorAll("tbody input[type=checkbox]")];
  if (!all || boxes.length < 2) continue;
  all.hidden = false;
  const settle = () => {
    const count = boxes.filter((box) => box.checked).length;
    all.checked = count === boxes.length;
    all.indeterminate = count > 0 && count < boxes.length;
  };
  all.addEventListener("change", () => { for (const box of boxes) box.checked = all.checked; });
  form.addEventListener("change", settle);
  settle();
}
