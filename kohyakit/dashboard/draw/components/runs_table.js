// The runs as a table: rows are built from text nodes only, never from markup.
const COLUMNS = [
  ["version", "Run"], ["status", "Status"], ["started", "Started"], ["images", "Images"],
  ["changed", "What changed"], ["last", "Loss"], ["best", "Course"], ["", "Sample"],
];
const states = new WeakMap();

// The browser's own lazy loading asks for pictures three screens ahead.
const near = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) {
    near.unobserve(entry.target);
    entry.target.src = entry.target.dataset.src;
  }
}, { rootMargin: "400px" });

function el(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = text;
  return node;
}

function two(first, second, className) {
  const cell = el("div", "two " + (className || ""));
  cell.append(el("div", "cut", first), el("div", "cut", second));
  return cell;
}

function spark(values) {
  const NS = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("aria-hidden", "true");
  const good = values.filter((v) => v !== null);
  if (good.length < 2) return svg;
  const low = Math.min(...good), high = Math.max(...good), width = 110, height = 28;
  svg.setAttribute("viewBox", `0 -2 ${width} ${height + 4}`);
  svg.setAttribute("preserveAspectRatio", "none");
  let pen = "M", d = "", best = null;
  values.forEach((v, i) => {
    if (v === null) { pen = "M"; return; }
    const x = (i / (values.length - 1)) * width;
    const y = high > low ? (1 - (v - low) / (high - low)) * height : height / 2;
    d += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
    if (v === low && !best) best = [x, y];
  });
  const path = document.createElementNS(NS, "path");
  path.setAttribute("d", d);
  svg.append(path);
  return svg;
}

// One column a character (see family.py): lines that pass, a branch that leaves, the run's own dot.
function treeCells(guides) {
  const names = { "|": "pass", "+": "pass branch", o: "dot", "^": "dot up", v: "dot down", x: "dot up down" };
  return [...guides].map((g, i) => el("span", "tree " + names[g] + (guides[i - 1] === "+" ? " left" : "")));
}

function buildRow(row, state) {
  const line = el("div", "row");
  line.setAttribute("role", "row");
  line.dataset.id = row.id;
  const pick = el("div", "pick");
  const box = el("input");
  box.type = "checkbox";
  box.setAttribute("aria-label", `pick ${row.version} ${row.name}`);
  pick.append(box);
  const run = el("div", "run");
  run.append(...treeCells(state.tree ? row.guides : ""));
  const name = el("div", "name");
  const title = el("b", "", row.version);
  name.append(title, el("div", "", row.name));
  name.title = row.name;
  run.append(name);
  const status = el("div", "state");
  const dot = el("span", "status " + row.status, row.status_text);
  dot.style.setProperty("--dot", row.colour);
  if (row.status_note) dot.title = row.status_note;
  status.append(dot);
  const changed = el("div", "changed");
  if (row.trouble) changed.append(el("div", "trouble", row.trouble));
  if (row.changed) changed.append(el("div", "lines", row.changed));
  if (row.note) changed.append(el("div", "cut quiet", row.note));
  changed.title = [row.trouble, row.changed, row.note].filter(Boolean).join("\n");
  const curve = el("div", "line");
  curve.append(spark(row.spark));
  const thumb = el("div", "thumb");
  if (row.thumb) {
    const image = el("img");
    image.decoding = "async";
    image.alt = `last sample of ${row.version}`;
    image.dataset.src = row.thumb;
    near.observe(image);
    image.onclick = (event) => { event.stopPropagation(); enlarge(state, row); };
    thumb.append(image);
  }
  const loss = two(row.last_text, row.best_text, "loss");
  line.append(pick, run, status, two(row.started_text, row.duration_text, "when"),
    el("div", "images", row.images === null ? "–" : String(row.images)), changed, loss, curve, thumb);
  const flip = () => {
    state.picked.has(row.id) ? state.picked.delete(row.id) : state.picked.add(row.id);
    mark(state);
    const shown = state.rows.map((r) => r.id);   // in the table's order, then those that a filter hides
    state.send([...shown.filter((id) => state.picked.has(id)), ...[...state.picked].filter((id) => !shown.includes(id))]);
  };
  box.onclick = (event) => { event.stopPropagation(); flip(); };
  line.onclick = flip;
  return line;
}

