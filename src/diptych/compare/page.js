"use strict";
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const report = read("report"), table = read("rows"), gallery = read("gallery");
const $ = (query, root = document) => root.querySelector(query);
const all = (query, root = document) => [...root.querySelectorAll(query)];
const make = (tag, values = {}, ...inside) => {
  const node = Object.assign(document.createElement(tag), values);
  node.append(...inside);
  return node;
};
const set = (node, values) => { for (const [key, value] of Object.entries(values)) node.setAttribute(key, value); return node; };
const arms = new Map(report.arms.map((arm) => [arm.name, arm.label || arm.name]));
const metrics = new Map(report.metrics.map((metric) => [metric.name, metric]));
const show = (value) => value === null || value === undefined ? "\u2013" : String(+value.toPrecision(4)).replace("-", "\u2212");

// Theme: follows the system until the button is pressed; then light, dark, system in turn.
const themes = ["", "light", "dark"];
const remembered = () => { try { return localStorage.getItem("diptych-theme") || ""; } catch { return ""; } };
function dress(theme) {
  if (theme) document.documentElement.dataset.theme = theme; else delete document.documentElement.dataset.theme;
  $("#theme").textContent = { "": "Auto", light: "Light", dark: "Dark" }[theme];
  try { localStorage.setItem("diptych-theme", theme); } catch { /* a page opened from a file may have no storage */ }
}
$("#theme").addEventListener("click", () => dress(themes[(themes.indexOf(document.documentElement.dataset.theme || "") + 1) % 3]));
dress(remembered());

// The navigation marks the section in view.
const links = new Map(all(".links a").map((link) => [link.hash.slice(1), link]));
const watcher = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (!isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    const link = links.get(target.id);
    if (!link) continue;
    link.setAttribute("aria-current", "true");
    const box = link.parentElement;
    box.scrollLeft = link.offsetLeft - box.offsetLeft - box.clientWidth / 2 + link.offsetWidth / 2;
  }
}, { rootMargin: "-25% 0px -65% 0px" });
all("section").forEach((section) => watcher.observe(section));

// Verdict table: a verdict opens the sentences of its arm.
all(".verdicts .chip").forEach((chip) => chip.addEventListener("click", () => {
  const cell = chip.closest("td"), row = cell.parentElement, why = row.nextElementSibling;
  const same = $(".lit", why)?.dataset.metric === cell.dataset.metric;
  why.hidden = !why.hidden && same;
  row.classList.toggle("open", !why.hidden);
  for (const line of all("dl > div", why)) line.classList.toggle("lit", line.dataset.metric === cell.dataset.metric);
  for (const other of all(".chip", row)) other.setAttribute("aria-expanded", String(other === chip && !why.hidden));
}));

// Plots: the choosers of a section show one of its figures.
all(".chooser").forEach((chooser) => {
  const picks = all("select", chooser), plots = all(":scope > [data-y]", chooser.parentElement);
  const draw = () => plots.forEach((plot) => { plot.hidden = picks.some((pick) => plot.dataset[pick.dataset.pick] !== pick.value); });
  picks.forEach((pick) => pick.addEventListener("change", draw));
  draw();
});

