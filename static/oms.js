// What the pages need beyond htmx. No eval, no inline handlers: the content security policy is strict.
"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const root = document.documentElement;
  const typing = (node) => node && (node.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(node.tagName)) && !/^(checkbox|radio|button|submit)$/.test(node.type);

  // --- pulse: one timer for all live regions -----------------------------------------------------
  setInterval(() => { if (!document.hidden) htmx.trigger(document.body, "pulse"); }, 5000);

  // --- toasts: HX-Trigger {"toast": {"text": "…", "tone": "ok|warn|bad", "url": "…", "link": "Undo"}} --
  function toast({ text, tone = "ok", url, link, undo }) {
    const node = $("#toast-template").content.firstElementChild.cloneNode(true);
    node.classList.add(tone);
    node.setAttribute("role", tone === "bad" ? "alert" : "status");
    $("span", node).textContent = text;
    if (url) {
      const anchor = document.createElement("a");
      anchor.href = url;
      anchor.textContent = link || "Open";
      $("span", node).append(" ", anchor);
    }
    if (undo) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "button small";
      button.textContent = "Undo";
      button.addEventListener("click", () => { node.remove(); htmx.ajax("POST", undo.url, { values: undo.values, swap: "none" }); });
      $("span", node).after(button);
    }
    $("#toasts").append(node);
    if (tone !== "bad") setTimeout(() => node.remove(), url || undo ? 10000 : 5000);
  }
  document.addEventListener("toast", (event) => toast(typeof event.detail.value === "string" ? { text: event.detail.value } : event.detail));
  setTimeout(() => $$("#toasts > .toast:not(.error)").forEach((node) => node.remove()), 10000);

  // --- failures that are not swapped into the page ------------------------------------------------
  document.addEventListener("htmx:responseError", (event) => {
    const { status } = event.detail.xhr;
    const reference = event.detail.xhr.getResponseHeader("X-Request-ID");
    const words = { 403: "You may not do this.", 404: "This no longer exists, or you may not see it.", 429: "Too many requests: wait a moment." };
    toast({ text: `${words[status] || `The server answered ${status}.`}${reference ? ` Reference ${reference}` : ""}`, tone: "bad" });
    beep(false);
  });
  document.addEventListener("htmx:sendError", () => { toast({ text: "No connection: nothing was recorded. Try again.", tone: "bad" }); beep(false); });

  // --- a request is running: thin bar, no second submit ------------------------------------------
  let running = 0;
  const bar = (change) => { running = Math.max(0, running + change); $("#busy")?.classList.toggle("on", running > 0); };
  const isPulse = (event) => event.detail.requestConfig?.triggeringEvent?.type === "pulse";
  document.addEventListener("htmx:beforeRequest", (event) => { if (!isPulse(event)) bar(1); });
  document.addEventListener("htmx:afterRequest", (event) => { if (!isPulse(event)) bar(-1); event.target.closest?.("form")?.removeAttribute("aria-busy"); });
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.getAttribute("aria-busy") === "true") { event.preventDefault(); event.stopImmediatePropagation(); return; }
    form.setAttribute("aria-busy", "true");
    if (!form.matches("[hx-post],[hx-put],[hx-patch],[hx-delete],[data-hx-post]")) setTimeout(() => form.removeAttribute("aria-busy"), 8000);
  }, true);
  addEventListener("pageshow", () => $$("form[aria-busy]").forEach((form) => form.removeAttribute("aria-busy")));
  document.addEventListener("htmx:configRequest", (event) => {
    if (event.detail.verb !== "get") return;
    for (const [name, value] of [...event.detail.formData.entries()]) if (value === "") event.detail.formData.delete(name);
  });

  // --- dialogs and menus --------------------------------------------------------------------------
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-open]");
    if (opener) { event.preventDefault(); $(`#${CSS.escape(opener.dataset.open)}`)?.showModal(); }
    if (event.target.closest("[data-close]") || event.target.matches("dialog[open]")) event.target.closest("dialog")?.close();
    event.target.closest("[data-dismiss]")?.closest(".toast")?.remove();
    for (const menu of $$("details.menu[open]")) if (!menu.contains(event.target) || event.target.closest(".menu-list a, .menu-list [data-open]")) menu.open = false;
    const copier = event.target.closest("[data-copy]");
    if (copier) navigator.clipboard?.writeText($(copier.dataset.copy).textContent.trim()).then(() => toast({ text: "Copied." }));
    if (event.target.closest("[data-print]")) print();
  });
  document.addEventListener("dialog:close", () => $$("dialog[open]").forEach((dialog) => dialog.close()));
  document.addEventListener("htmx:afterSwap", (event) => {
    const dialog = event.target.closest?.("dialog[data-auto]") || $("dialog[data-auto]:not([open])", event.target);
    if (dialog && !dialog.open) dialog.showModal();
    $("[data-focus], [aria-invalid=true]", event.target)?.focus();
  });

  // --- tabs: the one in use is in sight, on a phone as well ----------------------------------------
  for (const tab of $$(".tabs [aria-current]")) tab.parentElement.scrollLeft = tab.offsetLeft - tab.parentElement.offsetLeft - (tab.parentElement.clientWidth - tab.offsetWidth) / 2;

  // --- lists: columns, saved views, files ---------------------------------------------------------
  const wanted = () => {
    const query = new URLSearchParams(location.search);
    for (const name of ["cursor", "saved"]) query.delete(name);
    return query;
  };
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-submit]")) { event.target.form.requestSubmit(); return; }
    const form = event.target.closest("[data-columns]");
    if (!form) return;
    root.dataset.density = new FormData(form).get("density");
    const hidden = $$("input[name=shown]:not(:checked)", form).map((box) => box.dataset.place).join(" ");
    $$("table[data-hide]").forEach((table) => { table.dataset.hide = hidden; });
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-open=save-view]")) $("[data-current-query]").value = wanted().toString();
    const file = event.target.closest("[data-csv]");
    if (file) { const query = wanted(); query.set("format", "csv"); file.href = `?${query}`; }
  });

  // --- theme --------------------------------------------------------------------------------------
  const markTheme = () => $$("[data-set-theme]").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.setTheme === root.dataset.theme)));
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-set-theme]");
    if (!button) return;
    root.dataset.theme = button.dataset.setTheme;
    markTheme();
    htmx.ajax("POST", button.parentElement.dataset.url, { values: { theme: root.dataset.theme }, swap: "none" });
  });
  markTheme();

  // --- palette ------------------------------------------------------------------------------------
  const palette = $("#palette");
  function openPalette(text = "") {
    if (!palette || palette.open) return;
    palette.showModal();
    const input = $("#palette-q");
    input.value = text;
    input.focus();
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }
  $("[data-palette-open]")?.addEventListener("focus", (event) => { if (event.target.matches(":focus")) { event.target.blur(); openPalette(event.target.value); } });
  palette?.addEventListener("close", () => { $("#palette-results").replaceChildren(); });
  palette?.addEventListener("input", () => {
    // screens are filtered at once; objects follow from the server
    const text = $("#palette-q").value.trim().toLowerCase();
    for (const item of $$("[data-screens] li", palette)) item.hidden = Boolean(text) && !item.textContent.toLowerCase().includes(text);
  });
  palette?.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    const links = $$(".palette-body a", palette).filter((link) => !link.closest("[hidden]"));
    const next = links.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1);
    (links[next] || (next < 0 ? $("#palette-q") : links[0]))?.focus();
  });

  // --- keys ---------------------------------------------------------------------------------------
  let prefix = 0;
  let entered = false;
  // Enter in a list's search box goes on to the rows: the only one is opened, else the first is stood on
  document.addEventListener("htmx:afterSettle", (event) => {
    if (!entered || event.target.id !== "results") return;
    entered = false;
    const found = rows();
    if (found.length === 1) location.href = found[0].dataset.href;
    else moveRow(1);
  });
  const rows = () => $$("main [data-href]");
  function moveRow(step) {
    const all = rows();
    const next = all[Math.min(all.length - 1, Math.max(0, all.findIndex((row) => row.classList.contains("at")) + step))];
    all.forEach((row) => row.classList.toggle("at", row === next));
    next?.scrollIntoView({ block: "nearest" });
  }
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") { event.preventDefault(); openPalette(); return; }
    if (event.key === "Escape" && event.target.closest?.(".cell-form")) {
      // not a click: htmx wires a fresh button a moment after it appears
      const form = event.target.closest(".cell-form");
      htmx.ajax("GET", $("[data-cancel]", form).getAttribute("hx-get"), { target: form.closest("td"), swap: "innerHTML" });
      return;
    }
    if (event.target.matches?.("main [data-search]") && (event.key === "Enter" || (event.key === "Escape" && !event.target.value))) {
      entered = event.key === "Enter";
      setTimeout(() => event.target.blur());
    }
    if (event.key === "Escape") {
      if (!typing(event.target) && !$("dialog[open], details.menu[open]")) $("[data-bulk]:not([hidden]) [data-select-none]")?.click();
      $$("details.menu[open]").forEach((menu) => { menu.open = false; $("summary", menu).focus(); });
    }
    if (!("keys" in document.body.dataset) || event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || $("dialog[open]")) return;
    const at = $("[data-href].at");
    if (prefix && Date.now() - prefix < 1500) { prefix = 0; const link = $(`.nav [data-go="${CSS.escape(event.key)}"]`); if (link) { event.preventDefault(); link.click(); return; } }
    switch (event.key) {
      case "g": prefix = Date.now(); break;
      case "/": { event.preventDefault(); const box = $("main [data-search]"); if (box?.offsetParent) box.focus(); else openPalette(); break; }
      case "?": $("#keys").showModal(); break;
      case "j": moveRow(1); break;
      case "k": moveRow(-1); break;
      case "e": { const cell = $(".cell", at || document.createElement("i")) || $('main [data-key="e"]'); if (cell) { event.preventDefault(); cell.click(); } break; }
      case "x": $("input[data-row]", at || document.createElement("i"))?.click(); break;
      case "Enter": if (at && event.target === document.body) location.href = at.dataset.href; break;
      default: {
        const target = $(`main [data-key="${CSS.escape(event.key)}"]`);
        if (!target) break;
        event.preventDefault();
        // in a list the key only leads to the button of the bulk bar, with the row it stands on when none is ticked: Enter does it
        const bar = target.closest("[data-bulk]");
        if (bar?.hidden) $("input[data-row]", at || document.createElement("i"))?.click();
        target.focus();
        if (!bar) target.click();
      }
    }
  });

  // --- row selection ------------------------------------------------------------------------------
  let lastBox = null;
  function countRows() {
    const bulk = $("[data-bulk]");
    if (!bulk) return;
    const picked = $$("input[data-row]:checked").length;
    const everything = $("input[name=all]", bulk);
    const all = everything && everything.value === "1" && picked > 0;
    if (everything && !picked) everything.value = "";
    bulk.hidden = !picked;
    const filters = $("[data-filters]");
    if (filters) filters.hidden = Boolean(picked);
    const total = $("table[data-total]")?.dataset.total || bulk.dataset.total;
    $("output", bulk).textContent = all ? `${total} selected` : `${picked} selected`;
    const more = $("[data-select-all]", bulk);
    if (more) { more.textContent = `Select all ${total} matching`; more.hidden = all || $$("input[data-row]").length < 2 || !$(".more-row"); }
    const head = $("input[data-all]");
    if (head) { head.checked = picked > 0 && picked === $$("input[data-row]").length; head.indeterminate = picked > 0 && !head.checked; }
  }
  document.addEventListener("click", (event) => {
    const box = event.target;
    if (box.matches?.("input[data-all]")) { $$("input[data-row]").forEach((row) => { row.checked = box.checked; }); countRows(); }
    if (box.matches?.("input[data-row]")) {
      const boxes = $$("input[data-row]");
      if (event.shiftKey && lastBox && boxes.includes(lastBox)) {
        const [from, to] = [boxes.indexOf(lastBox), boxes.indexOf(box)].sort((a, b) => a - b);
        boxes.slice(from, to + 1).forEach((row) => { row.checked = box.checked; });
      }
      lastBox = box;
      const everything = $("[data-bulk] input[name=all]");
      if (everything) everything.value = "";
      countRows();
    }
    if (box.closest?.("[data-select-all]")) {
      // the list may have been filtered since the page came: what is matched is what the address says
      $("[data-bulk] input[name=all]").value = "1";
      const query = $("[data-bulk] input[name=query]");
      if (query) query.value = location.search.slice(1);
       $$("input[data-row]").forEach((row) => { row.checked = true; });
      countRows();
    }
    if (box.closest?.("[data-select-none]")) { $$("input[data-row], input[data-all]").forEach((row) => { row.checked = false; }); countRows(); }
  });
  document.addEventListener("htmx:afterSettle", countRows);
  addEventListener("pageshow", countRows);

  // --- scanning: the box keeps the focus; the answer is heard -------------------------------------
  let sound = null;
  function beep(good) {
    if (!$("[data-scan]")) return;
    sound ??= new AudioContext();
    const tone = sound.createOscillator();
    const volume = sound.createGain();
    tone.type = good ? "sine" : "square";
    tone.frequency.value = good ? 1200 : 180;
    volume.gain.value = 0.15;
    tone.connect(volume).connect(sound.destination);
    tone.start();
    tone.stop(sound.currentTime + (good ? 0.09 : 0.45));
  }
  const toScan = () => { const box = $("[data-scan]"); if (box && !$("dialog[open]") && !typing(document.activeElement)) { box.focus({ preventScroll: true }); box.select(); } };
  document.addEventListener("scan:ok", () => beep(true));
  document.addEventListener("scan:bad", () => beep(false));
  document.addEventListener("htmx:afterSettle", () => { const box = $("[data-scan]"); if (box && !$("dialog[open]") && !$("[aria-invalid=true]")) { if (document.activeElement !== box && (box.form?.contains(document.activeElement) || !typing(document.activeElement))) { box.focus(); box.select(); } } });
  document.addEventListener("click", (event) => { if (!event.target.closest("a, button, input, select, textarea, summary, label, dialog")) setTimeout(toScan); });
  document.addEventListener("close", () => setTimeout(toScan), true);
  toScan();
})();
