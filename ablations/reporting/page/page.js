// Glue between the page's controls, its plots and its tables. Text from records reaches the page as
// text nodes only; no statistics are computed here (see loss.js for the loss).
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const { cells, trials, metrics } = data;
const find = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const views = {};
const drawn = {};

const labels = cells.map((cell) => cell.label);
const finished = trials.filter((trial) => trial.values);
const models = finished.filter((trial) => data.logits[trial.id]);
const baselines = Object.keys(data.differences.baselines);
const seen = Object.keys(data.detections.cells || {});
const usual = trials.find((trial) => trial.id === data.usual_trial);
const usualCell = usual ? labels[usual.cell] : labels[0];
const other = seen.includes(data.baseline) ? data.baseline : seen[0];
const options = {
  metric: metrics, cell: labels, baseline: baselines, left: seen, right: seen,
  model: models.map((trial) => trial.id),
};
const start = {
  metric: "AP", cell: usualCell, gamma: "2", alpha: "0.25", score: "0.3", filter: "", sort: "",
  baseline: baselines.includes(data.baseline) ? data.baseline : baselines[0],
  model: models.includes(usual) ? usual.id : options.model[0],
  left: other, right: seen.includes(usualCell) ? usualCell : seen.find((cell) => cell !== other),
};
const state = {};

