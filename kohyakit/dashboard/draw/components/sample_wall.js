// Samples on a wall, prompt by run, every cell moved by the one slider. All pictures come from addresses the server
// allows; all words are set as text.
//
// data: {mode: "wall" | "split", steps: [{value, label}], start, columns: [{title, colour}], shape,
//        rows: [{prompt, wide (pixels, 0: unknown), cells: [[{step, label, src, full, seed}, …] a column]}], pairs: [{prompt, left, right}]}
const states = new WeakMap();

function el(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = text;
  return node;
}

// The newest sample that is not later than the slider; they come sorted by step.
function newest(samples, step) {
  let found = null;
  for (const sample of samples) if (sample.step <= step) found = sample; else break;
  return found;
}

function fill(cell, samples, step, row) {
  const sample = newest(samples, step);
  cell.current = sample;
  if (!sample || !sample.src) {
    cell.late.hidden = false;
    cell.button.hidden = true;
    if (sample) cell.late.textContent = "this picture lies outside the project";
    else cell.late.textContent = samples.length ? `first sample at ${samples[0].label}` : "no sample of this prompt";
    cell.current = null;
    cell.words.textContent = "";
    return;
  }
  cell.late.hidden = true;
  cell.button.hidden = false;
  if (cell.image.getAttribute("src") !== sample.src) cell.image.src = sample.src;
  cell.image.alt = row.prompt;
  cell.node.classList.toggle("late", sample.step !== step);
  cell.words.textContent = [sample.label, sample.seed === null ? "" : `seed ${sample.seed}`].filter(Boolean).join("  ·  ");
}

function makeCell(samples, row, column, state) {
  const node = el("figure", "cell"), button = el("button"), image = el("img"), words = el("figcaption"), late = el("div", "none");
  image.decoding = "async";
  image.loading = "lazy";
  button.append(image);
  node.append(button, late, words);
  const cell = { node, button, image, words, late, samples, row, column };
  button.onclick = () => openViewer(state, row);
  return cell;
}

function openViewer(state, row) {
  state.open = row;
  drawViewer(state);
  state.dialog.showModal();
}

function drawViewer(state) {
  const step = state.steps[state.at];
  // A column a run, as on the wall: its name above, and its place kept where it has no sample yet.
  const cells = state.cells.filter((cell) => cell.row === state.open);
  state.pictures.replaceChildren(...cells.map((cell) => {
    const figure = el("figure"), name = el("figcaption", "", cell.column.title);
    if (cell.column.colour) name.style.setProperty("--line", cell.column.colour);
    figure.append(name);
    if (!cell.current) { figure.append(el("div", "none", cell.late.textContent)); return figure; }
    const image = el("img");
    image.src = cell.current.full;
    image.alt = `${cell.column.title}: ${state.open.prompt}`;
    figure.append(image, el("small", "", cell.words.textContent));
    return figure;
  }));
  state.title.textContent = state.open.prompt;
  state.note.textContent = step ? `${step.label} · arrow keys move` : "";
}

function move(state, at, tell) {
  state.at = Math.max(0, Math.min(state.steps.length - 1, at));
  const step = state.steps[state.at];
  state.slider.value = state.at;
  state.slider.setAttribute("aria-valuetext", step.label);
  state.label.textContent = step.label;
  for (const cell of state.cells) fill(cell, cell.samples, step.value, cell.row);
  if (state.dialog.open) drawViewer(state);
  clearTimeout(state.timer);
  if (tell) state.timer = setTimeout(() => state.send(step.value), 400);
  for (const cell of state.cells) {   // have the neighbours ready
    for (const near of [state.steps[state.at + 1], state.steps[state.at - 1]]) {
      const sample = near && newest(cell.samples, near.value);
      if (sample && sample.src) new Image().src = sample.src;
    }
  }
}

