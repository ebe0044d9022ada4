(() => {
  const root = document.documentElement;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  const buttons = [...document.querySelectorAll("[data-show]")];
  for (const button of buttons) button.addEventListener("click", () => {
    for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
    const wanted = button.dataset.show;
    for (const issue of document.querySelectorAll("[data-severity]"))
      issue.hidden = wanted !== "all" && issue.dataset.severity !== wanted;
  });
})();
