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

// Live parts. An event names the topics that have changed; a page that shows one of them fetches itself and takes over
// what differs. What somebody does with the page stays: focus, what is open, what is half filled in, where it is; and
// nothing moves under a finger: what came while something is being pressed waits until it was let go. Where the daemon
// has no answer, because it was ended, or its vault is locked, the page says so until there is one again.
const LEAST = 1500; // ms between two looks, however much happens
const SLOW = 10000; // ms until the next attempt where there are no events
const MINUTE = 60000; // ms until a look without an event: moments are in words, and some things end by their time

const parts = [...document.querySelectorAll("[data-live]")];
const topics = new Set(parts.flatMap((part) => part.dataset.live.split(" ")));
const isWhole = !document.body.classList.contains("dash"); // a page that waits for one thing, and is then another one
const events = document.body.dataset.events ? new URL(document.body.dataset.events, location.href) : null;

let stream = null;
let due = 0; // the timer of the next look
let looked = performance.now();
let late = document.querySelector("[data-late]"); // says that there is no answer just now
let isOver = false;

function open() {
  if (stream || isOver || document.hidden) return;
  stream = new EventSource(events);
  stream.addEventListener("open", () => late && look());
  stream.addEventListener("changed", (event) => {
    if (!isWhole) events.searchParams.set("heard", event.lastEventId);
    if (isWhole || event.data.split(" ").some((topic) => topics.has(topic))) look();
  });
  stream.addEventListener("ended", () => (isWhole ? look() : signedOut()));
  stream.addEventListener("error", () => {
    const isRefused = stream?.readyState === EventSource.CLOSED; // otherwise the browser comes back by itself
    if (isRefused) {
      close();
      setTimeout(isWhole ? look : open, SLOW);
    }
    if (!late && !(isRefused && isWhole)) look();
  });
}

function close() {
  stream?.close();
  stream = null;
}

function look() {
  due ||= setTimeout(renew, Math.max(0, looked + LEAST - performance.now()));
}

async function renew() {
  due = 0;
  if (isOver || document.hidden) return;
  looked = performance.now();
  let answer = null;
  let text = "";
  try {
    answer = await fetch(location.href, { redirect: "manual" });
    text = await answer.text();
  } catch {
    return wait("The daemon does not answer.");
  }
  if (answer.status >= 500) return wait(cause(answer, text));
  if (isWhole) return location.reload();
  late?.remove();
  late = null;
  if (answer.type === "opaqueredirect") return signedOut();
  const page = new DOMParser().parseFromString(text, "text/html");
  if (parts.some((part) => part.matches(":active"))) return look();
  const fresh = page.querySelectorAll("[data-live]");
  if (!answer.ok || fresh.length !== parts.length) return end("This page shows what is no longer so.", "Look again", location.href);
  parts.forEach((part, place) => follow(part, fresh[place]));
}

function wait(why) {
  late ??= note("warn", "status");
  if (!late.matches("[data-late]")) late.textContent = `${why} What you see is from before.`;
  setTimeout(look, SLOW);
}

function cause(answer, text) {
  if (answer.headers.get("content-type") !== "application/problem+json") return "The daemon has no answer just now.";
  const { detail, hint } = JSON.parse(text);
  const said = [detail, hint].filter(Boolean).map((each) => each.replaceAll("`", ""));
  return said.map((each) => `${each[0].toUpperCase()}${each.slice(1)}.`).join(" ");
}

function signedOut() {
  end("This browser is not signed in any more.", "Sign in", "/ui/sign-in");
}

function end(text, way, address) {
  if (isOver) return;
  isOver = true;
  close();
  const link = document.createElement("a");
  link.href = address;
  link.textContent = way;
  note("bad", "alert").append(`${text} `, link);
}

function note(kind, role) {
  const made = document.createElement("p");
  made.className = `outcome ${kind}`;
  made.setAttribute("role", role);
  document.querySelector("main").prepend(made);
  return made;
}

// Rows are known by their keys, so that one which comes or goes leaves the others as they are.
const isSame = (one, other) => one.nodeName === other.nodeName && one.dataset?.key === other.dataset?.key;

function follow(present, wanted) {
  let at = present.firstChild;
  for (const next of wanted.childNodes) {
    let found = at;
    while (found && !isSame(found, next)) found = next.dataset?.key ? found.nextSibling : null;
    if (found) {
      while (at !== found) at = drop(at);
      take(found, next);
      at = found.nextSibling;
    } else {
      const made = document.importNode(next, true);
      if (made.dataset?.key) made.classList.add("fresh");
      present.insertBefore(made, at);
    }
  }
  while (at) at = drop(at);
}

function drop(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

function take(present, wanted) {
  if (present.nodeType !== Node.ELEMENT_NODE) {
    if (present.data !== wanted.data) present.data = wanted.data;
    return;
  }
  if (present.matches("select, textarea, input:not([type=hidden])")) return; // is being filled in
  for (const { name, value } of wanted.attributes) {
    if (present.getAttribute(name) !== value) present.setAttribute(name, value);
  }
  for (const { name } of [...present.attributes]) {
    if (!wanted.hasAttribute(name) && name !== "open" && name !== "class") present.removeAttribute(name);
  }
  follow(present, wanted);
}

if (events && (isWhole || parts.length)) {
  open();
  if (!isWhole) setInterval(look, MINUTE);
  // What nobody sees holds no connection: a browser has six to a server, and pages need them.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return close();
    if (late || performance.now() - looked > MINUTE) look();
    open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
}
