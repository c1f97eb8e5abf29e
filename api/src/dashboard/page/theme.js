// Light or dark: as the system says, unless the reader chose otherwise. Loaded before the page is painted, so nothing flashes.

(() => {
  const KEY = "tidemark-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;

  function stored() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage may be forbidden: the choice then lasts as long as the page
    }
  }

  function store(theme) {
    try {
      if (theme) localStorage.setItem(KEY, theme);
      else localStorage.removeItem(KEY);
    } catch {
      // as above
    }
  }

  function apply(theme) {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
    const dark = (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
    const button = document.getElementById("theme");
    button?.setAttribute("aria-label", dark ? "Use light colours" : "Use dark colours");
    return dark;
  }

  apply(stored());
  system.addEventListener("change", () => apply(root.dataset.theme));
  document.addEventListener("DOMContentLoaded", () => {
    apply(root.dataset.theme);
    document.getElementById("theme").addEventListener("click", () => {
      const wanted = apply(root.dataset.theme) ? "light" : "dark";
      // What the system says anyway is no choice: the page goes on following the system.
      const choice = (wanted === "dark") === system.matches ? null : wanted;
      store(choice);
      apply(choice);
    });
  });
})();
