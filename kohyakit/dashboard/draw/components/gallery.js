// Groups of pictures with words beneath; a click opens one over the whole window, arrow keys walk on.
function el(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = text;
  return node;
}

function viewer(root) {
  const dialog = el("dialog"), stage = el("div", "stage"), pictures = el("div", "pictures");
  const words = el("div", "words"), title = el("div"), note = el("span"), close = el("button", "close", "×");
  close.setAttribute("aria-label", "close");
  const image = el("img");
  pictures.append(image);
  words.append(title, note);
  stage.append(pictures, words);
  dialog.append(stage, close);
  root.append(dialog);
  let items = [], at = 0;
  const show = () => {
    image.src = items[at].full || items[at].src;
    image.alt = items[at].title || "";
    title.textContent = items[at].title || "";
    note.textContent = items[at].note || "";
  };
  close.onclick = () => dialog.close();
  pictures.onclick = () => dialog.close();
  dialog.onkeydown = (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by) { at = (at + by + items.length) % items.length; show(); event.preventDefault(); }
  };
  return (list, index) => { items = list; at = index; show(); dialog.showModal(); };
}

export default function (component) {
  const { data, parentElement } = component;
  const seen = JSON.stringify(data);
  if (parentElement.kSeen === seen) return;
  parentElement.kSeen = seen;
  const root = el("div", "k");
  if (data.tile) root.style.setProperty("--tile", data.tile);
  const open = viewer(root);
  const all = data.groups.flatMap((group) => group.items);
  let index = 0;
  for (const group of data.groups) {
    const box = el("section", "group");
    if (group.title) box.append(el("h4", "", group.title));
    if (group.note) box.append(el("p", "", group.note));
    const tiles = el("div", "tiles");
    for (const item of group.items) {
      const tile = el("figure", "tile" + (data.cover ? " cover" : "")), button = el("button"), image = el("img");
      const mine = index++;
      image.loading = "lazy";
      image.decoding = "async";
      image.alt = item.title || "";
      if (item.src) image.src = item.src;
      else button.hidden = true;
      button.onclick = () => open(all, mine);
      button.append(image);
      const caption = el("figcaption");
      if (item.badge) {
        const badge = el("div", "badge", item.badge);
        if (item.colour) badge.style.setProperty("--badge", item.colour);
        caption.append(badge);
      }
      if (item.title) { const t = el("div", "", item.title); t.title = item.title; caption.append(t); }
      if (item.note) caption.append(el("div", "quiet", item.note));
      tile.append(button, caption);
      tiles.append(tile);
    }
    box.append(tiles);
    root.append(box);
  }
  parentElement.querySelector(":scope > .k")?.remove();
  parentElement.append(root);
}