/** An element with attributes and children; a string child becomes text, never markup. */
function element(name, attributes = {}, ...children) {
  const svg = ["svg", "rect", "text", "image"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const fixed = (value, digits = 1) => (value === null || value === undefined ? "-" : value.toFixed(digits));
const signed = (value) => (value > 0 ? "+" : "") + fixed(value);
const withHalf = (mean, half) => (half === null ? "-" : `${signed(mean)} ± ${fixed(half)}`);
const pValue = (p) => (p === null ? "-" : p < 0.001 ? "< 0.001" : p.toFixed(3));
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const byId = (id) => trials.find((trial) => trial.id === id);
const said = (id, text) => { find(`#${id}`).textContent = text; };

/** Show a plot's named rows, or hide it where it has none. Its description, for a screen reader, is the finding. */
function draw(name, rows, finding) {
  const box = find(`#chart-${name}`);
  const some = Boolean(data.charts[name]) && rows.rows.length > 0;
  const description = `${box.dataset.label}. ${finding}`;
  drawn[name] = rows.rows;
  box.parentElement.hidden = !some;
  if (some && !views[name]) views[name] = embed(box, { ...data.charts[name], datasets: rows, description });
  else if (some) views[name].then((view) => {
    for (const [key, values] of Object.entries(rows)) view.data(key, values);
    view.description(description).resize().runAsync();
  });
}

async function embed(box, spec) {
  // ast: without eval, which the page's policy forbids.
  const { view } = await vegaEmbed(box, spec, { actions: false, ast: true, renderer: "svg", defaultStyle: false, tooltip });
  view.addEventListener("click", (event, item) => labels.includes(item?.datum?.cell) && show(item.datum.cell));
  return view;
}

function drawMetric() {
  const index = metrics.indexOf(state.metric);
  const rows = cells.map((cell) => {
    const [mean, low, high] = cell.values[index];
    const interval = low === null ? "-" : `${fixed(low)} to ${fixed(high)}`;
    const text = mean === null ? cell.problems : fixed(mean);
    const half = low === null ? "" : `± ${fixed(high - mean)}`;
    const seeds = finished.filter((trial) => labels[trial.cell] === cell.label).length;
    return { cell: cell.label, x: cell.x, line: cell.line, at: cell.at, mean, low, high, interval, seeds, text, half, problems: cell.problems };
  });
  const placed = data.coordinates ? rows.filter((row) => row.x !== undefined) : rows;
  const points = finished.map((trial) => ({ ...cells[trial.cell], cell: labels[trial.cell], seed: trial.seed, value: trial.values[index] }))
    .filter((row) => row.value !== null && (!data.coordinates || row.x !== undefined))
    .map(({ cell, line, at, seed, value }) => ({ cell, line, at, seed, value }));
  const level = rows.filter((row) => row.cell === data.baseline && row.mean !== null);
  const finding = data.findings[index];
  said("grid-finding", finding);
  draw("metric", { rows: placed.filter((row) => row.mean !== null), seeds: points, ...(data.coordinates && { baseline: level }) }, finding);
  draw("heat", { rows: placed }, finding);
}

function drawCells() {
  const table = find("#cells-table");
  const rows = [...table.tBodies[0].rows];
  const words = state.filter.toLowerCase().split(/\s+/);
  for (const row of rows) {
    row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    row.classList.toggle("chosen", row.querySelector("[data-cell]").dataset.cell === state.cell);
  }
  said("cells-count", `${rows.filter((row) => !row.hidden).length} of ${rows.length} cells`);
  const [column, order] = state.sort ? state.sort.split(" ") : ["0", "ascending"];
  const value = (row) => row.cells[column].dataset.value;
  const compare = (a, b) => (a === "") - (b === "") || (order === "descending" ? -1 : 1) * a.localeCompare(b, "en", { numeric: true });
  const numeric = rows.every((row) => value(row) === "" || !isNaN(value(row)));
  const number = (a, b) => (a === "") - (b === "") || (order === "descending" ? b - a : a - b);
  table.tBodies[0].append(...rows.sort((a, b) => (numeric ? number : compare)(value(a), value(b))));
  all("#cells-table thead th").forEach((head, i) => head.setAttribute("aria-sort", state.sort && i === Number(column) ? order : "none"));
}

function drawBaseline() {
  const chosen = data.differences.baselines[state.baseline];
  if (!chosen) {
    draw("differences", { rows: [] }, "");
    return said("baseline-finding", "There is nothing to compare.");
  }
  const rows = chosen.rows.map(([cell, seeds, difference, half, total, p, pSeeds, pTotal, verdict]) => ({
    cell: labels[cell], seeds, difference, p, p_corrected_over_seeds: pSeeds, p_corrected_seeds_and_images: pTotal, verdict,
    low_seeds: half === null ? null : difference - half, high_seeds: half === null ? null : difference + half,
    low_total: total === null ? null : difference - total, high_total: total === null ? null : difference + total,
    over_seeds: withHalf(difference, half), over_seeds_and_images: withHalf(difference, total),
  }));
  said("baseline-finding", chosen.finding);
  draw("differences", { rows: rows.filter((row) => row.difference !== null) }, chosen.finding);
  find("#differences-table tbody").replaceChildren(...rows.map((row) => element("tr", {}, element("th", { scope: "row" }, row.cell),
    ...[row.seeds, row.over_seeds === "-" && row.difference !== null ? signed(row.difference) : row.over_seeds, row.over_seeds_and_images,
      pValue(row.p), pValue(row.p_corrected_over_seeds), pValue(row.p_corrected_seeds_and_images), row.verdict].map((text) => element("td", {}, String(text))))));
}

function drawLoss() {
  const [gamma, alpha] = [Number(state.gamma), Number(state.alpha)];
  const grid = Array.from({ length: 141 }, (_, i) => -6 + i / 10);
  const sides = [["positives", alpha], ["negatives", 1 - alpha]];
  const both = (row) => sides.flatMap(([kind, weight]) => grid.map((x) => ({ kind, curve: `${kind}, γ = ${gamma}, α = ${alpha}`, ...row(x, weight) })));
  draw("loss", { references: data.shapes.loss, rows: both((x, weight) => ({ p: Math.exp(logSigmoid(x)), loss: weight * focalLoss(x, gamma) })) }, `At γ = ${gamma} and α = ${alpha} a sample with p of 0.5 has a loss of ${focalLoss(0, gamma).toFixed(3)} nats before α.`);
  draw("slope", { references: data.shapes.slope, rows: both((x, weight) => ({ x, slope: weight * focalLossDerivative(x, gamma) })).filter((row) => Math.abs(row.x) <= 5) }, `At γ = ${gamma} the derivative at a logit of 0 is ${focalLossDerivative(0, gamma).toFixed(3)} before α.`);
  const kept = data.logits[state.model];
  if (!kept) {
    for (const name of ["positives", "negatives"]) draw(name, { rows: [] }, "");
    return said("loss-finding", "No finished trial kept the logits that the loss CDFs need.");
  }
  const found = { positives: lossCdf(kept.positive, 1, gamma), negatives: lossCdf(kept.negative, -1, gamma) };
  const rows = (cdf, curve) => cdf.fraction.map((fraction, i) => ({ curve, fraction, share: cdf.share[i] }));
  const whole = { positives: alpha * found.positives.mean * kept.positive.total, negatives: (1 - alpha) * found.negatives.mean * kept.negative.total };
  const shares = [hardest(found.positives, data.hardest.positive), hardest(found.negatives, data.hardest.negative), whole.negatives / (whole.positives + whole.negatives)];
  const finding = `At γ = ${gamma} the hardest ${100 * data.hardest.positive} % of the positives hold ${percent(shares[0])} of the positives' loss and the hardest ${100 * data.hardest.negative} % of the negatives ${percent(shares[1])} of the negatives'. With α = ${alpha} the negatives hold ${percent(shares[2])} of the whole loss.`;
  find("#loss-finding").dataset.shares = JSON.stringify(shares);
  said("loss-finding", finding);
  for (const [name, bins, sign] of [["positives", kept.positive, 1], ["negatives", kept.negative, -1]]) {
    const references = data.cdf_gammas.flatMap((value) => rows(lossCdf(bins, sign, value), `γ = ${value}`));
    draw(name, { references, rows: rows(found[name], `γ = ${gamma}, chosen`) }, finding);
  }
}

function drawTrials() {
  const own = trials.filter((trial) => labels[trial.cell] === state.cell);
  const index = metrics.indexOf(state.metric);
  said("trials-table thead th:nth-child(3)", state.metric);
  find("#trials-table tbody").replaceChildren(...own.map((trial) => element("tr", {}, element("th", { scope: "row" }, String(trial.seed)),
    ...[trial.state, fixed(trial.values?.[index]), fixed(trial.device_s), (trial.commit || "-") + (trial.dirty ? " with changes" : ""), trial.id].map((text) => element("td", {}, text)),
    element("td", { class: "words" }, [trial.reason, trial.from && `taken over from ${trial.from}`].filter(Boolean).join("; ") || "-"))));
  const shown = trials.filter((trial) => [state.cell, state.baseline].includes(labels[trial.cell]) && data.curves[trial.id])
    .sort((a, b) => (labels[b.cell] === state.cell) - (labels[a.cell] === state.cell));
  const rows = shown.flatMap((trial) => { const curve = data.curves[trial.id]; return curve.iteration.map((iteration, i) => ({ cell: labels[trial.cell], seed: trial.seed, iteration, classification: curve.classification[i], boxes: curve.boxes[i], negatives: curve.negatives[i] })); });
  const parts = ["classification", "boxes"].flatMap((part) => rows.map((row) => ({ cell: row.cell, seed: row.seed, iteration: row.iteration, part, loss: row[part] })));
  const ends = Map.groupBy(shown.filter((trial) => data.curves[trial.id].negatives.at(-1) !== null), (trial) => labels[trial.cell]);
  const last = [...ends].map(([cell, of]) => { const values = of.map((trial) => data.curves[trial.id].negatives.at(-1)); return `${cell} ${fixed(Math.min(...values))} to ${fixed(Math.max(...values))} %`; });
  const finding = last.length ? `The negatives' share of the classification loss at the end, over the seeds: ${last.join("; ")}.` : rows.length ? "This loss cannot be split into positives and negatives." : "No training curve of this cell is at hand.";
  said("trials-finding", finding);
  draw("training", { rows: parts.filter((row) => row.loss > 0) }, finding);
  draw("share", { rows: rows.filter((row) => row.negatives !== null) }, finding);
}

function drawDetections() {
  const { images, classes, cells: found, note } = data.detections;
  if (!images) return find("#detections-body").replaceChildren(element("p", {}, note));
  const score = Number(state.score);
  let kept = 0;
  const picture = (image, boxes, title, kind) => {
    const size = image.width / 20;
    const named = ([x, y, width, height, name, value]) => [
      element("rect", { x, y, width, height, class: "halo" }), element("rect", { x, y, width, height, class: kind }),
      element("text", { x, y: Math.max(y - size / 4, size), "font-size": size, "stroke-width": size / 5 }, classes[name] + (value === undefined ? "" : ` ${value.toFixed(2)}`))];
    const what = boxes.map((box) => classes[box[4]]).join(", ") || "nothing";
    return element("figure", {}, element("svg", { viewBox: `0 0 ${image.width} ${image.height}`, role: "img", "aria-label": `${title}: ${what}` },
      element("image", { href: image.jpeg, width: image.width, height: image.height }), ...boxes.flatMap(named)), element("figcaption", {}, title));
  };
  find("#images").replaceChildren(...images.map((image, i) => element("div", { class: "compared" }, picture(image, image.truth, "truth", "truth"),
    ...["left", "right"].filter((side) => found[state[side]]).map((side) => {
      const boxes = found[state[side]].boxes[i].filter((box) => box[5] >= score);
      kept += boxes.length;
      return picture(image, boxes, `${state[side]}, seed ${found[state[side]].seed}`, "found");
    }))));
  said("detections-finding", `${kept} detections scored ${score} or more on ${images.length} images, by both cells together; the images hold ${images.reduce((n, image) => n + image.truth.length, 0)} objects.`);
}

const draws = {
  metric: [drawMetric, drawTrials], cell: [drawCells, drawTrials], baseline: [drawBaseline, drawTrials], filter: [drawCells], sort: [drawCells],
  gamma: [drawLoss], alpha: [drawLoss], model: [drawLoss], score: [drawDetections], left: [drawDetections], right: [drawDetections],
};

/** Change the state, the address and what depends on either. */
function set(changes) {
  Object.assign(state, changes);
  for (const control of all("[data-state]")) control.value = state[control.dataset.state] ?? "";
  for (const output of all("[data-shows]")) output.textContent = state[output.dataset.shows];
  const changed = Object.entries(state).filter(([key, value]) => value !== undefined && value !== start[key]);
  history.replaceState(null, "", `#${new URLSearchParams(changed)}`);
  for (const redraw of new Set(Object.keys(changes).flatMap((key) => draws[key]))) redraw();
}

/** The state that an address names; what it names wrongly is left out. */
function fromAddress() {
  const asked = [...new URLSearchParams(location.hash.slice(1))].filter(([key, value]) => {
    const control = find(`[data-state="${CSS.escape(key)}"]`);
    if (options[key]) return options[key].includes(value);
    if (key === "sort") return /^\d (ascending|descending)$/.test(value);
    return key in start && (control.type !== "range" || (value !== "" && value >= Number(control.min) && value <= Number(control.max)));
  });
  return { ...start, ...Object.fromEntries(asked) };
}

function save(name, type, text) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

function csv(rows) {
  const names = Object.keys(rows[0] || {});
  const quoted = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  return [names, ...rows.map((row) => names.map((name) => String(row[name] ?? "")))].map((line) => line.map(quoted).join(",")).join("\n") + "\n";
}

function listen() {
  for (const control of all("[data-state]")) control.addEventListener("input", () => set({ [control.dataset.state]: control.value }));
  for (const button of all("[data-cell]")) button.addEventListener("click", () => show(button.dataset.cell));
  for (const button of all("[data-column]")) button.addEventListener("click", () => {
    const again = state.sort === `${button.dataset.column} descending`;
    set({ sort: `${button.dataset.column} ${again ? "ascending" : "descending"}` });
  });
  for (const button of all("[data-save]")) button.addEventListener("click", async () => {
    const { save: kind, chart } = button.dataset;
    if (kind === "csv") save(`${chart}.csv`, "text/csv", csv(drawn[chart]));
    else save(`${chart}.svg`, "image/svg+xml", await (await views[chart]).toSVG());
  });
  for (const link of all("nav a")) link.addEventListener("click", (event) => { event.preventDefault(); go(link.hash); });
  addEventListener("hashchange", () => set(fromAddress()));
}

function go(section) {
  find(section).focus({ preventScroll: true });
  find(section).scrollIntoView();
}

/** A cell's trials. */
function show(cell) {
  set({ cell });
  go("#trials");
}

/** A tooltip that shows a value's entries as text. */
function tooltip(handler, event, item, value) {
  const tip = find(".tip") || document.body.appendChild(element("div", { class: "tip", role: "presentation" }));
  tip.hidden = !value;
  if (!value) return;
  tip.replaceChildren(...Object.entries(value).map(([key, text]) => element("div", {}, `${key}: ${text}`)));
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${event.clientY + 14}px`;
}

async function main() {
  for (const select of all("select[data-state]")) {
    const named = { model: (id) => `${labels[byId(id).cell]}, seed ${byId(id).seed}` }[select.dataset.state] || ((value) => value);
    select.replaceChildren(...options[select.dataset.state].map((value) => element("option", { value }, named(value))));
    select.closest("label").hidden = options[select.dataset.state].length === 0;
  }
  listen();
  set(fromAddress());
  await Promise.all(Object.values(views));
  document.documentElement.dataset.ready = "true";
}

main();
