"use strict";
// Token text is only ever inserted as text nodes, never parsed as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const { words, features } = data;
const byId = new Map(features.map((feature) => [feature.id, feature]));
const $ = (id) => document.getElementById(id);
const BEFORE = 24, AFTER = 12; // tokens around the peak in a collapsed context
let shown = features, current = null;

const number = (x) => (x === 0 ? "0" : Math.abs(x) < 0.001 || Math.abs(x) >= 1e5
  ? x.toExponential(2) : String(Number(x.toPrecision(3))));
const count = (x) => (x >= 1e6 ? x / 1e6 + "M" : x >= 1e3 ? x / 1e3 + "k" : String(x));
const percent = (x) => (x === 0 ? "never" : number(100 * x) + " %");

function make(name, attributes = {}, ...children) {
  const svg = ["svg", "rect", "line", "text"].includes(name);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

// -- tokens ---------------------------------------------------------------------------------

const SIGNS = { "\n": "↵", "\r": "␍", "\t": "⇥", "\u2028": "↵", "\u2029": "↵" };

function visible(text, breaks = false) {
  // Token text as nodes, with a sign for each invisible character.
  const parts = text === "" ? ["∅"] : text.split(/([\x00-\x1f\x7f\u2028\u2029])/);
  return parts.filter((part) => part !== "").map((part) => {
    const control = /^[\x00-\x1f\x7f]$/.test(part);
    if (!control && !(part in SIGNS) && text !== "") return document.createTextNode(part);
    const sign = SIGNS[part] ?? (control ? String.fromCharCode(0x2400 + part.charCodeAt(0)) : part);
    return make("span", { class: "mark" }, sign + (breaks && part === "\n" ? "\n" : ""));
  });
}

function label(index) {
  // A single token: spaces become dots, long runs of spaces a dot with a count.
  const parts = words[index].split(/( +)/).filter((part) => part !== "");
  return parts.flatMap((part) => (part[0] !== " " ? visible(part)
    : [make("span", { class: "mark" }, part.length < 4 ? "·".repeat(part.length) : `·×${part.length}`)]));
}

const word = (index) => make("span", { class: "word" }, ...label(index));

function valuesOf(context) {
  const values = new Map();
  for (let i = 0; i < context[4].length; i += 2) values.set(context[4][i], context[4][i + 1]);
  return values;
}

const peakOf = (context) => valuesOf(context).get(context[1]);
const largest = (feature) => (feature.top.length ? Math.abs(peakOf(feature.top[0])) : 0);

function tokens(context, feature, from, to, breaks) {
  const values = valuesOf(context), scale = largest(feature);
  const box = make("span", { class: "text" });
  if (from > 0) box.append(make("span", { class: "mark" }, "… "));
  for (let i = from; i < to; i++) {
    const value = values.get(i) ?? 0;
    const token = make("span", { class: "token" }, ...visible(words[context[3][i]], breaks));
    if (value !== 0) {
      token.classList.add(value > 0 ? "hot" : "cold");
      token.style.setProperty("--share", Math.round(12 + 78 * Math.min(1, Math.abs(value) / scale)) + "%");
    }
    if (i === context[1]) token.classList.add("at");
    token.title = number(value);
    token.dataset.value = number(value);
    box.append(token);
  }
  if (to < context[3].length) box.append(make("span", { class: "mark" }, " …"));
  return box;
}

function example(context, feature) {
  const peak = context[1];
  const from = Math.max(0, peak - BEFORE), to = Math.min(context[3].length, peak + 1 + AFTER);
  const box = make("details", {}, make("summary", {},
    make("span", { class: "peak" }, number(peakOf(context))),
    tokens(context, feature, from, to, false)));
  box.addEventListener("toggle", () => {
    if (!box.open || box.children.length > 1) return;
    const caption = make("p", {}, `context ${context[0]}, token ${context[2] + peak}`);
    const whole = tokens(context, feature, 0, context[3].length, true);
    whole.addEventListener("click", (event) => {
      const token = event.target.closest(".token");
      if (token) caption.textContent = `activation ${token.dataset.value}, token `
        + (context[2] + [...whole.querySelectorAll(".token")].indexOf(token));
    });
    box.append(make("div", { class: "whole" }, whole, caption));
  });
  return box;
}

// -- a feature ------------------------------------------------------------------------------

function histogram(feature) {
  const [counts, first, width] = feature.bins;
  const W = 520, H = 190, left = 46, bottom = 26, top = 8, right = 12;
  const most = Math.max(...counts), scale = Math.log1p(most);
  const svg = make("svg", { viewBox: `0 0 ${W} ${H}`, role: "img",
    "aria-label": "Histogram of activations, logarithmic" });
  const y = (n) => H - bottom - (Math.log1p(n) / scale) * (H - bottom - top);
  const x = (i) => left + (i / counts.length) * (W - left - right);
  for (let tick = 1; tick <= most; tick *= 10) {
    svg.append(make("line", { class: "grid", x1: left, x2: W - right, y1: y(tick), y2: y(tick) }));
    svg.append(make("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, count(tick)));
  }
  counts.forEach((n, i) => {
    if (n) svg.append(make("rect", { class: "bar", x: x(i) + 0.5, y: y(n),
      width: Math.max(1, x(1) - x(0) - 1), height: H - bottom - y(n) }));
  });
  for (let i = 0; i <= 4; i++) {
    const at = left + (i / 4) * (W - left - right), value = first + (i / 4) * counts.length * width;
    svg.append(make("text", { x: at, y: H - 8, "text-anchor": i === 4 ? "end" : "middle" },
      number(value)));
  }
  return svg;
}

function panel(title, ...children) {
  return make("section", {}, make("h3", {}, title), ...children);
}

function table(rows, first) {
  if (!rows.length) return make("p", { class: "none" }, "none");
  return make("table", {}, make("tbody", {}, ...rows.map(([key, value]) =>
    make("tr", {}, make("td", {}, first(key)), make("td", {}, number(value))))));
}

const link = (id) => (byId.has(id) ? make("a", { href: "#" + id }, "feature " + id)
  : document.createTextNode("feature " + id));

function show(feature) {
  current = feature;
  const page = $("feature");
  const facts = [["density", percent(feature.density)],
    ["mean where active", number(feature.mean)], ["largest", number(largest(feature))],
    ["decoder norm", number(feature.norm)]];
  const parts = [make("h2", {}, "Feature " + feature.id),
    make("dl", { class: "facts" }, ...facts.map(([key, value]) =>
      make("div", {}, make("dt", {}, key), make("dd", {}, value))))];
  const fired = feature.top.length > 0;
  if (!fired) parts.push(make("p", {}, "This feature never fired on this text."));
  const panels = make("div", { class: "panels" });
  if (fired) {
    const plot = panel("Activations", histogram(feature));
    plot.classList.add("wide");
    panels.append(plot);
  }
  if (data.logits) panels.append(panel("Raises the logits of", table(feature.high, word)),
    panel("Lowers the logits of", table(feature.low, word)));
  parts.push(panels);
  if (fired) {
    parts.push(panel("Top activations",
      ...feature.top.map((context) => example(context, feature))));
    const bands = feature.bands.flatMap((band, i) => (band.length ? [make("h4", {},
      `Band ${i + 1} of ${feature.bands.length}: ${number(peakOf(band.at(-1)))} to `
      + number(peakOf(band[0]))), ...band.map((context) => example(context, feature))] : []));
    parts.push(panel("A sample of the contexts it fires in", ...bands));
  }
  parts.push(make("div", { class: "panels" },
    panel("Nearest by decoder cosine", table(feature.near, link)),
    panel("Fires together with (Jaccard)", table(feature.together, link))));
  page.replaceChildren(...parts);
  page.scrollTop = 0;
  document.body.classList.remove("listing");
  $("list").setAttribute("aria-expanded", "false");
  mark();
}

// -- search and list ------------------------------------------------------------------------

for (const feature of features) {
  // Tokens with at least half of the feature's largest activation.
  const counts = new Map();
  for (const context of feature.top) {
    const floor = largest(feature) / 2;
    for (const [i, value] of valuesOf(context))
      if (Math.abs(value) >= floor)
        counts.set(context[3][i], (counts.get(context[3][i]) ?? 0) + 1);
  }
  const ranked = [...counts].sort((a, b) => b[1] - a[1]).map(([index]) => index);
  feature.label = ranked.slice(0, 4);
  feature.tokens = ranked.map((index) => words[index].toLowerCase());
  feature.logits = [...feature.high, ...feature.low].map(([index]) => words[index].toLowerCase());
  feature.peak = largest(feature);
}

function matches(feature, term) {
  const has = (list, text) => list.some((word) => word.includes(text));
  const comparison = term.match(/^density([<>])([\d.e+-]+)(%?)$/);
  if (comparison) {
    const limit = Number(comparison[2]) / (comparison[3] ? 100 : 1);
    return comparison[1] === "<" ? feature.density < limit : feature.density > limit;
  }
  if (term.startsWith("token:")) return has(feature.tokens, term.slice(6));
  if (term.startsWith("logit:")) return has(feature.logits, term.slice(6));
  if (/^\d+$/.test(term) && feature.id === Number(term)) return true;
  return has(feature.tokens, term) || has(feature.logits, term);
}

function list() {
  const terms = $("search").value.toLowerCase().split(/\s+/).filter((term) => term !== "");
  const key = $("sort").value;
  shown = features.filter((feature) => terms.every((term) => matches(feature, term)))
    .sort((a, b) => (key === "id" ? a.id - b.id : b[key] - a[key] || a.id - b.id));
  $("count").textContent = `${shown.length} of ${features.length} features`;
  $("features").replaceChildren(...shown.map((feature) => make("li", {},
    make("a", { href: "#" + feature.id, "data-id": feature.id },
      make("span", {}, String(feature.id)),
      make("span", { class: "words" }, ...feature.label.flatMap((index) => [...label(index), " "])),
      make("span", { class: "density" }, percent(feature.density))))));
  mark();
}

function mark() {
  for (const entry of $("features").querySelectorAll("a")) {
    const here = current !== null && Number(entry.dataset.id) === current.id;
    if (here) entry.setAttribute("aria-current", "page");
    else entry.removeAttribute("aria-current");
    if (here) entry.scrollIntoView({ block: "nearest" });
  }
}

// -- navigation -----------------------------------------------------------------------------

function go(by) {
  if (!shown.length) return;
  const at = shown.indexOf(current);
  const next = at < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, at + by));
  current = shown[next]; // now, not in hashchange: the next key may come first
  location.hash = String(current.id);
}

function arrive() {
  show(byId.get(Number(location.hash.slice(1))) ?? shown[0] ?? features[0]);
}

$("search").addEventListener("input", list);
$("sort").addEventListener("change", list);
$("previous").addEventListener("click", () => go(-1));
$("next").addEventListener("click", () => go(1));
$("list").addEventListener("click", () => {
  const open = document.body.classList.toggle("listing");
  $("list").setAttribute("aria-expanded", String(open));
});
$("features").addEventListener("click", (event) => {
  // A click on the open feature does not change the hash, so no event follows.
  const entry = event.target.closest("a");
  if (entry && current && Number(entry.dataset.id) === current.id) show(current);
});
addEventListener("hashchange", arrive);
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, select");
  if (event.key === "Escape" && typing) event.target.blur();
  else if (event.key === "Enter" && event.target === $("search") && shown.length) {
    event.target.blur();
    if (!shown.includes(current)) go(0); else show(current);
  } else if (typing) return;
  else if (event.key === "/") { document.body.classList.add("listing"); $("search").focus(); }
  else if (["j", "ArrowRight"].includes(event.key)) go(1);
  else if (["k", "ArrowLeft"].includes(event.key)) go(-1);
  else return;
  event.preventDefault();
});

list();
arrive();
