// Live updates of the list, and relative times that stay true. The pages work
// without it.
(() => {
  const ago = (s) => s < 60 ? `${s} s ago` : s < 3600 ? `${Math.floor(s / 60)} min ago` : s < 172800 ? `${Math.floor(s / 3600)} h ago` : `${Math.floor(s / 86400)} days ago`;
  const refresh = () => document.querySelectorAll("[data-since]").forEach((e) => {
    e.textContent = ago(Math.max(0, Math.floor((Date.now() - Date.parse(e.dataset.since)) / 1000)));
  });
  setInterval(refresh, 15000);

  const live = document.getElementById("live");
  if (!live) return;
  const rows = document.getElementById("rows"), state = document.getElementById("live-state"), pause = document.getElementById("pause");
  const most = Math.max(200, rows.children.length);
  let waiting = [], arrived = 0, missed = 0;
  const say = (text) => { state.textContent = text + (missed ? ` ${missed} were too many to show: load the page again.` : ""); };
  const told = () => say(arrived ? `Live: ${arrived} new since the page was loaded.` : "Live: new issuances appear by themselves.");
  const show = (html) => {
    rows.insertAdjacentHTML("afterbegin", html);
    rows.firstElementChild.classList.add("new");
    while (rows.children.length > most) rows.lastElementChild.remove();
    document.getElementById("empty").hidden = true;
  };
  const source = new EventSource(live.dataset.stream);
  live.hidden = false;
  source.onopen = told;
  source.onerror = () => say("The broker does not answer; trying again.");
  source.addEventListener("missed", (e) => { missed += Number(e.data); told(); });
  source.addEventListener("issuance", (e) => {
    arrived++;
    if (pause.getAttribute("aria-pressed") === "true") {
      waiting = [...waiting, e.data].slice(-most);
      say(`Paused: ${waiting.length} waiting.`);
      return;
    }
    show(e.data);
    told();
  });
  pause.addEventListener("click", () => {
    const paused = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", String(paused));
    if (paused) return say("Paused.");
    waiting.forEach(show);
    waiting = [];
    told();
  });
})();
