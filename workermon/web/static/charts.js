// A worker's charts, drawn by uPlot: gaps are gaps; thresholds, what clears them, alerts, silences, absent slots and
// corrections are drawn in. Of more than a day they show roll-ups: the mean, the 95th percentile, and least to most.

import { ageText, quantityText } from "./age.js";
import { now } from "./page.js";

const HEIGHT = 190, HOUR = 3600, DAY = 24 * HOUR;
// Milliseconds between two readings: of datapoints at least so long, of roll-ups always.
const BETWEEN = 1500, BETWEEN_ROLLUPS = 60_000;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const section = document.getElementById("charts");
const figures = new Map([...section.querySelectorAll("[data-metric]")].map((figure) => [figure.dataset.metric, figure]));
const plots = new Map();
const together = window.uPlot.sync("charts");
let chartData = null;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const ofSeverity = (severity) => colour(severity === "critical" ? "critical" : "warning-fill");
const clock = (at) => new Date(1000 * at).toISOString().slice(11, 19);
const date = (at) => { const day = new Date(1000 * at); return `${day.getUTCDate()} ${MONTHS[day.getUTCMonth()]}`; };
const dateAndTime = (at) => `${date(at)} ${chartData.step === DAY ? new Date(1000 * at).getUTCFullYear() : clock(at).slice(0, 5)}`;
const moment = (at) => (chartData.step ? dateAndTime(at) : clock(at));
// The mean comes first: it is a datapoint where there are no roll-ups.
const columns = (chart) => (chartData.step ? [chart.times, chart.values, chart.p95, chart.most, chart.least] : [chart.times, chart.values]);
const known = (chart) => [...chart.values, ...chart.least, ...chart.most].filter((value) => value !== null);

// --- layers ----------------------------------------------------------------------------------------------------------

function alongX(plot, begin, end) {
  const { left, width } = plot.bbox;
  const from = Math.max(left, plot.valToPos(begin, "x", true));
  const to = Math.min(left + width, plot.valToPos(end ?? chartData.until, "x", true)); // beyond it there is a forecast only
  return [from, Math.max(to - from, 0)];
}

function hatch(context, x, y, width, height, step) {
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.beginPath();
  for (let at = x - height; at < x + width; at += step) {
    context.moveTo(at, y + height);
    context.lineTo(at + height, y);
  }
  context.stroke();
  context.restore();
}

const isLine = (curve) => curve.low.every((low, place) => low === curve.high[place]);
// Where a chart ends: a forecast goes on after the present, by half of the span at most.
function end(chart) {
  const ends = chart.curves.map((curve) => curve.times.at(-1));
  return Math.max(chartData.until, Math.min(chartData.until + (chartData.until - chartData.begin) / 2, Math.max(0, ...ends)));
}

// Parts of a curve without a break: where nothing is known there is no point.
function parts(curve) {
  const apart = isLine(curve) ? Infinity : 3 * (curve.times[1] - curve.times[0]);
  const runs = [];
  curve.times.forEach((at, place) => {
    if (place && at - curve.times[place - 1] <= apart) runs.at(-1).push(place);
    else runs.push([place]);
  });
  return runs;
}

function trace(plot, curve, places, side) {
  places.forEach((place, number) => {
    const x = plot.valToPos(curve.times[place], "x", true), y = plot.valToPos(curve[side][place], "y", true);
    if (number) plot.ctx.lineTo(x, y); else plot.ctx.moveTo(x, y);
  });
}

function drawCurve(plot, curve) {
  const { ctx: context, bbox } = plot, ratio = devicePixelRatio, sides = ["low", "high"].filter((side) => curve[side][0] !== null);
  context.save();
  context.beginPath();
  context.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  context.clip();
  context.strokeStyle = isLine(curve) ? ofSeverity(curve.severity) : colour("usual-edge");
  context.fillStyle = colour("usual");
  context.lineWidth = (isLine(curve) ? 2 : 1) * ratio;
  if (isLine(curve)) context.setLineDash([7 * ratio, 3 * ratio]);
  for (const places of parts(curve)) {
    if (!isLine(curve) && sides.length === 2) {
      context.beginPath();
      trace(plot, curve, places, "high");
      for (const place of places.toReversed()) context.lineTo(plot.valToPos(curve.times[place], "x", true), plot.valToPos(curve.low[place], "y", true));
      context.fill();
    }
    for (const side of isLine(curve) ? ["high"] : sides) {
      context.beginPath();
      trace(plot, curve, places, side);
      context.stroke();
    }
  }
  context.restore();
}

