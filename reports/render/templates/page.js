"use strict";

const MISSING = "–";
const NUMBER = /^(?:[<>≤≥÷]\s|\[)?([+\-−]?(?:inf\b|(?:\d[\d,]*\.?\d*|\.\d+)(?:e[+-]?\d+)?))/i;

/* ---- tables: every column sorts, rows without a value stay at the end ---- */

function value(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim();
  if (text === MISSING || text === "") return { missing: true, text };
  const digits = text.match(NUMBER);
  if (!digits) return { text, number: NaN };
  const plain = digits[1].replaceAll(",", "").replace("−", "-").replace(/inf/i, "Infinity");
  return { text, number: Number(plain) };
}

function sort(table, column, descending) {
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, ...value(row.cells[column]) }));
  const numeric = rows.every((entry) => entry.missing || !Number.isNaN(entry.number));
  const compare = numeric
    ? (a, b) => a.number - b.number
    : (a, b) => a.text.localeCompare(b.text, "en", { numeric: true });
  rows.sort((a, b) => {
    if (a.missing || b.missing) return Boolean(a.missing) - Boolean(b.missing);
    return descending ? compare(b, a) : compare(a, b);
  });
  table.tBodies[0].append(...rows.map((entry) => entry.row));
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sort(table, column, descending);
    });
  });
}

/* ---- filters: a choice for columns marked so, and a word to search for ---- */

const LONG = 12;

function labelled(text, control) {
  const label = document.createElement("label");
  label.append(`${text} `, control);
  return label;
}

function choice(rows, head, column) {
  const select = document.createElement("select");
  const texts = new Set(rows.map((row) => row.cells[column].textContent.trim()));
  select.append(new Option("all", ""), ...[...texts].map((text) => new Option(text, text)));
  select.fits = (row) => !select.value || row.cells[column].textContent.trim() === select.value;
  return labelled(head.textContent, select);
}

function search(head, column) {
  const input = document.createElement("input");
  input.type = "search";
  input.fits = (row) => {
    const text = column < 0 ? row.textContent : row.cells[column].textContent;
    return text.toLowerCase().includes(input.value.trim().toLowerCase());
  };
  return labelled(head ? head.textContent : "rows with", input);
}

function makeFilterable(table) {
  const rows = [...table.tBodies[0].rows];
  const heads = [...table.tHead.rows[0].cells];
  const chosen = heads.filter((head) => "choose" in head.dataset);
  const searched = heads.find((head) => "search" in head.dataset);
  if (rows.length < LONG && !chosen.length) return;
  const bar = document.createElement("div");
  bar.className = "controls";
  bar.append(...chosen.map((head) => choice(rows, head, heads.indexOf(head))));
  bar.append(search(searched, heads.indexOf(searched)));
  const count = document.createElement("output");
  bar.append(count);
  const controls = [...bar.querySelectorAll("select, input")];
  const apply = () => {
    for (const row of rows) row.hidden = !controls.every((control) => control.fits(row));
    const shown = rows.filter((row) => !row.hidden).length;
    count.textContent = shown === rows.length ? `${rows.length} rows` : `${shown} of ${rows.length} rows`;
  };
  bar.addEventListener("input", apply);
  bar.addEventListener("change", apply);
  apply();
  table.parentElement.before(bar);
}

for (const table of document.querySelectorAll(".scroll > table")) {
  table.parentElement.tabIndex = 0;
  makeFilterable(table);
  makeSortable(table);
}

/* ---- figures: drawn when they come into view, in the colour of the text ---- */

const CONFIG = {
  displaylogo: false,
  responsive: true,
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
};
const dark = matchMedia("(prefers-color-scheme: dark)");
const stored = new Map();

function draw(figure) {
  const ink = getComputedStyle(document.body).color;
  const { data, layout } = JSON.parse(stored.get(figure).replaceAll('"#000000"', JSON.stringify(ink)));
  return Plotly.react(figure, data, layout, CONFIG);
}

const watcher = new IntersectionObserver(
  (seen) => {
    for (const { isIntersecting, target } of seen) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      draw(target);
    }
  },
  { rootMargin: "600px" },
);

for (const figure of document.querySelectorAll(".figure")) {
  stored.set(figure, figure.querySelector("script").textContent);
  figure.replaceChildren();
  watcher.observe(figure);
}

dark.addEventListener("change", () => document.querySelectorAll(".js-plotly-plot").forEach(draw));
addEventListener("beforeprint", () => stored.forEach((_, figure) => draw(figure)));

/* ---- which cost accuracy is set against ---- */

for (const choices of document.querySelectorAll(".choices")) {
  const grids = choices.querySelectorAll(".grid");
  choices.querySelector("select").addEventListener("change", ({ target }) => {
    grids.forEach((grid, option) => (grid.hidden = String(option) !== target.value));
  });
}