function buildWall(root, data, state) {
  const bar = el("div", "bar");
  const back = el("button", "", "‹"), on = el("button", "", "›");
  back.setAttribute("aria-label", "earlier");
  on.setAttribute("aria-label", "later");
  state.slider = el("input");
  Object.assign(state.slider, { type: "range", min: 0, max: data.steps.length - 1, step: 1 });
  state.slider.setAttribute("aria-label", "training step of all samples");
  state.label = el("span", "at");
  state.slider.oninput = () => move(state, Number(state.slider.value), true);
  back.onclick = () => move(state, state.at - 1, true);
  on.onclick = () => move(state, state.at + 1, true);
  bar.append(state.label, back, state.slider, on);
  const scroll = el("div", "scroll"), wall = el("div", "wall");
  wall.style.setProperty("--columns", data.columns.length);
  if (data.cell) wall.style.setProperty("--cell", data.cell);
  const many = data.columns.length, widest = Math.max(...data.rows.map((row) => row.wide));
  // A small picture is not blown up to the page's width.
  if (data.rows.every((row) => row.wide)) wall.style.maxWidth = `calc(${3 * many * widest}px + ${many - 1} * .8rem)`;
  for (const column of data.columns) {
    const head = el("div", "column", column.title);
    if (column.colour) head.style.setProperty("--line", column.colour);
    wall.append(head);
  }
  state.cells = [];
  for (const row of data.rows) {
    wall.append(el("div", "prompt", row.prompt));
    row.cells.forEach((samples, at) => {
      const cell = makeCell(samples, row, data.columns[at], state);
      if (row.shape) cell.node.style.setProperty("--shape", row.shape);
      state.cells.push(cell);
      wall.append(cell.node);
    });
  }
  scroll.append(wall);
  if (data.steps.length > 1) root.append(bar);
  root.append(scroll);
  const start = data.steps.findIndex((step) => step.value === data.start);
  move(state, start < 0 ? data.steps.length - 1 : start, false);
}

function buildSplit(root, data) {
  for (const pair of data.pairs) {
    const box = el("div", "split"), before = el("img"), after = el("img", "after"), edge = el("div", "edge"), slider = el("input");
    before.src = pair.left.src; before.alt = pair.left.label;
    before.onload = () => box.style.setProperty("--most", `${4 * before.naturalWidth}px`);
    after.src = pair.right.src; after.alt = pair.right.label;
    Object.assign(slider, { type: "range", min: 0, max: 1000, value: 500 });
    slider.setAttribute("aria-label", "how much of the one and of the other picture");
    slider.oninput = () => box.style.setProperty("--cut", `${slider.value / 10}%`);
    box.append(before, after, el("label", "l", pair.left.label), el("label", "r", pair.right.label), edge, slider);
    root.append(box, el("div", "under", pair.prompt));
  }
}

function buildDialog(root, state) {
  const dialog = (state.dialog = el("dialog")), stage = el("div", "stage"), words = el("div", "words");
  const close = el("button", "close", "×");
  close.setAttribute("aria-label", "close");
  state.pictures = el("div", "pictures");
  state.title = el("div");
  state.note = el("span");
  words.append(state.title, state.note);
  stage.append(state.pictures, words);
  dialog.append(stage, close);
  close.onclick = () => dialog.close();
  state.pictures.onclick = () => dialog.close();
  dialog.onkeydown = (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by) { move(state, state.at + by, true); event.preventDefault(); }
  };
  root.append(dialog);
}

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const { start, ...fixed } = data;
  const seen = JSON.stringify(fixed);
  let state = states.get(parentElement);
  if (state && state.seen === seen) { state.send = (step) => setStateValue("step", step); return; }
  state = { seen, steps: data.steps, at: 0, cells: [], send: (step) => setStateValue("step", step) };
  states.set(parentElement, state);
  parentElement.querySelector(":scope > .k")?.remove();
  const root = el("div", "k");
  if (data.shape) root.style.setProperty("--shape", data.shape);
  buildDialog(root, state);
  data.mode === "split" ? buildSplit(root, data) : buildWall(root, data, state);
  parentElement.append(root);
}
