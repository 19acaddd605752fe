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

// Follows the page's stream. Its address names what the page shows, each event what is there now,
// so a stream that was cut, or a coordinator that was away, goes on where it was.
function live(main) {
  const notice = document.getElementById("notice");
  let stream = main.dataset.live, waiting = false, asked = 0, late = 0, source;
  const say = (text) => { notice.textContent = text; notice.hidden = !text; };
  const renew = async () => {
    // Nobody's typing, reading by selection or open details are taken away.
    const busy = main.contains(document.activeElement) && document.activeElement !== main;
    waiting = busy || !getSelection().isCollapsed || Boolean(main.querySelector("details[open]"));
    if (waiting) return;
    const mine = ++asked;
    const page = await fetched(location.href).catch(() => null);
    if (mine !== asked) return;
    const fresh = page && page.getElementById("main");
    if (!fresh) {
      waiting = true;
      setTimeout(() => { if (waiting && source.readyState === EventSource.OPEN) renew(); }, 5000);
      return;
    }
    main.replaceChildren(...fresh.childNodes);
    buttons(main);
    stream = fresh.dataset.live;
  };
  const lost = async () => {
    if (!late) { // a stream that only ends is back before that
      const since = new Date().toLocaleTimeString();
      late = setTimeout(() => say(`Not connected since ${since}: this page is as it was then, and tries again.`), 5000);
    }
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries by itself
    const answer = await fetch(location.href, { credentials: "same-origin" }).catch(() => null);
    if (!answer || answer.status !== 401) { setTimeout(open, 5000); return; }
    clearTimeout(late);
    say("You are logged out: this page is as it was. Load it again to log in.");
  };
  const open = () => {
    source = new EventSource(stream);
    source.addEventListener("open", () => { clearTimeout(late); late = 0; say(""); if (waiting) renew(); });
    source.addEventListener("change", renew);
    source.addEventListener("error", lost);
  };
  addEventListener("focusout", () => { if (waiting) setTimeout(renew, 300); });
  addEventListener("pagehide", () => source.close());
  open();
}

buttons(document);
const form = document.querySelector("form[data-picker]");
if (form) picker(form);
const main = document.querySelector("main[data-live]");
if (main && window.EventSource) live(main);
