// Draws the charts of a report and binds its filters. Everything comes with the page: nothing is requested.
"use strict";
(async () => {
  const { specs, datasets } = JSON.parse(document.getElementById("data").textContent);
  const options = {
    mode: "vega",
    renderer: "svg",
    ast: true,
    actions: { export: true, source: false, compiled: false, editor: false },
  };
  const numbers = {
    percent: new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 2, maximumFractionDigits: 2 }),
    number: new Intl.NumberFormat("en", { minimumFractionDigits: 3, maximumFractionDigits: 3 }),
    short: new Intl.NumberFormat("en", { maximumSignificantDigits: 4 }),
    count: new Intl.NumberFormat("en"),
  };
  const text = (value, kind) => {
    if (kind === "member") return value ? "member" : "not in the set";
    return kind && Number.isFinite(value) ? numbers[kind].format(value) : String(value);
  };
  const shown = (tips) => (datum, sanitize) => {
    const rows = tips.filter(([field]) => datum[field] !== undefined && datum[field] !== null);
    const cells = rows.map(([field, title, kind]) => [title, text(datum[field], kind)].map(sanitize));
    const lines = cells.map(([key, value]) => `<tr><td class="key">${key}</td><td class="value">${value}</td></tr>`);
    return `<table>${lines.join("")}</table>`;
  };
  const controls = [...document.querySelectorAll("[data-filter]")];
  const chosen = {};
  for (const control of controls) chosen[control.dataset.filter] = control.type === "checkbox" ? control.checked : control.value;
  const every = datasets.models;
  const kept = () =>
    every.filter(
      (row) =>
        ["budget", "family", "method"].every((name) => !chosen[name] || row[name] === chosen[name]) &&
        (!chosen.members || row.member),
    );
  const filtered = new Set(["budget", "family", "method", "members"]);
  const views = [];
  const shownNow = ({ view, signals, tables }, names) => {
    if (tables.has("models") && names.some((name) => filtered.has(name))) view.data("models", kept());
    for (const name of names) if (signals.has(name)) view.signal(name, chosen[name]);
    view.runAsync();
  };
  const draw = async (id) => {
    const spec = specs[id];
    const place = document.getElementById(id);
    for (const table of spec.data) {
      if (table.name === "models") table.values = kept();
      else if (Object.hasOwn(datasets, table.name)) table.values = datasets[table.name];
    }
    for (const signal of spec.signals || []) {
      if (Object.hasOwn(chosen, signal.name)) signal.value = chosen[signal.name];
    }
    const before = { ...chosen };
    const { view } = await vegaEmbed(place, spec, {
      ...options,
      downloadFileName: id,
      tooltip: { formatTooltip: shown(spec.usermeta.tips) },
    });
    place.style.minHeight = "";
    const names = (things) => new Set((things || []).map((thing) => thing.name));
    const entry = { view, signals: names(spec.signals), tables: names(spec.data) };
    views.push(entry);
    const changed = Object.keys(chosen).filter((name) => chosen[name] !== before[name]);
    if (changed.length) shownNow(entry, changed); // while it was drawn
  };
  for (const control of controls) {
    const name = control.dataset.filter;
    control.addEventListener("change", () => {
      chosen[name] = control.type === "checkbox" ? control.checked : control.value;
      for (const other of controls) {
        if (other !== control && other.dataset.filter === name) other.value = chosen[name];
      }
      for (const entry of views) shownNow(entry, [name]);
    });
    control.disabled = false;
  }
  const details = () => [...document.querySelectorAll("details:not(.vega-embed details)")];
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = details().filter((d) => !d.open);
    for (const d of closed) d.open = true;
  });
  addEventListener("afterprint", () => {
    for (const d of closed) d.open = false;
  });
  // What is on the screen comes first, the rest from near to far, whenever the page has nothing else to do.
  const waiting = new Set(Object.keys(specs));
  for (const id of waiting) document.getElementById(id).style.minHeight = `${(specs[id].height || 200) + 50}px`;
  const distance = (id) => {
    const box = document.getElementById(id).getBoundingClientRect();
    return Math.max(0, box.top - innerHeight, -box.bottom);
  };
  const soon = (done) => setTimeout(done);
  const idle = window.requestIdleCallback || soon;
  let open = false;
  if (document.readyState === "loading") await new Promise((done) => addEventListener("DOMContentLoaded", done)); // scrolled to #part by then
  while (waiting.size) {
    const far = new Map([...waiting].map((id) => [id, distance(id)]));
    const next = [...waiting].reduce((one, other) => (far.get(other) < far.get(one) ? other : one));
    if (!open && far.get(next) > 0 && views.length) {
      open = true;
      performance.mark("charts on the screen");
    }
    await draw(next);
    waiting.delete(next);
    if (views.length === 1) performance.mark("first chart");
    await new Promise((done) => (open ? idle : soon)(done));
  }
  if (!open) performance.mark("charts on the screen");
  performance.mark("all charts");
  document.documentElement.dataset.ready = String(views.length);
})();
