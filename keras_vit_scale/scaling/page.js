// Draws the charts of the page from the numbers in it. Text goes to Plotly through `plain`,
// since Plotly reads tags, entities and TeX in whatever it is given.
"use strict";

const plain = (text) => text.replace(/[&<>$]/g, (sign) => `&#${sign.charCodeAt(0)};`);
const LAW = "#d6395c";
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star"];

// Colours from violet to orange, light enough for a dark page and dark enough for a light one.
function colour(i, n) {
  const hue = n > 1 ? 265 - (240 * i) / (n - 1) : 215;
  return `hsl(${hue}, 62%, 50%)`;
}

const told = (lines) => lines.map(plain).join("<br>");
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
      hovertext: pick(chart.told.map(told)),
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
      name: `${Number((100 * chart.level).toPrecision(4))} % band`,
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

// How far results lie off the law, in a panel of its own below.
function residuals(chart, axis) {
  if (!axis.law) return [];
  const { rows, off } = axis.residuals;
  const owner = new Map();
  chart.series.forEach((series, i) => series.runs.flat().forEach((row) => owner.set(row, i)));
  return [{
    type: "scatter",
    mode: "markers",
    showlegend: false,
    yaxis: "y2",
    x: rows.map((row) => axis.x[row]),
    y: off,
    hovertext: rows.map((row, i) => `${signed(off[i])} off the law<br>${told(chart.told[row])}`),
    hoverinfo: "text",
    marker: {
      size: 7,
      color: rows.map((row) => colour(owner.get(row), chart.series.length)),
      symbol: rows.map((row) => SYMBOLS[owner.get(row) % SYMBOLS.length]),
    },
  }];
}

function layout(chart, axis, narrow) {
  const panels = axis.law ? [0.3, 1] : [0, 1];
  return {
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    font: { family: "system-ui, sans-serif", size: 13 },
    margin: { l: 10, r: 10, t: 30, b: 10 },
    legend: narrow ? { orientation: "h", y: -0.18 } : { font: { size: 12 } },
    hoverlabel: { align: "left", font: { size: 12 } },
    hovermode: "closest",
    dragmode: "zoom",
    xaxis: {
      type: "log",
      title: { text: plain(axis.title) },
      exponentformat: "power",
      automargin: true,
      anchor: axis.law ? "y2" : "y",
    },
    yaxis: {
      type: "log",
      title: { text: plain(chart.measure) },
      tickformat: "~g",
      nticks: 8,
      automargin: true,
      domain: panels,
    },
    yaxis2: {
      title: { text: "Off the law" },
      tickformat: "+.0%",
      zeroline: true,
      automargin: true,
      domain: [0, 0.22],
      visible: Boolean(axis.law),
    },
  };
}

const CONFIG = {
  responsive: true,
  displaylogo: false,
  plotlyServerURL: "",
  modeBarButtonsToRemove: ["lasso2d", "select2d"],
};

function draw(section, chart, chosen) {
  const axis = chart.axes[chosen];
  const traces = [results, frontier, law, residuals].flatMap((part) => part(chart, axis));
  const looks = layout(chart, axis, section.clientWidth < 640);
  Plotly.react(section.querySelector(".frontier"), traces, looks, CONFIG);
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
    const size = printing ? { width: 680, height: 480 } : { width: null, height: null };
    Plotly.relayout(plot, { ...size, autosize: !printing });
  });
}
window.matchMedia("print").addEventListener("change", (event) => fit(event.matches));
