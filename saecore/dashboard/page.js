"use strict";
// Text only ever becomes text nodes: nothing of a token is read as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const { words, features } = data;
const byId = new Map(features.map((one) => [one.id, one]));
const $ = (id) => document.getElementById(id);
const BEFORE = 24, AFTER = 12; // tokens around the peak that a closed context shows
let shown = features, current = null;

const number = (x) => (x === 0 ? "0" : Math.abs(x) < 0.001 || Math.abs(x) >= 1e5
  ? x.toExponential(2) : String(Number(x.toPrecision(3))));
const count = (x) => (x >= 1e6 ? x / 1e6 + "M" : x >= 1e3 ? x / 1e3 + "k" : String(x));
const percent = (x) => (x === 0 ? "never" : number(100 * x) + " %");

function make(name, attributes = {}, ...children) {
  const svg = ["svg", "rect", "line", "text"].includes(name);
  const one = svg ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
  one.append(...children.filter((child) => child !== null));
  return one;
}

// -- tokens ---------------------------------------------------------------------------------

const SIGNS = { "\n": "↵", "\r": "␍", "\t": "⇥", "\u2028": "↵", "\u2029": "↵" };

function visible(text, breaks = false) {
  // The text of a token as nodes: white space that would not be seen has a sign.
  const parts = text === "" ? ["∅"] : text.split(/([\x00-\x1f\x7f\u2028\u2029])/);
  return parts.filter((part) => part !== "").map((part) => {
    const control = /^[\x00-\x1f\x7f]$/.test(part);
    if (!control && !(part in SIGNS) && text !== "") return document.createTextNode(part);
    const sign = SIGNS[part] ?? (control ? String.fromCharCode(0x2400 + part.charCodeAt(0)) : part);
    return make("span", { class: "mark" }, sign + (breaks && part === "\n" ? "\n" : ""));
  });
}

function label(index) {
  // A token by itself: the spaces in it are dots, many of them are counted.
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
    const one = make("span", { class: "token" }, ...visible(words[context[3][i]], breaks));
    if (value !== 0) {
      one.classList.add(value > 0 ? "hot" : "cold");
      one.style.setProperty("--share", Math.round(12 + 78 * Math.min(1, Math.abs(value) / scale)) + "%");
    }
    if (i === context[1]) one.classList.add("at");
    one.title = number(value);
    one.dataset.value = number(value);
    box.append(one);
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
    const said = make("p", {}, `context ${context[0]}, token ${context[2] + peak}`);
    const whole = tokens(context, feature, 0, context[3].length, true);
    whole.addEventListener("click", (event) => {
      const one = event.target.closest(".token");
      if (one) said.textContent = `activation ${one.dataset.value}, token `
        + (context[2] + [...whole.querySelectorAll(".token")].indexOf(one));
    });
    box.append(make("div", { class: "whole" }, whole, said));
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
  const seen = feature.top.length > 0;
  if (!seen) parts.push(make("p", {}, "It never fired on this text."));
  const panels = make("div", { class: "panels" });
  if (seen) {
    const plot = panel("Activations", histogram(feature));
    plot.classList.add("wide");
    panels.append(plot);
  }
  if (data.logits) panels.append(panel("Raises the logits of", table(feature.high, word)),
    panel("Lowers the logits of", table(feature.low, word)));
  parts.push(panels);
  if (seen) {
    parts.push(panel("Top activations", ...feature.top.map((one) => example(one, feature))));
    const bands = feature.bands.flatMap((band, i) => (band.length ? [make("h4", {},
      `Band ${i + 1} of ${feature.bands.length}: ${number(peakOf(band.at(-1)))} to `
      + number(peakOf(band[0]))), ...band.map((one) => example(one, feature))] : []));
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

for (const one of features) {
  // Tokens at which it is at least half as active as anywhere in its top contexts.
  const found = new Map();
  for (const context of one.top) {
    const floor = largest(one) / 2;
    for (const [i, value] of valuesOf(context))
      if (Math.abs(value) >= floor)
        found.set(context[3][i], (found.get(context[3][i]) ?? 0) + 1);
  }
  const ranked = [...found].sort((a, b) => b[1] - a[1]).map(([index]) => index);
  one.label = ranked.slice(0, 4);
  one.tokens = ranked.map((index) => words[index].toLowerCase());
  one.logits = [...one.high, ...one.low].map(([index]) => words[index].toLowerCase());
  one.peak = largest(one);
}

function matches(feature, term) {
  const has = (list, text) => list.some((one) => one.includes(text));
  const compared = term.match(/^density([<>])([\d.e+-]+)(%?)$/);
  if (compared) {
    const limit = Number(compared[2]) / (compared[3] ? 100 : 1);
    return compared[1] === "<" ? feature.density < limit : feature.density > limit;
  }
  if (term.startsWith("token:")) return has(feature.tokens, term.slice(6));
  if (term.startsWith("logit:")) return has(feature.logits, term.slice(6));
  if (/^\d+$/.test(term) && feature.id === Number(term)) return true;
  return has(feature.tokens, term) || has(feature.logits, term);
}

function list() {
  const terms = $("search").value.toLowerCase().split(/\s+/).filter((term) => term !== "");
  const key = $("sort").value;
  shown = features.filter((one) => terms.every((term) => matches(one, term)))
    .sort((a, b) => (key === "id" ? a.id - b.id : b[key] - a[key] || a.id - b.id));
  $("count").textContent = `${shown.length} of ${features.length} features`;
  $("features").replaceChildren(...shown.map((one) => make("li", {},
    make("a", { href: "#" + one.id, "data-id": one.id }, make("span", {}, String(one.id)),
      make("span", { class: "words" }, ...one.label.flatMap((index) => [...label(index), " "])),
      make("span", { class: "density" }, percent(one.density))))));
  mark();
}

function mark() {
  for (const one of $("features").querySelectorAll("a")) {
    const here = current !== null && Number(one.dataset.id) === current.id;
    if (here) one.setAttribute("aria-current", "page"); else one.removeAttribute("aria-current");
    if (here) one.scrollIntoView({ block: "nearest" });
  }
}

// -- getting about --------------------------------------------------------------------------

function go(by) {
  if (!shown.length) return;
  const at = shown.indexOf(current);
  const next = at < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, at + by));
  current = shown[next];  // at once: the event comes later, the next key may come before it
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
  // The feature that is open already: its hash does not change.
  const one = event.target.closest("a");
  if (one && current && Number(one.dataset.id) === current.id) show(current);
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
