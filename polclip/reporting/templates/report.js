"use strict";
// Without this script everything is shown; with it, examples can be filtered and all details are printed.
for (const bar of document.querySelectorAll(".filters")) {
  const cards = [...document.getElementById(bar.dataset.for).children];
  const wanted = { outcome: "", benchmark: "" };
  const status = bar.querySelector(".count");
  const show = () => {
    let shown = 0;
    for (const card of cards) {
      card.hidden = Object.entries(wanted).some(([key, value]) => value && card.dataset[key] !== value);
      shown += !card.hidden;
    }
    status.textContent = `${shown} of ${cards.length} shown`;
  };
  bar.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const key = "outcome" in button.dataset ? "outcome" : "benchmark";
    wanted[key] = button.dataset[key];
    for (const other of button.parentElement.children) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    show();
  });
  show();
}
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
});
