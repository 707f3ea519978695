// Draws the charts of the page from the numbers in it. Text goes to Plotly through `plain`,
// since Plotly reads tags and entities in whatever it is given.
"use strict";

const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const LAW = "#d6395c";
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star"];

// Colours from violet to orange, light enough for a dark page and dark enough for a light one.
function colour(i, n) {
  const hue = n > 1 ? 265 - (240 * i) / (n - 1) : 215;
  return `hsl(${hue}, 62%, 47%)`;
}

const signed = (part) => `${part < 0 ? "−" : "+"}${Math.abs(100 * part).toFixed(1)} %`;

// The traces of results: a line for each run, a colour for each size.
function results(chart, axis) {
  return chart.series.map((series, i) => {
    const rows = series.runs.flatMap((run) => [...run, null]);
    const pick = (values) => rows.map((row) => (row === null ? null : values[row]));
    return {
      type: "scatter",
      name: plain(series.name),
      mode: series.runs.some((run) => run.length > 1) ? "lines+markers" : "markers",
      x: pick(axis.x),
      y: pick(chart.error),
      hovertext: pick(chart.told.map((lines) => lines.map(plain).join("<br>"))),
      hoverinfo: "text",
      line: { color: colour(i, chart.series.length), width: 1.2 },
      marker: { symbol: SYMBOLS[i % SYMBOLS.length], size: 7 },
    };
  });
}

function frontier(chart, axis) {
  return {
    type: "scatter",
    name: "frontier",
    mode: "markers",
    hoverinfo: "skip",
    x: axis.frontier.map((row) => axis.x[row]),
    y: axis.frontier.map((row) => chart.error[row]),
    marker: { size: 14, symbol: "circle-open", color: "#8a8f98", line: { width: 1.6 } },
  };
}

// The band, the law within the results, and the law beyond them.
function law(chart, axis) {
  if (!axis.law) return [];
  const { x, y, low, high, inside } = axis.law;
  const traces = [];
  if (low) {
    traces.push({
      type: "scatter",
      name: `${100 * chart.level} % band`,
      x: [...x, ...[...x].reverse()],
      y: [...high, ...[...low].reverse()],
      mode: "lines",
      fill: "toself",
      fillcolor: "rgba(214, 57, 92, 0.16)",
      line: { width: 0 },
      hoverinfo: "skip",
    });
  }
  const hovertext = x.map((at, i) => {
    const band = low ? ` (${low[i].toPrecision(3)} to ${high[i].toPrecision(3)})` : "";
    return `${i < inside ? "law" : "law, extrapolated"}<br>${plain(axis.title)}: ` +
      `${at.toPrecision(3)}<br>error: ${y[i].toPrecision(3)}${band}`;
  });
  const line = (name, from, to, dash) => ({
    type: "scatter",
    name,
    mode: "lines",
    x: x.slice(from, to),
    y: y.slice(from, to),
    hovertext: hovertext.slice(from, to),
    hoverinfo: "text",
    line: { color: LAW, width: 2.2, dash },
  });
  return [...traces, line("law", 0, inside, "solid"),
    line("extrapolated", inside - 1, x.length, "dash")];
}

// Where few powers of ten are in sight, 2 and 5 are labelled too.
function ticks(values) {
  const span = Math.log10(Math.max(...values) / Math.min(...values));
  return span > 3 ? 1 : span > 0.7 ? "D2" : "D1";
}

function layout(chart, axis, narrow) {
  const common = {
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    font: { family: "system-ui, sans-serif", size: 13 },
    hoverlabel: { align: "left", font: { size: 12 } },
    hovermode: "closest",
    dragmode: "zoom",
  };
  const x = {
    type: "log", title: { text: plain(axis.title) }, exponentformat: "power", automargin: true,
  };
  return {
    frontier: {
      ...common,
      margin: { l: 10, r: 10, t: 30, b: 10 },
      legend: narrow ? { orientation: "h", y: -0.25 } : { font: { size: 12 } },
      xaxis: x,
      yaxis: {
        type: "log", title: { text: plain(chart.measure) }, automargin: true, dtick: ticks(chart.error),
      },
    },
    residuals: {
      ...common,
      margin: { l: 10, r: 10, t: 10, b: 10 },
      showlegend: false,
      xaxis: x,
      yaxis: {
        title: { text: "Off the law" }, automargin: true, tickformat: "+.0%", zeroline: true,
      },
    },
  };
}

function residuals(chart, axis) {
  const { rows, off } = axis.residuals;
  const owner = new Map();
  chart.series.forEach((series, i) => series.runs.flat().forEach((row) => owner.set(row, i)));
  return [{
    type: "scatter",
    mode: "markers",
    x: rows.map((row) => axis.x[row]),
    y: off,
    hovertext: rows.map((row, i) => `${signed(off[i])} off the law<br>` +
      chart.told[row].map(plain).join("<br>")),
    hoverinfo: "text",
    marker: {
      size: 8,
      color: rows.map((row) => colour(owner.get(row), chart.series.length)),
      symbol: rows.map((row) => SYMBOLS[owner.get(row) % SYMBOLS.length]),
    },
  }];
}

const CONFIG = {
  responsive: true,
  displaylogo: false,
  plotlyServerURL: "",
  modeBarButtonsToRemove: ["lasso2d", "select2d"],
};

function draw(section, chart, chosen) {
  const axis = chart.axes[chosen];
  const looks = layout(chart, axis, section.clientWidth < 640);
  const traces = [...results(chart, axis), frontier(chart, axis), ...law(chart, axis)];
  Plotly.react(section.querySelector(".frontier"), traces, looks.frontier, CONFIG);
  const off = section.querySelector(".residuals-chart");
  off.hidden = !axis.residuals;
  if (axis.residuals) {
    Plotly.react(off.querySelector(".residuals"), residuals(chart, axis), looks.residuals, CONFIG);
  }
  for (const part of section.querySelectorAll("[data-axis]")) {
    part.hidden = Number(part.dataset.axis) !== chosen;
  }
}

const charts = JSON.parse(document.getElementById("charts").textContent);
document.querySelectorAll("section[data-chart]").forEach((section) => {
  const chart = charts[Number(section.dataset.chart)];
  draw(section, chart, 0);
  section.addEventListener("change", (event) => draw(section, chart, Number(event.target.value)));
});

// Paper is narrower than most windows.
function fit(printing) {
  document.querySelectorAll(".js-plotly-plot").forEach((plot) => {
    if (printing) Plotly.relayout(plot, { width: 680 });
    else Plotly.relayout(plot, { width: null, autosize: true });
  });
}
window.matchMedia("print").addEventListener("change", (event) => fit(event.matches));