function drawBelow(plot, chart) {
  const { ctx: context, bbox } = plot, ratio = devicePixelRatio;
  for (const curve of chart.curves) if (!isLine(curve)) drawCurve(plot, curve);
  context.save();
  for (const span of chart.spans) {
    const [x, width] = alongX(plot, span.begin, span.end);
    if (width <= 0) continue;
    context.fillStyle = ofSeverity(span.severity);
    context.globalAlpha = 0.13;
    context.fillRect(x, bbox.top, Math.max(width, ratio), bbox.height);
    context.globalAlpha = 1;
    context.fillRect(x, bbox.top, Math.max(width, 2 * ratio), 3 * ratio);
  }
  for (const silence of chartData.silences) {
    const [x, width] = alongX(plot, silence.begin, silence.end);
    if (width <= 0) continue;
    context.fillStyle = colour("quiet");
    for (let at = x; at < x + width; at += 5 * ratio) {
      context.fillRect(at, bbox.top + bbox.height - 5 * ratio, Math.min(2 * ratio, x + width - at), 4 * ratio);
    }
  }
  for (const band of chart.bands) {
    if (band.clear === band.threshold) continue;
    const top = plot.valToPos(Math.max(band.clear, band.threshold), "y", true);
    const bottom = plot.valToPos(Math.min(band.clear, band.threshold), "y", true);
    context.strokeStyle = ofSeverity(band.severity);
    context.globalAlpha = 0.4;
    context.lineWidth = ratio;
    hatch(context, bbox.left, Math.max(top, bbox.top), bbox.width, Math.min(bottom, bbox.top + bbox.height) - top, 6 * ratio);
    context.globalAlpha = 1;
  }
  context.restore();
}

function drawAbove(plot, chart) {
  const { ctx: context, bbox } = plot, ratio = devicePixelRatio;
  for (const curve of chart.curves) if (isLine(curve)) drawCurve(plot, curve);
  context.save();
  context.beginPath();
  context.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  context.clip();
  for (const band of chart.bands) {
    const y = Math.round(plot.valToPos(band.threshold, "y", true));
    if (y < bbox.top || y > bbox.top + bbox.height) continue;
    context.strokeStyle = ofSeverity(band.severity);
    context.lineWidth = 1.25 * ratio;
    context.setLineDash([5 * ratio, 4 * ratio]);
    context.beginPath();
    context.moveTo(bbox.left, y);
    context.lineTo(bbox.left + bbox.width, y);
    context.stroke();
  }
  context.setLineDash([]);
  context.fillStyle = colour("quiet");
  chart.times.forEach((at, place) => {
    if (chart.values[place] !== null) return;
    context.fillRect(plot.valToPos(at, "x", true) - ratio, bbox.top + bbox.height - 12 * ratio, 1.5 * ratio, 6 * ratio);
  });
  context.textAlign = "center";
  context.font = `${11 * ratio}px sans-serif`;
  for (const correction of chart.corrections) {
    context.fillText("▽", plot.valToPos(correction.at, "x", true), bbox.top + 14 * ratio);
  }
  context.restore();
}

// --- one chart -------------------------------------------------------------------------------------------------------

function range(chart) {
  const expected = chart.curves.flatMap((curve) => [...curve.low, ...curve.high]).filter((value) => value !== null);
  const values = [...known(chart), ...expected];
  if (chart.unit === "percent") return [Math.min(0, ...known(chart)), Math.max(100, ...known(chart))];
  const most = Math.max(1e-9, ...values, ...chart.bands.map((band) => band.threshold * 1.1));
  if (chart.metric.endsWith("_failed")) return [0, 1.15];
  return [Math.min(0, ...values), most * 1.08];
}

// Ticks are the time of day; at midnight, or a day and more apart, the date; of months their names.
function ticksText(ticks, apart) {
  return ticks.map((at) => {
    if (apart >= 28 * DAY) { const day = new Date(1000 * at), month = day.getUTCMonth(); return month ? MONTHS[month] : String(day.getUTCFullYear()); }
    if (apart >= DAY || (at % DAY === 0 && chartData.until - chartData.begin > 2 * HOUR)) return date(at);
    return clock(at).slice(0, chartData.until - chartData.begin > 1200 ? 5 : 8);
  });
}

