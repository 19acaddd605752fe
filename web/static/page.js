// Copy buttons, a picker that answers at each change, and pages that follow what happens.
// Every page reads without it.
"use strict";

function buttons(inside) {
  for (const button of inside.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = document.getElementById(button.dataset.copy).textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        const range = document.createRange();
        range.selectNodeContents(document.getElementById(button.dataset.copy));
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
}

async function fetched(url) {
  const answer = await fetch(url, { credentials: "same-origin" });
  if (!answer.ok || answer.redirected) return null;
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

function picker(form) {
  let asked = 0;
  form.addEventListener("change", async (event) => {
    const url = `${location.pathname}?${new URLSearchParams(new FormData(form))}`;
    const mine = ++asked;
    const focused = event.target.id;
    const page = await fetched(url);
    const found = page && page.querySelector("[data-result]");
    if (!found || mine !== asked) return;
    history.replaceState(null, "", url);
    form.querySelector("[data-result]").replaceWith(found);
    buttons(found);
    if (focused && document.getElementById(focused)) document.getElementById(focused).focus();
  });
}

function live(main) {
  const source = new EventSource(main.dataset.live);
  let first = true, waiting = false;
  const renew = async () => {
    // Nobody's typing, reading by selection or open details are taken away.
    const busy = main.contains(document.activeElement) && document.activeElement !== main;
    if (busy || !getSelection().isCollapsed || main.querySelector("details[open]")) {
      waiting = true;
      return;
    }
    waiting = false;
    const page = await fetched(location.href);
    const fresh = page && page.getElementById("main");
    if (!fresh) return;
    main.replaceChildren(...fresh.childNodes);
    buttons(main);
  };
  source.addEventListener("change", () => { if (first) first = false; else renew(); });
  addEventListener("focusout", () => { if (waiting) setTimeout(renew, 300); });
  addEventListener("pagehide", () => source.close());
}

buttons(document);
const form = document.querySelector("form[data-picker]");
if (form) picker(form);
const main = document.querySelector("main[data-live]");
if (main && window.EventSource) live(main);
