// What pages do beyond HTML. Rule: every page works without it; it reads no secret and loads nothing from elsewhere.
"use strict";

// A link of `authsome ui` opens without a further click.
document.querySelector("form[data-submit]")?.requestSubmit();
