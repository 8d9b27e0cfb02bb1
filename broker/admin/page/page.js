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
  const paused = () => pause.getAttribute("aria-pressed") === "true";
  const told = () => say(paused() ? `Paused: ${waiting.length} waiting.` : arrived ? `Live: ${arrived} new since the page was loaded.` : "Live: new issuances appear by themselves.");
  const show = (html) => {
    rows.insertAdjacentHTML("afterbegin", html);
    rows.firstElementChild.classList.add("new");
    while (rows.children.length > most) rows.lastElementChild.remove();
    document.getElementById("empty").hidden = true;
  };

  // A browser tries again by itself when a connection breaks, and not when it is
  // refused: then this does, later each time.
  const shortest = 2, longest = 60;
  const stream = new URL(live.dataset.stream, location.href);
  let wait = shortest;
  const open = () => {
    const source = new EventSource(stream);
    source.onopen = () => { wait = shortest; told(); };
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return say("The broker does not answer; trying again.");
      say(`No updates: too many are reading, or you are no operator any more. Trying again in ${wait} s.`);
      setTimeout(open, wait * 1000);
      wait = Math.min(2 * wait, longest);
    };
    source.addEventListener("missed", (e) => { missed += Number(e.data); told(); });
    source.addEventListener("issuance", (e) => {
      stream.searchParams.set("after", e.lastEventId);
      arrived++;
      if (paused()) waiting = [...waiting, e.data].slice(-most);
      else show(e.data);
      told();
    });
  };
  live.hidden = false;
  open();
  pause.addEventListener("click", () => {
    pause.setAttribute("aria-pressed", String(!paused()));
    if (!paused()) {
      waiting.forEach(show);
      waiting = [];
    }
    told();
  });
})();
