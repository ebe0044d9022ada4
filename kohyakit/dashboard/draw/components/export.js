// Hover over an exported chart: the nearest point of every run, read back from the drawn paths.
for (const svg of document.querySelectorAll("figure > svg[data-x0]")) {
  const lines = [...svg.querySelectorAll("path[data-run]")].map((path) => ({
    run: path.dataset.run, colour: path.style.stroke,
    points: [...path.getAttribute("d").matchAll(/[ML]([\d.-]+) ([\d.-]+)/g)].map((m) => [Number(m[1]), Number(m[2])]),
  }));
  const labels = [...svg.querySelectorAll('text[text-anchor="end"]')].map((t) => [Number(t.getAttribute("y")) - 4, Number(t.textContent)]);
  const [a, b] = [labels[0], labels[labels.length - 1]];
  if (!a || a === b) continue;
  const value = (y) => a[1] + ((y - a[0]) / (b[0] - a[0])) * (b[1] - a[1]);
  const { x0, x1, left, right } = Object.fromEntries(Object.entries(svg.dataset).map(([k, v]) => [k, Number(v)]));
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  svg.after(tip);
  svg.onmousemove = (event) => {
    const box = svg.getBoundingClientRect(), x = ((event.clientX - box.left) / box.width) * 960;
    if (x < left || x > right) { tip.hidden = true; return; }
    const words = [Number((x0 + ((x - left) / (right - left)) * (x1 - x0)).toPrecision(6)).toString()];
    for (const line of lines) {
      const near = line.points.reduce((best, p) => (Math.abs(p[0] - x) < Math.abs(best[0] - x) ? p : best), line.points[0]);
      if (near && Math.abs(near[0] - x) < 30) words.push(`${line.run}  ${value(near[1]).toPrecision(4)}`);
    }
    tip.textContent = words.join("\n");
    tip.hidden = false;
    tip.style.top = "48px";
    tip.style.left = `${Math.min(event.clientX - box.left + 14, box.width - 140)}px`;
  };
  svg.onmouseleave = () => { tip.hidden = true; };
}