function series() {
  const accent = colour("accent");
  const drawn = { stroke: accent, width: 1.6, spanGaps: false, points: { show: (plot, _, from, to) => to - from < 60, size: 4, fill: accent } };
  if (!chartData.step) return { series: [{}, drawn] };
  const edge = { width: 0, spanGaps: false, points: { show: false } };
  const p95 = { stroke: accent, width: 1, dash: [2, 3], spanGaps: false, points: { show: false } };
  return { series: [{}, drawn, p95, edge, edge], bands: [{ series: [3, 4], fill: colour("range") }] };
}

function options(chart, width) {
  const quiet = colour("quiet"), line = colour("line");
  const axis = { stroke: quiet, font: "11px system-ui, sans-serif", grid: { stroke: line, width: 1 }, ticks: { show: false } };
  return {
    width, height: HEIGHT, padding: [8, 16, 0, 0],
    tzDate: (at) => window.uPlot.tzDate(new Date(1000 * at), "UTC"),
    legend: { show: false },
    cursor: { sync: { key: together.key }, points: { size: 7 }, drag: { x: false, y: false } },
    scales: { x: { time: true, range: (plot) => [chartData.begin, end(plot.chart ?? chart)] }, y: { range: (plot) => range(plot.chart ?? chart) } },
    axes: [
      { ...axis, space: width < 400 ? 52 : 70, size: 28, values: (_, ticks, __, ___, apart) => ticksText(ticks, apart) },
      { ...axis, size: 58, space: 34, values: (_, ticks) => ticks.map((value) => quantityText(value, chart.unit)) },
    ],
    ...series(),
    hooks: {
      drawAxes: [(plot) => drawBelow(plot, plot.chart)],
      draw: [(plot) => drawAbove(plot, plot.chart)],
      setCursor: [(plot) => read(plot.chart, plot.cursor.idx)],
    },
  };
}

function read(chart, place) {
  const reading = figures.get(chart.metric).querySelector(".reading");
  const last = chart.values.findLastIndex((value) => value !== null);
  const at = place ?? last;
  if (at < 0 || at === undefined) { reading.textContent = "no datapoint"; return; }
  const value = chart.values[at], strong = document.createElement("b");
  strong.textContent = value === null ? "no datapoint" : quantityText(value, chart.unit);
  const when = document.createElement((place === null || place === undefined) && !chartData.step ? "time" : "span");
  if (when instanceof HTMLTimeElement) {
    when.dateTime = new Date(1000 * chart.times[at]).toISOString();
    when.dataset.age = "";
    when.textContent = `${ageText(now() - chart.times[at])} ago`;
  } else {
    when.textContent = `${moment(chart.times[at])} UTC`;
  }
  reading.replaceChildren(...(chartData.step ? ["mean ", strong, " ", when] : [strong, " ", when]));
  if (chartData.step) figures.get(chart.metric).querySelector(".notes").textContent = place === null || place === undefined ? notes(chart) : figuresOf(chart, place);
}

function figuresOf(chart, place) {
  if (chart.values[place] === null || chart.values[place] === undefined) return "no datapoint";
  const [least, p95, most] = [chart.least, chart.p95, chart.most].map((values) => quantityText(values[place], chart.unit));
  return `minimum ${least}, 95th percentile ${p95}, maximum ${most}`;
}

function notes(chart) {
  const values = known(chart);
  const texts = [];
  if (values.length) texts.push(`minimum ${quantityText(values.reduce((a, b) => Math.min(a, b)), chart.unit)}, maximum ${quantityText(values.reduce((a, b) => Math.max(a, b)), chart.unit)}`);
  if (chartData.step && values.length) texts.push(chartData.step === HOUR ? "a point is an hour" : "a point is a day");
  if (chart.absent && chartData.step) texts.push(`${chart.absent} of ${chart.times.length} points have no datapoint`);
  else if (chart.absent) texts.push(`${chart.absent} slot${chart.absent === 1 ? "" : "s"} without a datapoint`);
  if (chart.spans.length) texts.push(`${chart.spans.length} alert${chart.spans.length === 1 ? "" : "s"}`);
  if (chart.corrections.length) texts.push(`${chart.corrections.length} corrected`);
  if (chart.thinned) texts.push("minimum and maximum of each interval");
  return texts.join(" · ");
}

