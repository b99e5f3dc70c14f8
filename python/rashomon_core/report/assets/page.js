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
  datasets.models = kept();
  const views = [];
  for (const [id, spec] of Object.entries(specs)) {
    for (const table of spec.data) {
      if (Object.hasOwn(datasets, table.name)) table.values = datasets[table.name];
    }
    const place = document.getElementById(id);
    const { view } = await vegaEmbed(place, spec, {
      ...options,
      downloadFileName: id,
      tooltip: { formatTooltip: shown(spec.usermeta.tips) },
    });
    const names = (things) => new Set((things || []).map((thing) => thing.name));
    views.push({ view, signals: names(spec.signals), tables: names(spec.data) });
    if (views.length === 1) performance.mark("first chart");
    if (views.length < 4) await new Promise((done) => setTimeout(done)); // the page can be read meanwhile
  }
  for (const control of controls) {
    const name = control.dataset.filter;
    control.addEventListener("change", () => {
      chosen[name] = control.type === "checkbox" ? control.checked : control.value;
      for (const other of controls) {
        if (other !== control && other.dataset.filter === name) other.value = chosen[name];
      }
      const rows = kept();
      for (const { view, signals, tables } of views) {
        if (filtered.has(name) && tables.has("models")) view.data("models", rows).runAsync();
        if (signals.has(name)) view.signal(name, chosen[name]).runAsync();
      }
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
  performance.mark("all charts");
  document.documentElement.dataset.ready = String(views.length);
})();