function enlarge(state, row) {
  const dialog = state.root.querySelector("dialog");
  const image = dialog.querySelector("img");
  image.src = row.thumb.replace(/&w=\d+/, "");
  image.alt = `last sample of ${row.version}`;
  dialog.querySelector("p").textContent = `${row.version}  ${row.name}`;
  dialog.showModal();
}

function mark(state) {
  for (const line of state.body.children) {
    const on = state.picked.has(line.dataset.id);
    line.classList.toggle("picked", on);
    const box = line.querySelector("input");
    if (box) box.checked = on;
  }
}

function order(rows, sort) {
  if (!sort.key) return rows;
  const value = (r) => (sort.key === "version" ? r.order : r[sort.key]);
  return [...rows].sort((a, b) => {
    const x = value(a), y = value(b);
    if (x === null || x === undefined) return 1;
    if (y === null || y === undefined) return -1;
    return (x < y ? -1 : x > y ? 1 : 0) * (sort.down ? -1 : 1);
  });
}

function draw(state) {
  state.tree = !state.sort.key;
  // A row that says what it said before keeps its nodes: a running training changes one row in five hundred.
  const before = state.nodes;
  state.nodes = new Map();
  const lines = order(state.rows, state.sort).map((row) => {
    const words = JSON.stringify([state.tree, row]);
    const kept = before.get(row.id);
    const line = kept && kept.words === words ? kept.line : buildRow(row, state);
    state.nodes.set(row.id, { words, line });
    return line;
  });
  if (lines.length !== state.body.children.length || lines.some((line, i) => state.body.children[i] !== line)) {
    state.body.replaceChildren(...lines);
  }
  for (const button of state.head.querySelectorAll("button")) {
    const on = button.dataset.key === state.sort.key;
    button.classList.toggle("on", on);
    button.textContent = button.dataset.title + (on ? (state.sort.down ? " ↓" : " ↑") : "");
  }
  mark(state);
}

function build(parent) {
  const root = el("div", "k");
  const table = el("div", "table");
  table.setAttribute("role", "table");
  const head = el("div", "head");
  head.setAttribute("role", "row");
  head.append(el("span"));
  const body = el("div", "body");
  table.append(head, body);
  const dialog = el("dialog");
  const stage = el("div", "stage"), pictures = el("div", "pictures"), close = el("button", "close", "×");
  close.setAttribute("aria-label", "close");
  pictures.append(el("img"));
  stage.append(pictures, el("p"));
  dialog.append(stage, close);
  dialog.onclick = () => dialog.close();
  root.append(table, dialog);
  parent.append(root);
  const state = { root, head, body, rows: [], picked: new Set(), sort: { key: "", down: false }, seen: "", nodes: new Map() };
  for (const [key, title] of COLUMNS) {
    const cell = el("span");
    if (key) {
      const button = el("button", "", title);
      button.dataset.key = key;
      button.dataset.title = title;
      button.onclick = () => {
        // up, down, back to the family tree
        if (state.sort.key !== key) state.sort = { key, down: false };
        else if (!state.sort.down) state.sort.down = true;
        else state.sort = { key: "", down: false };
        draw(state);
      };
      cell.append(button);
    } else cell.textContent = title;
    head.append(cell);
  }
  new ResizeObserver(([entry]) => root.classList.toggle("narrow", entry.contentRect.width < 860)).observe(root);
  return state;
}

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  let state = states.get(parentElement);
  if (!state) {
    states.set(parentElement, (state = build(parentElement)));
    state.picked = new Set(data.picked);
  }
  state.send = (ids) => setStateValue("picked", ids);
  if (data.rows !== state.seen) { state.seen = data.rows; state.rows = JSON.parse(data.rows); draw(state); } else mark(state);
}