function draw(chart) {
  const figure = figures.get(chart.metric);
  if (!figure) return;
  const place = figure.querySelector(".plot");
  figure.querySelector(".notes").textContent = notes(chart);
  if (!chart.times.length) {
    plots.get(chart.metric)?.destroy();
    plots.delete(chart.metric);
    const empty = document.createElement("p");
    empty.textContent = "No datapoint in this span. The metric may not be published, or the instance does not run.";
    place.replaceChildren(empty);
    read(chart, null);
    return;
  }
  const old = plots.get(chart.metric);
  if (old) {
    old.chart = chart;
    old.setData(columns(chart));
  } else {
    place.replaceChildren();
    const settings = options(chart, place.clientWidth);
    const plot = new window.uPlot({ ...settings, hooks: { ...settings.hooks, init: [(made) => { made.chart = chart; }] } }, columns(chart), place);
    plots.set(chart.metric, plot);
  }
  if (document.activeElement !== figure) read(chart, null);
}

// --- all of them -----------------------------------------------------------------------------------------------------

async function fetchAll() {
  const answer = await fetch(`${section.dataset.charts}?since=${section.dataset.since}`);
  if (!answer.ok) throw new Error(String(answer.status));
  chartData = await answer.json();
  // A young worker fills its charts: they begin with its first datapoint, and show two minutes, or points, at least.
  const first = Math.min(...chartData.charts.filter((chart) => chart.times.length).map((chart) => chart.times[0]));
  const begin = Math.max(chartData.since, first - 0.02 * (chartData.until - first));
  chartData.begin = Number.isFinite(begin) ? Math.min(begin, chartData.until - Math.max(120, 2 * (chartData.step ?? 0))) : chartData.since;
  for (const chart of chartData.charts) draw(chart);
}

function failed() {
  if (chartData) return; // what is drawn stays, and the head of the page says that it is stale
  for (const figure of figures.values()) figure.querySelector(".plot > p")?.replaceChildren("The datapoints could not be read.");
}

let fetching = false, again = false;
async function update() {
  if (fetching) { again = true; return; }
  fetching = true;
  const begun = performance.now();
  try { await fetchAll(); } catch { failed(); }
  setTimeout(() => { fetching = false; if (again) { again = false; update(); } }, chartData?.step ? BETWEEN_ROLLUPS : Math.max(BETWEEN, 10 * (performance.now() - begun)));
}
update();
document.addEventListener("sample", update);

function anew() {
  for (const plot of plots.values()) plot.destroy();
  plots.clear();
  if (chartData) for (const chart of chartData.charts) draw(chart);
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", anew);
new ResizeObserver(() => {
  for (const [metric, plot] of plots) plot.setSize({ width: figures.get(metric).querySelector(".plot").clientWidth, height: HEIGHT });
}).observe(section);

// With the keyboard: arrows go from datapoint to datapoint.
for (const [metric, figure] of figures) {
  figure.addEventListener("keydown", (event) => {
    const plot = plots.get(metric), step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!plot || !step) return;
    event.preventDefault();
    const last = plot.chart.times.length - 1, at = Math.min(last, Math.max(0, (plot.cursor.idx ?? last) + step));
    plot.setCursor({ left: plot.valToPos(plot.chart.times[at], "x"), top: plot.valToPos(plot.chart.values[at] ?? 0, "y") });
    figure.querySelector(".notes").textContent =
      `${moment(plot.chart.times[at])} UTC: ${figure.querySelector(".reading b").textContent}${chartData.step ? `; ${figuresOf(plot.chart, at)}` : ""}`;
  });
  // What changes by itself is not read out; what somebody goes through is.
  figure.addEventListener("focus", () => figure.querySelector(".notes").setAttribute("aria-live", "polite"));
  figure.addEventListener("blur", () => {
    figure.querySelector(".notes").removeAttribute("aria-live");
    const plot = plots.get(metric);
    if (!plot) return;
    plot.setCursor({ left: -10, top: -10 });
    figure.querySelector(".notes").textContent = notes(plot.chart);
  });
}
