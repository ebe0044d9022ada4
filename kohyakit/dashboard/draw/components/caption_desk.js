// One photo and its caption at a time, by keys: tags as chips or the text as it stands, a strip of all photos beside it.
// What is typed is a draft until Python says that it lies on disk; drafts outlive the page in the browser's own store.
const states = new WeakMap();
const ROW = 76;  // pixels of a photo in the strip
const IDLE = 1200;  // milliseconds after the last change

function el(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = text;
  return node;
}

// A caption is edited where it is touched: segments between commas stay as they are written, and so does its last line end.
function taken(text) {
  const tail = text.match(/[\r\n]*$/)[0];
  return { body: text.slice(0, text.length - tail.length), tail };
}

function places(text) {
  return taken(text).body.split(",").map((raw, at) => ({ raw, at, tag: raw.trim() })).filter((part) => part.tag);
}

const tagsOf = (text) => places(text).map((part) => part.tag);
const same = (a, b) => a.toLowerCase() === b.toLowerCase();

function withTag(text, tag, first) {
  const clean = tag.trim().replace(/^,+|,+$/g, "").trim();
  if (!clean || tagsOf(text).some((one) => same(one, clean))) return text;
  const { body, tail } = taken(text);
  if (!body.trim()) return clean + tail;
  return (first ? `${clean}, ${body.trimStart()}` : `${body.replace(/[,\s]+$/, "")}, ${clean}`) + tail;
}

function withoutPlace(text, index) {
  const { body, tail } = taken(text), parts = body.split(",");
  parts.splice(places(text)[index].at, 1);
  return parts.join(",").replace(/^[ \t]+/, "") + tail;
}

// In the place of a tag; what stands elsewhere already is not written twice.
function withTagsAt(text, index, tags) {
  const others = tagsOf(text).filter((_, at) => at !== index);
  const fresh = tags.filter((tag) => !others.some((one) => same(one, tag)));
  if (!fresh.length) return withoutPlace(text, index);
  const { body, tail } = taken(text), parts = body.split(","), { at, raw, tag } = places(text)[index];
  parts[at] = raw.replace(tag, () => fresh.join(", "));
  return parts.join(",") + tail;
}

function moved(text, index, by) {
  const tags = tagsOf(text), to = index + by;
  if (to < 0 || to >= tags.length) return text;
  [tags[index], tags[to]] = [tags[to], tags[index]];
  return tags.join(", ") + taken(text).tail;
}

class Desk {
  constructor(parent) {
    this.items = []; this.byId = new Map(); this.tags = []; this.counts = new Map();
    this.at = 0; this.drafts = new Map(); this.undo = new Map(); this.sent = new Map(); this.number = 0; this.done = -1; this.refused = {}; this.toldAt = 0; this.chosen = -1; this.asText = false;
    this.root = el("div", "k desk");
    this.strip = el("div", "strip"); this.strip.tabIndex = -1; this.strip.setAttribute("aria-label", "all photos");
    this.long = el("div", "long"); this.strip.append(this.long);
    this.strip.onscroll = () => this.drawStrip();
    const middle = el("div", "middle"), side = el("div", "side");
    this.stage = el("button", "photo"); this.image = el("img"); this.stage.append(this.image);
    this.stage.setAttribute("aria-label", "zoom");
    this.stage.onclick = () => this.zoom();
    const bar = el("div", "walk");
    const back = el("button", "step", "‹"), on = el("button", "step", "›");
    back.setAttribute("aria-label", "previous photo"); on.setAttribute("aria-label", "next photo");
    back.onclick = () => this.go(this.at - 1); on.onclick = () => this.go(this.at + 1);
    this.name = el("span", "name cut"); this.place = el("span", "quiet"); this.mark = el("span", "mark");
    bar.append(back, this.place, on, this.name, this.mark);
    middle.append(bar, this.stage);
    this.chips = el("div", "chips"); this.chips.setAttribute("role", "list");
    this.field = el("input", "add"); this.field.placeholder = "add a tag"; this.field.setAttribute("aria-label", "add a tag");
    this.field.autocomplete = "off";
    this.menu = el("div", "menu"); this.menu.hidden = true; this.menu.setAttribute("role", "listbox");
    this.text = el("textarea"); this.text.rows = 5; this.text.setAttribute("aria-label", "caption");
    this.tokens = el("div", "tokens quiet"); this.said = el("div", "said");
    this.kind = el("button", "kind"); this.kind.onclick = () => this.turn();
    const adder = el("div", "adder"); adder.append(this.field, this.menu);
    this.filters = el("div", "filters"); this.known = el("div", "known");
    const keys = el("details", "keys quiet"); keys.append(el("summary", "", "Keys"), this.help());
    side.append(this.said, this.chips, adder, this.text, this.under(), this.filters, this.known, keys);
    this.root.append(this.strip, middle, side);
    parent.append(this.root);
    this.field.oninput = () => { this.choice = -1; this.suggest(); };
    this.field.onkeydown = (event) => this.onField(event);
    this.field.onblur = () => { setTimeout(() => (this.menu.hidden = true), 150); };
    this.text.oninput = () => this.change(this.text.value, true);
    this.root.onkeydown = (event) => this.onKey(event);
    this.leave = () => this.send();
    this.root.addEventListener("focusout", (event) => { if (!this.root.contains(event.relatedTarget)) this.send(); });
    new ResizeObserver(([entry]) => {
      this.root.classList.toggle("narrow", entry.contentRect.width < 900);
      this.drawn = "";
      this.drawStrip();
    }).observe(this.root);
  }