// Pairs.
const values = (metric, arm, item, seed) => {
  const at = table.units.findIndex((unit) => unit[0] === item && unit[1] === seed);
  const row = (table.rows[metric]?.[arm]?.[0] || []).find((line) => line[0] === at);
  return row ? row[1] : null;
};
const viewer = $(".viewer");
if (viewer) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const state = { arm: gallery.pairs[0].arm, kind: gallery.pairs.some((pair) => pair.kind === "worst") ? "worst" : "random", mode: "slider", at: 0, cut: 50, timer: 0 };
  const base = arms.get(report.baseline);
  const chosen = () => gallery.pairs.filter((pair) => pair.arm === state.arm && pair.kind === state.kind);
  const picture = (id, kind, words) => {
    const image = make("img", { src: gallery.pictures[id], className: kind, alt: words, draggable: false });
    const size = () => image.classList.toggle("pixel", image.naturalWidth < 256);
    if (image.complete) size(); else image.addEventListener("load", size);
    return image;
  };
  const who = (words, side) => make("span", { className: "who " + side, textContent: words });

  function frame(pair, mode, inside) {
    const box = make("div", { className: "frame " + mode });
    const first = $("img", inside) || inside;
    const shape = () => { box.style.aspectRatio = `${first.naturalWidth || 1} / ${first.naturalHeight || 1}`; };
    if (first.complete) shape(); else first.addEventListener("load", shape);
    return box;
  }

  function slider(pair) {
    const under = picture(pair.left, "", base), over = picture(pair.right, "over", arms.get(pair.arm));
    const box = frame(pair, "slider", under);
    const knob = set(make("div", { className: "knob", tabIndex: 0 }), { role: "slider", "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": `Divider: ${base} on the left, ${arms.get(pair.arm)} on the right` });
    const move = (cut) => {
      state.cut = Math.max(0, Math.min(100, cut));
      box.style.setProperty("--at", state.cut + "%");
      set(knob, { "aria-valuenow": Math.round(state.cut), "aria-valuetext": `${Math.round(state.cut)} % ${base}` });
    };
    const drag = (event) => { const area = box.getBoundingClientRect(); move((event.clientX - area.left) / area.width * 100); };
    box.addEventListener("pointerdown", (event) => { box.setPointerCapture(event.pointerId); drag(event); knob.focus({ preventScroll: true }); });
    box.addEventListener("pointermove", (event) => { if (box.hasPointerCapture(event.pointerId)) drag(event); });
    knob.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -20, PageUp: 20, Home: -100, End: 100 }[event.key];
      if (step) { event.preventDefault(); move(state.cut + step); }
    });
    move(state.cut);
    box.append(under, over, knob, who(base, "left"), who(arms.get(pair.arm), "right"));
    return [box, "Drag the divider, or focus it and use the arrow keys."];
  }

  function blink(pair) {
    const a = picture(pair.left, "", base), b = picture(pair.right, "off", arms.get(pair.arm));
    const box = set(frame(pair, "blink", a), { tabindex: 0, role: "button", "aria-label": "Flicker between the two; press to stop or go on" });
    const name = who(base, "left");
    const flip = () => { a.classList.toggle("off"); b.classList.toggle("off"); name.textContent = a.classList.contains("off") ? arms.get(pair.arm) : base; };
    const toggle = () => {
      if (calm) flip();
      else if (state.timer) { clearInterval(state.timer); state.timer = 0; } else state.timer = setInterval(flip, 650);
    };
    box.addEventListener("click", toggle);
    box.addEventListener("keydown", (event) => { if (event.key === " " || event.key === "Enter") { event.preventDefault(); toggle(); } });
    if (!calm) state.timer = setInterval(flip, 650);
    box.append(a, b, name);
    return [box, calm ? "Press the picture to flip it." : "Press the picture to stop the flicker or go on."];
  }

  function side(pair) {
    const cell = (id, words) => { const image = picture(id, "", words), box = frame(pair, "", image); box.append(image); return make("div", {}, box, make("p", { textContent: words })); };
    return [make("div", { className: "two" }, cell(pair.left, base), cell(pair.right, arms.get(pair.arm))), ""];
  }

  function difference(pair) {
    const a = picture(pair.left, "", base), b = picture(pair.right, "over", arms.get(pair.arm));
    const box = frame(pair, "difference", a);
    box.append(make("div", { className: "both" }, a, b));
    return [box, "Black where both are equal; four times as bright as the difference is."];
  }

  function texts(pair) {
    const cell = (html, words) => make("div", {}, make("p", { textContent: words }), make("div", { className: "words", innerHTML: html }));
    const both = make("div", { className: "two" }, cell(pair.left, base), cell(pair.right, arms.get(pair.arm)));
    return [make("div", {}, ...(pair.caption ? [make("blockquote", { textContent: pair.caption })] : []), both), ""];
  }

  function facts(pair) {
    const body = make("tbody");
    for (const metric of report.metrics) {
      const arm = values(metric.name, pair.arm, pair.item, pair.seed);
      if (!gallery.metrics.includes(metric.name) || arm === null) continue;
      const own = metric.against === "baseline" ? null : values(metric.name, report.baseline, pair.item, pair.seed);
      const head = make("th", { scope: "row", textContent: (metric.label || metric.name) + (metric.unit ? ` [${metric.unit}]` : "") });
      body.append(make("tr", { className: metric.name === gallery.rank ? "lit" : "" }, head, make("td", { textContent: show(own) }), make("td", { textContent: show(arm) })));
    }
    const head = make("tr", {}, ...["Unit", "baseline", "arm"].map((words) => set(make("th", { textContent: words }), { scope: "col" })));
    const parts = [make("p", { className: "id", textContent: `${pair.item} \u00b7 seed ${pair.seed}` })];
    if (pair.caption && gallery.show !== "texts") parts.unshift(make("blockquote", { textContent: pair.caption }));
    if (body.rows.length) parts.push(make("table", { className: "plain" }, make("thead", {}, head), body));
    $(".facts-of-pair").replaceChildren(...parts);
  }

  function thumbnail(pair, index) {
    const value = gallery.rank ? values(gallery.rank, pair.arm, pair.item, pair.seed) : null;
    const words = value === null ? pair.item : show(value);
    const button = make("button", { type: "button", title: `${pair.caption || pair.item}, seed ${pair.seed}` });
    if (gallery.show === "pictures") button.append(make("span", {}, picture(pair.left, "", ""), picture(pair.right, "", "")));
    button.append(gallery.show === "pictures" ? words : pair.item);
    set(button, { "aria-pressed": String(index === state.at), "aria-label": `Pair ${index + 1}: ${pair.caption || pair.item}` });
    button.addEventListener("click", () => { state.at = index; draw(); });
    return button;
  }

  function draw() {
    clearInterval(state.timer);
    state.timer = 0;
    const list = chosen();
    state.at = Math.min(state.at, list.length - 1);
    for (const button of all("[data-arm]", viewer)) set(button, { "aria-selected": String(button.dataset.arm === state.arm), tabindex: button.dataset.arm === state.arm ? 0 : -1 });
    for (const button of all("[data-kind]", viewer)) {
      button.hidden = !gallery.pairs.some((pair) => pair.arm === state.arm && pair.kind === button.dataset.kind);
      set(button, { "aria-selected": String(button.dataset.kind === state.kind), tabindex: button.dataset.kind === state.kind ? 0 : -1 });
    }
    for (const button of all("[data-mode]", viewer)) button.setAttribute("aria-pressed", String(button.dataset.mode === state.mode));
    const held = document.activeElement?.closest?.(".film") !== null;
    $(".film").replaceChildren(...list.map(thumbnail));
    if (held) $(".film").children[state.at]?.focus();
    const pair = list[state.at];
    const [box, hint] = (gallery.show === "texts" ? texts : { slider, blink, side, difference }[state.mode])(pair);
    $(".stage").replaceChildren(box, make("p", { className: "hint-line", textContent: hint }));
    facts(pair);
  }

  const pick = (name) => (event) => { state[name] = event.currentTarget.dataset[name]; if (name !== "mode") state.at = 0; draw(); };
  for (const name of ["arm", "kind", "mode"]) all(`[data-${name}]`, viewer).forEach((button) => button.addEventListener("click", pick(name)));
  all("[role=tablist]", viewer).forEach((list) => list.addEventListener("keydown", (event) => {
    const tabs = all("[role=tab]:not([hidden])", list), step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    next.click();
    next.focus();
  }));
  viewer.addEventListener("keydown", (event) => {
    const step = { "[": -1, "]": 1 }[event.key], count = chosen().length;
    if (step) { state.at = (state.at + step + count) % count; draw(); }
  });
  draw();

  if (gallery.show === "pictures") {
    for (const arm of arms.keys()) {
      const mine = gallery.pairs.filter((pair) => pair.arm === arm), worst = mine.filter((pair) => pair.kind === "worst");
      const list = (worst.length ? worst : mine).slice(0, 3);
      if (!list.length) continue;
      const cells = list.map((pair) => make("div", {}, picture(pair.left, "", base), " ", picture(pair.right, "", arms.get(arm)), make("p", { textContent: `${pair.caption || pair.item}, seed ${pair.seed}` })));
      const title = make("h3", { textContent: `${base} (left) and ${arms.get(arm)} (right)${worst.length ? ", worst units" : ""}` });
      $(".print-pairs").append(make("div", {}, title, make("div", { className: "three" }, ...cells)));
    }
  }
}

