"use strict";

// Figures are drawn from the JSON that follows them, in the colours of the reader's scheme; on paper always in the light ones.
const DARK = JSON.parse(document.getElementById("dark").textContent);
const NARROW = 500; // pixels of a figure
const scheme = matchMedia("(prefers-color-scheme: dark)");
const touch = matchMedia("(pointer: coarse)");
let drawn; // the width of the window that the figures are drawn for

function recoloured(value) {
  if (typeof value === "string") return DARK[value] ?? value;
  if (Array.isArray(value)) return value.map(recoloured);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, recoloured(inner)]));
}

function draw() {
  const paper = document.documentElement.classList.contains("paper");
  drawn = innerWidth;
  for (const plot of document.querySelectorAll(".plot")) {
    let figure = JSON.parse(plot.nextElementSibling.textContent);
    if (scheme.matches && !paper) figure = recoloured(figure);
    const { layout } = figure;
    layout.width = plot.clientWidth;
    if (paper) layout.height *= 0.8;
    if (layout.width < NARROW) {
      layout.font.size = 11;
      layout.xaxis.nticks = 4;
      if (layout.xaxis.title) layout.xaxis.title.text = layout.xaxis.title.text.replace(" (", "<br>(");
      layout.margin.r = Math.min(layout.margin.r, 14);
    }
    // The triangle keeps its shape: on a narrow screen it needs less height.
    if (layout.yaxis.scaleanchor) layout.height = Math.min(layout.height, 1.1 * layout.width);
    if (touch.matches) layout.dragmode = false; // a finger scrolls the page
    Plotly.react(plot, figure.data, layout, { displayModeBar: false });
  }
}

function onPaper(printing) {
  document.documentElement.classList.toggle("paper", printing);
  draw();
}

addEventListener("beforeprint", () => onPaper(true));
addEventListener("afterprint", () => onPaper(false));
scheme.addEventListener("change", draw);
let timer;
addEventListener("resize", () => {
  clearTimeout(timer);
  timer = setTimeout(() => innerWidth === drawn || draw(), 150);
});
draw();
// What plotly measures texts with is no image for screen readers.
document.getElementById("js-plotly-tester")?.setAttribute("aria-hidden", "true");

// A click on a column's heading sorts by it, another one the other way round; empty cells stay last.
function number(text) {
  return Number.parseFloat(text.replace(/[(,]/g, ""));
}

function compare(a, b) {
  return number(a) - number(b) || a.localeCompare(b, "en", { numeric: true });
}

document.addEventListener("click", ({ target }) => {
  const heading = target.closest("th:has(button)");
  if (!heading) return;
  const sign = heading.ariaSort === "ascending" ? -1 : 1;
  for (const other of heading.parentElement.cells) other.ariaSort = null;
  heading.ariaSort = sign > 0 ? "ascending" : "descending";
  const body = heading.closest("table").tBodies[0];
  const text = (row) => row.cells[heading.cellIndex].textContent;
  const order = (a, b) => !text(a) - !text(b) || sign * compare(text(a), text(b));
  body.append(...[...body.rows].sort(order));
});
