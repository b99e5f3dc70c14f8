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
  const views = [];
  for (const [id, spec] of Object.entries(specs)) {
    for (const table of spec.data) {
      if (Object.hasOwn(datasets, table.name)) table.values = datasets[table.name];
    }
    const place = document.getElementById(id);
    const { view } = await vegaEmbed(place, spec, { ...options, downloadFileName: id });
    views.push({ view, names: new Set((spec.signals || []).map((s) => s.name)) });
  }
  for (const control of document.querySelectorAll("[data-filter]")) {
    const set = () => {
      const value = control.type === "checkbox" ? control.checked : control.value;
      const name = control.dataset.filter;
      for (const other of document.querySelectorAll(`[data-filter="${name}"]`)) {
        if (other !== control) other.value = value;
      }
      for (const one of views) {
        if (one.names.has(name)) one.view.signal(name, value).runAsync();
      }
    };
    control.addEventListener("change", set);
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
  document.documentElement.dataset.ready = String(views.length);
})();