// Copy and downloads, all made from the report inside this page.
all("[data-copy]").forEach((button) => button.addEventListener("click", async () => {
  const source = document.getElementById(button.dataset.copy);
  try { await navigator.clipboard.writeText(source.textContent); } catch {
    getSelection().selectAllChildren(source);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}));
const field = (value) => { const text = value === null || value === undefined ? "" : String(value); return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text; };
const csv = (lines) => lines.map((line) => line.map(field).join(",")).join("\n") + "\n";
const tex = (text) => String(text).replace(/[\\&%$#_{}~^]/g, (sign) => ({ "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" })[sign] || "\\" + sign);
const files = {
  "cells.csv": () => csv([
    ["arm", "metric", "unit", "value", "value_low", "value_high", "baseline_value", "delta", "delta_low", "delta_high", "method", "units", "clusters", "p", "p_adjusted", "margin", "verdict", "needed", "sentence"],
    ...report.cells.map((cell) => [cell.arm, cell.metric, metrics.get(cell.metric).unit, cell.value, ...(cell.value_interval || [null, null]), cell.baseline_value, cell.delta, ...(cell.interval || [null, null]), cell.method, cell.units, cell.clusters, cell.p, cell.p_adjusted, metrics.get(cell.metric).margin, cell.verdict, cell.needed, cell.sentence]),
  ]),
  "rows.csv": () => {
    const lines = Object.entries(table.rows).flatMap(([metric, held]) => Object.entries(held).flatMap(([arm, runs]) => runs.flatMap((rows, run) => rows.map((row) => [arm, run, metric, ...table.units[row[0]], ...row.slice(1)]))));
    const wide = lines.reduce((most, line) => Math.max(most, line.length), 6);
    return csv([["arm", "replica", "metric", "item", "seed", ...Array.from({ length: wide - 5 }, (_, k) => `column_${k}`)], ...lines]);
  },
  "table.tex": () => {
    const order = [...metrics.values()].sort((a, b) => b.primary - a.primary);
    const math = (value) => value === null ? "--" : `$${+value.toPrecision(3)}$`;
    const lines = report.arms.map((arm) => [tex(arms.get(arm.name)), ...order.map((metric) => {
      const cell = report.cells.find((one) => one.arm === arm.name && one.metric === metric.name);
      if (!cell) return "--";
      const pair = cell.interval || (cell.verdict === "baseline" ? null : cell.value_interval), main = cell.delta === null ? cell.value : cell.delta;
      return math(main) + (pair ? ` [${pair.map(math).join(", ")}]` : "") + (["baseline", "none"].includes(cell.verdict) ? "" : ` ${cell.verdict}`);
    })].join(" & ") + " \\\\");
    return `% arm & ${order.map((metric) => tex(metric.label || metric.name)).join(" & ")}; differences to ${tex(arms.get(report.baseline))} with 95 \\% intervals, drifts and the baseline as values\n${lines.join("\n")}\n`;
  },
  "report.json": () => JSON.stringify(report, null, 1) + "\n",
};
for (const link of all("[data-file]")) link.href = URL.createObjectURL(new Blob([files[link.dataset.file]()], { type: "text/plain;charset=utf-8" }));
