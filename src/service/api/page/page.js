// All that a page does beyond what a page without script does: copying, and a check that is followed live.
"use strict";
for (const button of document.querySelectorAll(".copy")) {
  const source = document.getElementById(button.dataset.copies);
  if (!source || !navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(source.innerText);
    button.textContent = button.dataset.done;
  });
}
const coming = document.querySelector("[data-reload]");
if (coming) setTimeout(() => location.reload(), 2000);
const progress = document.getElementById("progress");
if (progress) {
  const steps = document.getElementById("steps");
  let asks = false;
  // The page says the steps in its own language.
  const renewed = async () => {
    if (asks) return;
    asks = true;
    try {
      const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
      const came = page.querySelectorAll("#steps li");
      steps.append(...[...came].slice(steps.children.length));
    } finally {
      asks = false;
    }
  };
  const events = new EventSource(progress.dataset.events);
  events.addEventListener("progress", (event) => {
    const now = JSON.parse(event.data);
    progress.querySelector(".elapsed").textContent = now.elapsed_s;
    if (now.steps.length > steps.children.length) renewed();
    if (now.state !== "running") {
      events.close();
      location.reload();
    }
  });
  events.onerror = () => {
    events.close();
    setTimeout(() => location.reload(), 2000);
  };
}
