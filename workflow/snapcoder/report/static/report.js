"use strict";
/* The table of features and their cards. Text from the study only ever becomes text nodes, never markup. */
(() => {
  const data = window.snapcoder;
  if (!data) return;
  const rows = data.features, PER_PAGE = 40, SVG = "http://www.w3.org/2000/svg";
  const columns = [
    ["feature", "feature", "number"], ["line", "history", ""], ["text", "about", "tokens"], ["class", "class", "word"],
    ["type", "type", "word"], ["onset_hi", "onset", "number"], ["peak_step", "peak", "number"],
    ["lifetime_frac", "lifetime", "number"], ["rate_final", "final rate", "number"], ["complexity", "level", "number"],
    ["strength", "strength", "number"], ["tasks", "tasks", "word"],
  ];
  const state = { sort: "strength", down: true, page: 0, shown: [], open: null };
  const cards = new Map(), waiting = new Map();
  const byId = (id) => document.getElementById(id);

  function make(tag, properties = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name === "class") node.className = value; else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined).map((child) => child instanceof Node ? child : document.createTextNode(String(child))));
    return node;
  }
  function draw(tag, attributes, ...children) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }
  const visible = (token) => token === "" ? "∅" : token.replace(/\n/g, "⏎").replace(/\r/g, "␍").replace(/\t/g, "⇥");
  const count = (value) => value === null || value === undefined ? "–" : Number(value).toLocaleString("en-US", { maximumSignificantDigits: 4 });
  const percent = (value) => value === null || value === undefined ? "–" : (100 * value).toLocaleString("en-US", { maximumSignificantDigits: 3 }) + "%";
  const interval = (low, high) => high === null || high === undefined ? "never" : low === null || low === undefined ? "≤ " + count(high) : count(low) + "–" + count(high);
  const token = (text) => make("span", { class: "token" }, visible(text));
  const place = (step) => Math.log10(step === 0 ? 0.5 : step);

  /* table */
  function matches(index, query, kind, type, carrying) {
    if (kind && rows.class[index] !== kind) return false;
    if (type && rows.type[index] !== type) return false;
    if (carrying && !rows.tasks[index].length) return false;
    if (!query) return true;
    if (/^\d+$/.test(query) && String(rows.feature[index]) === query) return true;
    return rows.text[index].toLowerCase().includes(query);
  }
  function compare(a, b) {
    let x = rows[state.sort][a], y = rows[state.sort][b];
    if (Array.isArray(x)) { x = x.join(","); y = y.join(","); }
    const missing = (value) => value === null || value === undefined || value === "";
    if (missing(x) || missing(y)) return missing(x) && missing(y) ? a - b : missing(x) ? 1 : -1;
    const order = typeof x === "number" ? x - y : x < y ? -1 : x > y ? 1 : 0;
    return (state.down ? -order : order) || a - b;
  }
  function select() {
    const query = byId("query").value.trim().toLowerCase(), kind = byId("class").value, type = byId("type").value, carrying = byId("carrying").checked;
    state.shown = [];
    for (let index = 0; index < rows.feature.length; index++) if (matches(index, query, kind, type, carrying)) state.shown.push(index);
    state.shown.sort(compare);
    state.page = 0;
    show();
  }
  function spark(line) {
    const width = 84, height = 18, last = Math.max(line.length - 1, 1);
    const points = Array.from(line, (level, i) => `${(2 + i * (width - 4) / last).toFixed(1)},${(height - 2 - parseInt(level, 36) / 35 * (height - 4)).toFixed(1)}`);
    return draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", class: "chart" }, draw("polyline", { points: points.join(" "), class: "norm" }));
  }
  function cell(name, index) {
    const value = rows[name][index];
    switch (name) {
      case "line": { const svg = spark(value); svg.setAttribute("class", "chart"); svg.style.width = "84px"; return svg; }
      case "class": return make("span", {}, make("span", { class: "dot " + value }), value);
      case "onset_hi": return interval(rows.onset_lo[index], value);
      case "lifetime_frac": case "rate_final": return percent(value);
      case "text": return make("span", {}, ...value.split("\u0001").filter((text, i, all) => all.length > 1 || text).slice(0, 6).map(token));
      case "tasks": return value.join(", ");
      case "type": return value || "–";
      case "strength": return value === null ? "–" : value.toPrecision(2);
      default: return count(value);
    }
  }
  function show() {
    const pages = Math.max(1, Math.ceil(state.shown.length / PER_PAGE)), body = byId("rows").tBodies[0];
    const part = state.shown.slice(state.page * PER_PAGE, (state.page + 1) * PER_PAGE);
    body.replaceChildren(...part.map((index) => {
      const feature = rows.feature[index];
      return make("tr", { tabindex: "0", class: state.open === feature ? "open" : "", "data-feature": feature,
        onclick: () => { location.hash = "feature-" + feature; }, onkeydown: (event) => { if (event.key === "Enter") location.hash = "feature-" + feature; } },
      ...columns.map(([name, , style]) => make("td", { class: style }, cell(name, index))));
    }));
    byId("count").textContent = `${count(state.shown.length)} of ${rows.feature.length.toLocaleString("en-US")} features`;
    byId("page").textContent = `page ${state.page + 1} of ${pages}`;
    byId("previous").disabled = state.page === 0;
    byId("next").disabled = state.page >= pages - 1;
    for (const head of byId("rows").tHead.querySelectorAll("th")) head.setAttribute("aria-sort", head.dataset.name === state.sort ? (state.down ? "descending" : "ascending") : "none");
  }
  function sortBy(name) {
    state.down = state.sort === name ? !state.down : name === "strength" || name === "rate_final" || name === "lifetime_frac";
    state.sort = name;
    select();
  }

  /* cards, loaded in shards when one is wanted */
  data.receive = (number, shard) => {
    for (const [feature, card] of Object.entries(shard)) cards.set(Number(feature), card);
    for (const done of waiting.get(number) || []) done();
    waiting.delete(number);
  };
  function load(number) {
    return new Promise((done, fail) => {
      if (waiting.has(number)) { waiting.get(number).push(done); return; }
      waiting.set(number, [done]);
      const script = make("script", { src: `data/cards-${String(number).padStart(2, "0")}.js` });
      script.onerror = () => { waiting.delete(number); fail(new Error("its data file is missing")); };
      document.head.append(script);
    });
  }
  function chart(card) {
    const width = 620, height = 190, left = 52, right = 54, top = 12, bottom = 30;
    const steps = data.steps, places = steps.map(place), first = places[0], span = Math.max(places[places.length - 1] - first, 1e-9);
    const x = (step) => left + (place(step) - first) / span * (width - left - right);
    const highest = Math.max(...card.rate.map((value) => value || 0)), maxRate = highest || 1, maxNorm = Math.max(...card.norm.map((value) => value || 0), 1e-9);
    const y = (share) => height - bottom - share * (height - top - bottom);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": "norm and firing rate over snapshots" });
    const time = card.timing;
    if (time.onset_hi !== null && time.onset_lo !== null) {
      svg.append(draw("rect", { x: x(time.onset_lo), width: Math.max(x(time.onset_hi) - x(time.onset_lo), 2), y: top, height: height - top - bottom, class: "onset" }));
    }
    const label = (text, at, anchor, dy) => { const node = draw("text", { x: at, y: dy, "text-anchor": anchor }); node.textContent = text; return node; };
    for (const share of [0, 0.5, 1]) {
      svg.append(draw("line", { x1: left, x2: width - right, y1: y(share), y2: y(share), class: "grid" }));
      svg.append(label((share * maxNorm).toPrecision(2), left - 6, "end", y(share) + 4), label(share && !highest ? "" : percent(share * maxRate), width - right + 6, "start", y(share) + 4));
    }
    let free = -Infinity;
    for (const step of steps) {
      if (x(step) - free > 34) { svg.append(label(count(step), x(step), "middle", height - 10)); free = x(step); }
      svg.append(draw("line", { x1: x(step), x2: x(step), y1: height - bottom, y2: height - bottom + 4, class: "grid" }));
    }
    for (const [name, values, most] of [["rate", card.rate, maxRate], ["norm", card.norm, maxNorm]]) {
      const known = steps.map((step, i) => [step, values[i], data.added[i]]).filter((entry) => entry[1] !== null);
      svg.append(draw("polyline", { points: known.map(([step, value]) => `${x(step).toFixed(1)},${y(value / most).toFixed(1)}`).join(" "), class: name }));
      for (const [step, value, added] of known) svg.append(draw("circle", { cx: x(step), cy: y(value / most), r: 3, class: `${name}-mark${added ? " added" : ""}` }));
    }
    return svg;
  }
  function pairs(entries) {
    return make("dl", { class: "pairs" }, ...entries.filter((entry) => entry[1] !== undefined).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  }
  function example(item) {
    const most = Math.max(...item.acts.map((entry) => entry[1]), 1e-9), acts = new Map(item.acts);
    const context = make("div", { class: "context" }, ...item.tokens.map((text, i) => {
      const act = acts.get(i), span = make("span", i === item.focus ? { class: "focus" } : {}, visible(text));
      if (act) { span.style.background = `rgba(var(--heat), ${(0.12 + 0.6 * act / most).toFixed(2)})`; span.title = "code " + count(act); }
      return span;
    }));
    const since = item.by.findIndex((value) => value > 0);
    const when = since >= 0 ? `fires here from step ${count(data.steps[since])}` : "gated off at every snapshot";
    return make("div", { class: "example", title: when }, make("div", { class: "act" }, count(item.act)), context);
  }
  function body(card) {
    const time = card.timing, kind = card.complexity, parts = [];
    parts.push(make("div", { class: "chips" }, make("span", { class: "chip" }, make("span", { class: "dot " + time.class }), time.class),
      kind.type ? make("span", { class: "chip" }, "type: " + kind.type) : null, kind.complexity ? make("span", { class: "chip" }, `complexity ${kind.complexity} of 5`) : null,
      ...card.tasks.filter((item) => item.rank <= 10).map((item) => make("span", { class: "chip" }, "carries " + item.task))));
    parts.push(chart(card), make("p", { class: "legend" }, make("span", { class: "swatch norm" }), "decoder norm (left)", make("span", { class: "swatch rate" }), "firing rate (right); shaded: onset by norm; open points: added snapshots"));
    parts.push(make("h3", {}, "Timing"), pairs([["onset by norm", interval(time.onset_lo, time.onset_hi)], ["onset by firing", interval(time.onset_alive_lo, time.onset_alive_hi)],
      ["peak", count(time.peak_step)], ["present in", percent(time.lifetime_frac) + " of snapshots"], ["fades for good at", time.onset_hi === null ? "–" : time.offset_step === null ? "never" : count(time.offset_step)],
      ["turns fastest up to", count(time.turn_step)], ["direction settled from", count(time.stabilised_step)], ["cosine first–final", count(time.cos_first_final)], ["mean rate", percent(time.rate_mean)], ["final rate", percent(time.rate_final)], ["largest code", count(time.act_max)]]));
    const proof = card.evidence, seeds = card.stability;
    if (proof.verdict) {
      parts.push(make("h3", {}, "Evidence"), pairs([["onset by all evidence", proof.onset_lo === null && proof.onset_hi === null ? "–" : interval(proof.onset_lo, proof.onset_hi)],
        ["set by", proof.evidence], ["verdict", proof.verdict.replaceAll("_", " ")], ["evidences that agree", percent(proof.agreement)]]));
    }
    if (seeds.n_seeds) {
      parts.push(make("h3", {}, `In ${seeds.n_seeds} other seeds of the dictionary`), pairs([["found again in", percent(seeds.seed_shared_share) + " of them"],
        ["cosine with its match", count(seeds.seed_match_cos)], ["same onset ± 1 snapshot", seeds.onset_near_share === null ? "–" : percent(seeds.onset_near_share)]]));
    }
    if (kind.n_active !== null && kind.n_active !== undefined) {
      parts.push(make("h3", {}, "What it is about"), pairs([["strongest token", kind.top_token === null ? "–" : token(kind.top_token)], ["its share", percent(kind.top_token_share)], ["explained by token alone", percent(kind.token_r2)],
        ["by previous token", percent(kind.prev_r2)], ["by both", percent(kind.bigram_r2)], ["by position", percent(kind.position_r2)], ["repeat score", count(kind.repeat_score)], ["tokens that fire it", count(kind.n_active)]]));
    }
    if (card.tasks.length) {
      parts.push(make("h3", {}, "Tasks"), pairs(card.tasks.map((item) => [item.task, `rank ${item.rank} at step ${count(item.step)}, ${count(item.attr)} ± ${count(item.se)} logits`])));
    }
    for (const [name, title] of [["top", "Strongest examples"], ["quantile", "Weaker examples"]]) {
      const chosen = card.examples.filter((item) => item.kind === name);
      if (chosen.length) parts.push(make("h3", {}, title), ...chosen.map(example));
    }
    for (const moment of ["onset", "final"]) {
      const found = card.logits[moment];
      if (!found) continue;
      const list = (items) => make("div", {}, ...items.map(([text, value]) => { const node = token(text); node.title = count(value) + " logits per unit code"; return node; }));
      parts.push(make("h3", {}, `Tokens at ${moment === "final" ? "the last snapshot" : "onset"} (step ${count(found.step)})`),
        make("div", { class: "columns2" }, make("div", {}, make("h4", {}, "promotes"), list(found.promotes)), make("div", {}, make("h4", {}, "suppresses"), list(found.suppresses))));
    }
    return parts;
  }
  function neighbour(feature, by) {
    const at = state.shown.findIndex((index) => rows.feature[index] === feature) + by;
    return at >= 0 && at < state.shown.length ? rows.feature[state.shown[at]] : null;
  }
  function close() {
    if (state.open === null) return;
    const row = document.querySelector(`tr[data-feature="${state.open}"]`);
    state.open = null;
    byId("card").hidden = true;
    history.replaceState(null, "", "#features");
    show();
    if (row) { const again = document.querySelector(`tr[data-feature="${row.dataset.feature}"]`); if (again) again.focus({ preventScroll: true }); }
  }
  async function open(feature) {
    const index = rows.feature.indexOf(feature), panel = byId("card");
    state.open = feature;
    const go = (by) => { const other = neighbour(feature, by); return make("button", { type: "button", "aria-label": by < 0 ? "previous feature" : "next feature", ...(other === null ? { disabled: "" } : {}), onclick: () => { location.hash = "feature-" + other; } }, by < 0 ? "‹" : "›"); };
    const shut = make("button", { type: "button", "aria-label": "close", onclick: close }, "✕");
    panel.replaceChildren(make("header", {}, make("h2", {}, "Feature " + feature), go(-1), go(1), shut));
    panel.hidden = false;
    panel.scrollTop = 0;
    show();
    shut.focus({ preventScroll: true });
    if (index < 0) { panel.append(make("p", {}, "There is no such feature.")); return; }
    const shard = rows.shard[index];
    if (shard === null) { panel.append(make("p", {}, "No card: only the strongest features have one. Raise report.max_cards for more.")); return; }
    try {
      if (!cards.has(feature)) await load(shard);
      if (state.open === feature) panel.append(...body(cards.get(feature)));
    } catch (error) { panel.append(make("p", {}, "The card cannot be shown: " + error.message + ".")); }
  }
  function follow() {
    const named = /^#feature-(\d+)$/.exec(location.hash), table = /^#table-\w+$/.exec(location.hash);
    if (named) { open(Number(named[1])); return; }
    if (state.open !== null) { state.open = null; byId("card").hidden = true; show(); }
    if (table) { const target = document.querySelector(table[0]); if (target) { target.open = true; target.scrollIntoView(); } }
  }

  byId("rows").tHead.append(make("tr", {}, ...columns.map(([name, title, style]) => {
    const head = make("th", { class: style === "number" ? "number" : "", scope: "col" }, make("button", { type: "button", onclick: () => sortBy(name) }, title));
    head.dataset.name = name;
    return head;
  })));
  for (const id of ["class", "type", "carrying"]) byId(id).addEventListener("change", select);
  byId("query").addEventListener("input", select);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("previous").addEventListener("click", () => { state.page--; show(); });
  byId("next").addEventListener("click", () => { state.page++; show(); });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  window.addEventListener("hashchange", follow);
  select();
  follow();
})();
