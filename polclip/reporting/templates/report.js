"use strict";
// Without this script everything is shown as plain tables; with it they are sorted, filtered and saved, two experiments
// are compared, and all details are printed.

const run = document.title.replace(/^.*· /, "").replace(/\W+/g, "-");
const make = (tag, properties, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const said = (node) => {
  const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
  const parts = [];
  while (walker.nextNode()) parts.push(walker.currentNode.data);
  return parts.join(" ").replace(/\s+/g, " ").trim();
};

function save(name, text, type) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: `${run}-${name}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// --- tables: sorted by a click on a head, filtered where they are long, saved as they are shown

const MOST = 10; // rows of a table that are open at first

function order(cell) {
  const text = cell.dataset.value ?? said(cell);
  const number = text.replace(/,/g, "").replace("−", "-").match(/^[<[+\s]*(-?\d+(\.\d+)?(e-?\d+)?)/);
  return { text, number: number && Number(number[1]), empty: /^–?$/.test(text) };
}

function sort(table, place, head) {
  const bodies = [...table.tBodies].map((body) => ({
    body,
    rows: [...body.rows].filter((row) => row.cells[place]).map((row) => [order(row.cells[place]), row]),
  }));
  const numbers = bodies.some(({ rows }) => rows.some(([key]) => key.number !== null));
  const before = head.getAttribute("aria-sort");
  const down = before ? before === "ascending" : numbers; // the largest number first, the first letter first
  for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const compare = (a, b) =>
    a.number !== null && b.number !== null ? a.number - b.number : a.text.localeCompare(b.text, "en", { numeric: true });
  for (const { body, rows } of bodies) {
    rows.sort(([a], [b]) => a.empty - b.empty || (down ? -1 : 1) * compare(a, b));
    body.append(...rows.map(([, row]) => row));
  }
  limit(table);
}

// Leave MOST rows of a long table open, and put the others behind a button.
function limit(table) {
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]).filter((row) => !row.hidden);
  for (const [place, row] of rows.entries()) row.classList.toggle("beyond", place >= MOST);
  const button = table.nextElementSibling;
  button.hidden = rows.length <= MOST;
  const clipped = table.classList.contains("clipped");
  button.textContent = clipped ? `Show all ${rows.length} rows` : `Show the first ${MOST} rows`;
  button.setAttribute("aria-expanded", String(!clipped));
}

function asTsv(table) {
  const rows = [...table.rows].filter((row) => !row.hidden && !row.querySelector("[scope=rowgroup]"));
  return rows.map((row) => [...row.cells].map(said).join("\t") + "\n").join("");
}

function furnish(table, name) {
  const what = said(table.caption).slice(0, 60);
  for (const [place, head] of [...table.tHead.rows[0].cells].entries()) {
    const button = make("button", { type: "button", className: "sort" }, ...head.childNodes);
    button.addEventListener("click", () => sort(table, place, head));
    head.append(button);
  }
  const tools = make("span", { className: "tools" });
  const all = () => [...table.tBodies].flatMap((body) => [...body.rows]);
  if (all().length > MOST || table.closest("#compare")) {
    const box = make("input", { type: "search", placeholder: "filter rows" });
    const count = make("span", { className: "count", role: "status" });
    box.setAttribute("aria-label", `Filter rows: ${what}`);
    box.addEventListener("input", () => {
      const words = box.value.toLowerCase().split(/\s+/);
      const rows = all();
      for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      count.textContent = box.value ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
      limit(table);
    });
    tools.append(box, count);
  }
  const button = make("button", { type: "button", title: "Save all rows that pass the filter" }, "TSV");
  button.setAttribute("aria-label", `Save as TSV: ${what}`);
  button.addEventListener("click", () => save(`${name}.tsv`, asTsv(table), "text/tab-separated-values"));
  tools.append(button);
  table.caption.append(tools);
  const more = make("button", { type: "button", className: "more" });
  more.addEventListener("click", () => {
    table.classList.toggle("clipped");
    limit(table);
  });
  table.classList.add("clipped");
  table.after(more);
  limit(table);
}

for (const section of document.querySelectorAll("section")) {
  for (const [place, table] of [...section.querySelectorAll("table")].entries()) {
    furnish(table, `${section.id}-${place + 1}`);
  }
}

// --- figures: saved with the colours that are shown

function asSvg(svg) {
  const [, , width, height] = svg.getAttribute("viewBox").split(" ");
  const copy = svg.cloneNode(true);
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [key, value] of Object.entries({ width, height, fill: "var(--card)" })) ground.setAttribute(key, value);
  copy.prepend(ground);
  const style = getComputedStyle(document.documentElement);
  return new XMLSerializer()
    .serializeToString(copy)
    .replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim().replace(/"/g, "'"));
}

for (const svg of document.querySelectorAll("figure svg")) {
  const button = make("button", { type: "button", className: "save" }, "SVG");
  button.setAttribute("aria-label", `Save as SVG: ${svg.getAttribute("aria-label").slice(0, 60)}`);
  button.addEventListener("click", () => save(`${svg.dataset.name}.svg`, asSvg(svg), "image/svg+xml"));
  svg.closest("figure").append(button);
}

// --- examples: by outcome, benchmark and reason

for (const bar of document.querySelectorAll(".filters[data-for]")) {
  const cards = [...document.getElementById(bar.dataset.for).children];
  const wanted = {};
  const status = bar.querySelector(".count");
  const show = () => {
    let shown = 0;
    for (const card of cards) {
      card.hidden = Object.entries(wanted).some(
        ([key, value]) => value && !(card.dataset[key] ?? "").split("|").includes(value),
      );
      shown += !card.hidden;
    }
    status.textContent = `${shown} of ${cards.length} shown`;
  };
  bar.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    wanted[button.parentElement.dataset.key] = button.dataset.value;
    for (const other of button.parentElement.children) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    show();
  });
  show();
}

// --- two experiments, instance by instance

const answers = JSON.parse(document.getElementById("answers")?.textContent ?? "{}");
const panel = document.getElementById("compare");
if (panel) {
  const [benchmark, first, second, side] = panel.querySelectorAll("select");
  const list = panel.querySelector("tbody");
  const status = panel.querySelector(".count");
  const fill = (select, names, place) => {
    const before = select.value;
    select.replaceChildren(...names.map((name) => make("option", {}, name)));
    select.value = names.includes(before) ? before : names[Math.min(place, names.length - 1)];
  };
  const label = (labels, place) => {
    if (place === null) return "no answer";
    const [name, gloss, id] = labels[place];
    return make("span", {}, make("b", {}, name), ` ${gloss} `, make("code", {}, id));
  };
  const show = () => {
    const { experiments, labels, rows, n, told } = answers[benchmark.value];
    const [a, b] = [first, second].map((select) => experiments.indexOf(select.value));
    const right = (row, at) => row.answers[at] !== null && row.gold.includes(row.answers[at]);
    const wanted = side.value === "first" ? [a, b] : [b, a];
    const found = rows.filter((row) => right(row, wanted[0]) && !right(row, wanted[1]));
    list.replaceChildren(
      ...found.map((row) =>
        make("tr", {},
          make("td", {}, row.before, make("mark", {}, row.target), row.after),
          make("td", {}, ...row.gold.map((gold) => label(labels, gold))),
          make("td", {}, label(labels, row.answers[a])),
          make("td", {}, label(labels, row.answers[b]))),
      ),
    );
    panel.querySelector(".of-first button").textContent = first.value;
    panel.querySelector(".of-second button").textContent = second.value;
    for (const head of panel.querySelectorAll("[aria-sort]")) head.removeAttribute("aria-sort");
    panel.querySelector("input").dispatchEvent(new Event("input"));
    const cut = rows.length < told ? `; of ${told} instances on which experiments differ ${rows.length} are kept here` : "";
    status.textContent = `${found.length} of ${n} instances${cut}`;
  };
  fill(benchmark, Object.keys(answers), 0);
  const choose = () => {
    fill(first, answers[benchmark.value].experiments, 0);
    fill(second, answers[benchmark.value].experiments, 1);
    show();
  };
  benchmark.addEventListener("change", choose);
  for (const select of [first, second, side]) select.addEventListener("change", show);
  choose();
  panel.hidden = false;
}

let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
});
