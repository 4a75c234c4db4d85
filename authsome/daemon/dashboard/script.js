// What pages do beyond HTML. Rule: every page works without it; it reads no secret and loads nothing from elsewhere.
"use strict";

// A link of `authsome ui` opens without a further click; what goes on step by step does so.
document.querySelector("form[data-submit]")?.requestSubmit();

// A file that is chosen is put into the field beside it, to be looked at before it is sent.
const file = document.querySelector("[data-file]");
if (file) {
  file.hidden = false;
  file.querySelector("input").addEventListener("change", async (event) => {
    document.getElementById(file.dataset.file).value = await event.target.files[0].text();
  });
}

// What is marked as live is fetched anew while somebody looks; the rest of the page, and the focus, stay. A button is
// not taken away under a finger: whoever begins to use what is live while the answer is on its way keeps it.
const EVERY = 3000; // ms
const live = document.querySelector("[data-live]");

const isInUse = () => live.contains(document.activeElement) || live.matches(":active");

async function renew() {
  if (document.hidden || isInUse()) return;
  const answer = await fetch(location.href, { redirect: "error" });
  if (!answer.ok) throw new Error("not signed in any more");
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.querySelector("[data-live]");
  if (fresh && !isInUse() && fresh.innerHTML !== live.innerHTML) live.replaceChildren(...fresh.childNodes);
}

if (live) {
  const timer = setInterval(() => renew().catch(() => clearInterval(timer)), EVERY);
}