  under() { const box = el("div", "under"); box.append(this.tokens, this.kind); return box; }

  help() {
    const list = el("dl");
    for (const [keys, what] of [
      ["Enter", "add the tag; with nothing typed, on to the next photo"], ["↓ ↑ Tab", "choose from the tags of this set"],
      ["Alt+→ Alt+←, PageDown PageUp", "next, previous photo"], ["Shift+Enter", "add as the first tag"],
      ["Backspace", "with nothing typed: take out the last tag"], ["← or Home into the chips, then Delete", "take out that tag"],
      ["Ctrl+Backspace", "with nothing typed: take out all tags"], ["Escape", "from the chips back to typing"],
      ["Ctrl+← Ctrl+→ on a chip", "move it"], ["Enter on a chip", "edit it where it stands"], ["f, Shift+F on a chip", "only photos with it, without it"],
      ["Alt+T", "tags or text"], ["Alt+Z", "zoom"], ["Ctrl+Z", "take the last change of this caption back"],
    ]) list.append(el("dt", "", keys), el("dd", "", what));
    return list;
  }

  // what Python gives

  take(data, send) {
    this.tell = send;
    addEventListener("pagehide", this.leave);
    document.addEventListener("visibilitychange", this.leave);
    this.store = `kohyakit captions ${data.folder}`;
    if (data.rows !== this.seen) {
      const id = this.items[this.at] && this.items[this.at].id, first = this.seen === undefined;
      this.seen = data.rows;
      const fresh = JSON.parse(data.rows);
      this.items = fresh.items.map(([id, text, src, full, tokens, problem]) => ({ id, text, src, full, tokens, problem }));
      this.byId = new Map(this.items.map((item, at) => [item.id, at]));
      this.tags = fresh.tags;
      this.counts = new Map(fresh.tags.map(([tag, , tokens]) => [tag.toLowerCase(), tokens]));
      this.room = fresh.room;
      if (first) this.remember();
      const same = this.byId.get(first ? fresh.at : id);
      if (same === undefined && !first) this.at = Math.min(this.at, Math.max(0, this.items.length - 1));
      else this.at = same ?? 0;
      this.long.style.height = `${this.items.length * ROW}px`;
      this.drawn = "";
    }
    this.filter = data.filter || { with: [], without: [] };
    if (data.done !== this.done)  // an answer; of what was dropped since, and of no draft, nothing is said again
      this.refused = Object.fromEntries(Object.entries(data.refused).filter(([id]) => this.drafts.has(id)));
    this.done = data.done;
    for (const [id, draft] of this.drafts) {
      const at = this.byId.get(id);
      if (at === undefined) continue;
      const text = this.items[at].text;
      if (text === draft.text) { this.drafts.delete(id); this.sent.delete(id); }
      else if (text === this.sent.get(id)) { draft.seen = text; delete this.refused[id]; }  // sent, and more typed since
    }
    this.keep();
    this.draw();
    if (this.drafts.size && ![...this.drafts.keys()].some((id) => this.refused[id])) this.later();
  }

