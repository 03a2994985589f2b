"use strict";
// Keys press the buttons and links that name them in data-keys: all that they do can be done without this file.
(() => {
  let sent = false; // one answer a page: a key that is held down or pressed twice must not answer for the next pair
  const note = document.getElementById("note");
  const help = document.getElementById("help");
  const writes = (element) => element instanceof HTMLTextAreaElement || element instanceof HTMLInputElement;

  document.addEventListener("submit", (event) => {
    if (sent) event.preventDefault();
    sent = true;
  });
  window.addEventListener("pageshow", () => { sent = false; });

  document.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (writes(event.target)) {
      if (event.key === "Escape") event.target.blur();
      if (event.target === note && event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        document.getElementById("save-note").click();
      }
      return;
    }
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || sent) return;
    if (event.key === "Escape" && help) { help.open = false; return; }
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const found = [...document.querySelectorAll("[data-keys]")].find(
      (each) => each.dataset.keys.split(" ").includes(key) && !each.disabled);
    if (!found) return;
    event.preventDefault();
    if (writes(found)) {
      found.scrollIntoView({ block: "center" });
      found.focus();
      found.setSelectionRange(found.value.length, found.value.length);
    } else {
      found.click();
    }
  });

  // what is there when a page opens is not read out: it must come in afterwards
  const say = document.getElementById("say");
  if (say) {
    const parts = [...document.querySelectorAll("[data-say]")].flatMap(
      (line) => [...line.querySelectorAll(".word")].map((word) => word.textContent.trim()).join("; ") || line.textContent);
    const heading = document.querySelector("h1");
    setTimeout(() => { say.textContent = [...parts, heading ? heading.textContent : ""].join(". "); }, 100);
  }
})();