  remember() {
    try {
      for (const [id, draft] of Object.entries(JSON.parse(localStorage.getItem(this.store) || "{}")))
        if (typeof draft.text === "string" && typeof draft.seen === "string") this.drafts.set(id, draft);
    } catch { /* a store that cannot be read holds nothing */ }
  }

  keep() {
    try {
      if (this.drafts.size) localStorage.setItem(this.store, JSON.stringify(Object.fromEntries(this.drafts)));
      else localStorage.removeItem(this.store);
    } catch { /* a full or closed store: the draft still goes to Python */ }
  }

  // what a person does

  get item() { return this.items[this.at]; }

  textOf(item) { const draft = this.drafts.get(item.id); return draft ? draft.text : item.text; }

  change(text, typed) {
    const item = this.item;
    if (!item || item.problem) return;
    const before = this.textOf(item);
    if (before === text) return;
    const past = this.undo.get(item.id) || [];
    if (!typed || !past.length || Date.now() - (this.typedAt || 0) > 800) past.push(before);
    this.typedAt = typed ? Date.now() : 0;
    this.undo.set(item.id, past);
    const draft = this.drafts.get(item.id);
    this.drafts.set(item.id, { seen: draft ? draft.seen : item.text, text });
    if (text === item.text && !this.sent.has(item.id)) this.drafts.delete(item.id);
    this.keep();
    this.draw(typed);
    this.later();
  }

  takeBack() {
    const past = this.item && this.undo.get(this.item.id);
    if (past && past.length) { const text = past.pop(); this.change(text); past.pop(); }
  }

  later() { clearTimeout(this.timer); this.timer = setTimeout(() => this.send(), IDLE); }

  send() {
    clearTimeout(this.timer);
    const edits = [...this.drafts].filter(([id]) => !this.refused[id]).map(([id, draft]) => [id, draft.seen, draft.text]);
    // One after the other: what is typed while an answer is awaited builds on what that answer will show.
    if (!edits.length || (this.number > this.done && Date.now() - this.toldAt < 8000)) return;
    this.toldAt = Date.now();
    for (const [id, , text] of edits) this.sent.set(id, text);
    this.tell("edits", { number: (this.number = Math.max(Date.now(), this.number + 1)), edits });
  }

  go(at) {
    const to = Math.max(0, Math.min(this.items.length - 1, at));
    if (to === this.at) return;
    this.at = to; this.chosen = -1;
    this.stopEditing();
    this.send();
    this.draw();
    this.reveal();
  }

  turn() { this.asText = !this.asText; this.draw(); (this.asText ? this.text : this.field).focus(); }

  zoom() { this.stage.classList.toggle("full"); }

  only(tag, out) {
    const filter = { with: this.filter.with.filter((one) => !same(one, tag)), without: this.filter.without.filter((one) => !same(one, tag)) };
    const list = out ? "without" : "with";
    if (!this.filter[list].some((one) => same(one, tag))) filter[list].push(tag);
    this.send();
    this.tell("filter", filter);
  }

  onField(event) {
    const typed = this.field.value, open = !this.menu.hidden;
    const rows = open ? [...this.menu.children] : [];
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (!open) return;
      this.choice = (this.choice + (event.key === "ArrowDown" ? 1 : -1) + rows.length + 1) % (rows.length + 1);
      if (this.choice === rows.length) this.choice = -1;
      rows.forEach((row, at) => row.classList.toggle("on", at === this.choice));
      event.preventDefault();
    } else if (event.key === "Tab" && open && !event.shiftKey) {
      this.add(rows[Math.max(0, this.choice)].dataset.tag, false);
      event.preventDefault();
    } else if (event.key === "Enter" && !event.altKey) {
      event.preventDefault();
      if (open && this.choice >= 0) this.add(rows[this.choice].dataset.tag, event.shiftKey);
      else if (typed.trim()) this.add(typed, event.shiftKey);
      else this.go(this.at + 1);
    } else if (event.key === "Escape") {
      this.stopEditing(); this.field.value = ""; this.menu.hidden = true;
    } else if (event.key === "Backspace" && !typed) {
      const text = this.textOf(this.item), many = tagsOf(text).length;
      this.stopEditing();
      if (many) this.change(event.ctrlKey || event.metaKey ? taken(text).tail : withoutPlace(text, many - 1));
      event.preventDefault();
    } else if (event.key === "Home" && !typed) {
      this.focusChip(0);
      event.preventDefault();
    } else if (event.key === "ArrowLeft" && !typed && !event.altKey) {
      this.focusChip(tagsOf(this.textOf(this.item)).length - 1);
      event.preventDefault();
    }
  }

  add(tag, first) {
    this.field.value = ""; this.menu.hidden = true; this.choice = -1;
    const tags = tag.split(",").map((part) => part.trim()).filter(Boolean), editing = this.editing;
    let text = this.textOf(this.item);
    this.editing = undefined;
    const inPlace = editing && editing.id === this.item.id && (places(text)[editing.at] || {}).tag === editing.tag;
    if (inPlace && tags.length) text = withTagsAt(text, editing.at, tags);
    for (const one of tags) {
      if (!inPlace) text = withTag(text, one, first);
      if (!this.tags.some(([known]) => same(known, one))) this.tags.push([one, 0]);  // offered from now on
    }
    this.change(text);
    this.field.focus();
  }

  suggest() {
    const typed = this.field.value.trim().toLowerCase();
    const has = new Set(tagsOf(this.textOf(this.item)).map((tag) => tag.toLowerCase()));
    const starts = [], holds = [];
    if (typed) for (const row of this.tags) {
      const low = row[0].toLowerCase();
      if (has.has(low)) continue;
      if (low.startsWith(typed)) starts.push(row); else if (low.includes(typed)) holds.push(row);
    }
    const found = [...starts, ...holds].slice(0, 8);
    this.menu.replaceChildren(...found.map(([tag, many]) => {
      const row = el("button", "row"); row.dataset.tag = tag; row.tabIndex = -1; row.setAttribute("role", "option");
      row.append(el("span", "", tag), el("span", "quiet", many ? many : ""));
      row.onpointerdown = (event) => { event.preventDefault(); this.add(tag, false); };
      return row;
    }));
    this.menu.hidden = !found.length;
  }

  focusChip(at) { const chip = this.chips.children[at]; if (chip) chip.focus(); else this.field.focus(); }

  onChip(event, at, tag) {
    const text = this.textOf(this.item), ctrl = event.ctrlKey || event.metaKey;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && ctrl) { this.change(moved(text, at, by)); this.focusChip(Math.max(0, Math.min(at + by, this.chips.children.length - 1))); }
    else if (by && !event.altKey) this.focusChip(at + by);
    else if (event.key === "Delete" || event.key === "Backspace") { this.change(withoutPlace(text, at)); this.focusChip(Math.min(at, this.chips.children.length - 1)); }
    else if (event.key === "Enter") this.edit(at, tag);
    else if (event.key === "Home") this.focusChip(0);
    else if (event.key === "End") this.focusChip(this.chips.children.length - 1);
    else if (event.key === "Escape") this.field.focus();
    else if (event.key === "f" || event.key === "F") this.only(tag, event.shiftKey);
    else return;
    event.preventDefault(); event.stopPropagation();
  }

  edit(at, tag) {
    this.editing = { id: this.item.id, at, tag };  // it stays where it is until another is there
    this.field.value = tag; this.field.focus(); this.field.select();
  }

  stopEditing() {
    if (this.editing) { this.field.value = ""; this.menu.hidden = true; }
    this.editing = undefined;
  }

  onKey(event) {
    const ctrl = event.ctrlKey || event.metaKey, plain = !["INPUT", "TEXTAREA"].includes(event.target.tagName);
    const by = event.key === "PageDown" || (event.altKey && event.key === "ArrowRight") ? 1
      : event.key === "PageUp" || (event.altKey && event.key === "ArrowLeft") ? -1
      : plain && event.key === "ArrowRight" ? 1 : plain && event.key === "ArrowLeft" ? -1 : 0;
    if (by) this.go(this.at + by);
    else if (ctrl && event.key.toLowerCase() === "z" && event.target !== this.field) this.takeBack();
    else if (ctrl && event.key.toLowerCase() === "z" && !this.field.value) this.takeBack();
    else if (ctrl && event.key === "Enter") this.go(this.at + 1);
    else if (event.altKey && event.code === "KeyT") this.turn();
    else if (event.altKey && event.code === "KeyZ") this.zoom();
    else return;
    event.preventDefault();
  }

  // what is seen

  draw(typing) {
    const item = this.item;
    this.root.classList.toggle("empty", !item);
    if (!item) { this.drawFilters(); return; }
    const text = this.textOf(item), lines = taken(text).body.includes("\n"), asText = this.asText || lines;
    if (this.image.dataset.src !== item.full) {
      this.image.dataset.src = item.full; this.image.src = item.full; this.image.alt = item.id;
      this.stage.classList.remove("full");
      for (const step of [1, -1, 2]) { const near = this.items[this.at + step]; if (near) new Image().src = near.full; }
    }
    this.place.textContent = `${this.at + 1} of ${this.items.length}`;
    this.name.textContent = item.id; this.name.title = item.id;
    const waiting = this.drafts.has(item.id), many = this.drafts.size - (waiting ? 1 : 0);
    this.mark.textContent = waiting ? "● not saved yet" : many ? `● ${many} more not saved yet` : "";
    const conflict = this.refused[item.id];
    this.said.hidden = !item.problem && !(conflict && waiting);
    if (item.problem) this.said.textContent = item.problem;
    else if (conflict && waiting) this.drawConflict(item, conflict);
    this.chips.hidden = this.field.parentElement.hidden = asText || Boolean(item.problem);
    this.text.hidden = !asText || Boolean(item.problem);
    this.kind.hidden = lines || Boolean(item.problem);
    this.kind.textContent = asText ? "as tags" : "as text";
    if (!typing || this.text.value !== text) this.text.value = text;
    this.drawChips(text);
    this.drawFilters();
    this.drawStrip();
  }

  drawConflict(item, why) {
    const mine = el("button", "", "Write mine over it"), theirs = el("button", "", "Drop mine");
    mine.onclick = () => { this.drafts.set(item.id, { seen: item.text, text: this.drafts.get(item.id).text }); delete this.refused[item.id]; this.keep(); this.send(); this.draw(); };
    theirs.onclick = () => { this.drafts.delete(item.id); delete this.refused[item.id]; this.keep(); this.draw(); };
    this.said.replaceChildren(el("div", "", why), el("div", "quiet", `On disk now: ${item.text || "nothing"}`), mine, theirs);
  }

  // A caption's tokens are those of its words: tags and the commas between them can be counted apart.
  drawChips(text) {
    const draft = this.drafts.has(this.item.id), parts = places(text);
    let sum = 0, sure = true;
    const chips = parts.map(({ tag }, at) => {
      const known = this.counts.get(tag.toLowerCase());
      sure &&= known !== undefined;
      sum += (at ? 1 : 0) + (known ?? Math.max(1, Math.round(tag.length / 4)));
      const chip = el("span", "chip" + (sum > this.room ? " over" : ""), tag);
      chip.tabIndex = 0; chip.setAttribute("role", "listitem");
      if (sum > this.room) chip.title = `beyond the ${this.room} tokens that are trained`;
      const gone = el("button", "gone", "×"); gone.tabIndex = -1; gone.setAttribute("aria-label", `take out ${tag}`);
      gone.onclick = (event) => { event.stopPropagation(); this.change(withoutPlace(this.textOf(this.item), at)); };
      chip.append(gone);
      chip.ondblclick = () => this.edit(at, tag);
      chip.onkeydown = (event) => this.onChip(event, at, tag);
      return chip;
    });
    const held = [...this.chips.children].indexOf(this.root.getRootNode().activeElement);
    this.chips.replaceChildren(...chips);
    if (held >= 0) this.focusChip(Math.min(held, chips.length - 1));
    const exact = !draft || sure, count = draft ? sum : this.item.tokens;
    this.tokens.textContent = `${exact ? "" : "about "}${count} of ${this.room} tokens` + (count > this.room ? ", the rest is cut off" : "");
    this.tokens.classList.toggle("over", count > this.room);
  }

  drawFilters() {
    const pills = [];
    for (const [list, sign] of [["with", ""], ["without", "not "]]) for (const tag of this.filter[list]) {
      const pill = el("button", "pill", `${sign}${tag} ×`);
      pill.onclick = () => this.only(tag, list === "without");
      pills.push(pill);
    }
    this.filters.replaceChildren(...pills);
    const mine = new Set(this.item ? tagsOf(this.textOf(this.item)).map((tag) => tag.toLowerCase()) : []);
    const seen = JSON.stringify([this.seen && this.seen.length, [...mine], this.filter]);
    if (seen === this.knownSeen) return;
    this.knownSeen = seen;
    this.known.replaceChildren(el("h4", "", "Tags of these photos"), ...this.tags.filter(([, many]) => many).slice(0, 60).map(([tag, many]) => {
      const row = el("div", "known-row" + (mine.has(tag.toLowerCase()) ? " has" : ""));
      const name = el("button", "cut", tag), out = el("button", "quiet", "not"), put = el("button", "quiet", "+");
      name.title = `only photos with ${tag}`; out.title = `only photos without ${tag}`; put.title = `add ${tag} here`;
      out.setAttribute("aria-label", out.title); put.setAttribute("aria-label", put.title);
      name.onclick = (event) => this.only(tag, event.altKey);
      out.onclick = () => this.only(tag, true);
      put.onclick = () => this.add(tag, false);
      row.append(name, el("span", "quiet", many), out, put);
      return row;
    }));
  }

  reveal() {
    const box = this.strip, across = box.scrollWidth > box.clientWidth + 4 && this.root.classList.contains("narrow");
    const top = this.at * ROW, room = across ? box.clientWidth : box.clientHeight, now = across ? box.scrollLeft : box.scrollTop;
    if (top < now || top + ROW > now + room) box.scrollTo(across ? { left: top - room / 2 + ROW / 2 } : { top: top - room / 2 + ROW / 2 });
  }

  drawStrip() {
    const across = this.root.classList.contains("narrow"), room = across ? this.strip.clientWidth : this.strip.clientHeight;
    const first = Math.max(0, Math.floor((across ? this.strip.scrollLeft : this.strip.scrollTop) / ROW) - 4);
    const last = Math.min(this.items.length, first + Math.ceil((room || 600) / ROW) + 8);
    this.long.style[across ? "width" : "height"] = `${this.items.length * ROW}px`;
    this.long.style[across ? "height" : "width"] = "100%";
    const seen = [first, last, this.at, across, this.seen && this.seen.length, [...this.drafts.keys()].join()].join();
    if (seen === this.drawn) return;
    this.drawn = seen;
    const old = new Map([...this.long.children].map((node) => [node.dataset.id, node]));
    this.long.replaceChildren(...this.items.slice(first, last).map((item, step) => {
      const at = first + step, tile = old.get(item.id) || this.tile(item);
      tile.style.transform = across ? `translateX(${at * ROW}px)` : `translateY(${at * ROW}px)`;
      tile.onclick = () => this.go(at);
      tile.className = "tile" + (at === this.at ? " on" : "") + (item.text.trim() || this.drafts.has(item.id) ? "" : " bare") + (this.drafts.has(item.id) ? " draft" : "");
      if (at === this.at) tile.setAttribute("aria-current", "true"); else tile.removeAttribute("aria-current");
      return tile;
    }));
  }

  tile(item) {
    const tile = el("button"), image = el("img");
    tile.dataset.id = item.id; tile.tabIndex = -1; tile.title = item.id; tile.setAttribute("aria-label", item.id);
    image.alt = ""; image.decoding = "async";
    if (item.src) image.src = item.src;
    tile.append(image);
    return tile;
  }

  close() {
    this.send();
    removeEventListener("pagehide", this.leave);
    document.removeEventListener("visibilitychange", this.leave);
  }
}

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  let desk = states.get(parentElement);
  if (!desk || !parentElement.contains(desk.root)) states.set(parentElement, (desk = new Desk(parentElement)));
  desk.take(data, (name, value) => setStateValue(name, value));
  return () => desk.close();
}
