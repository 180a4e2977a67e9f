const slides = [...document.querySelectorAll("main > .slide")];
const steps = { ArrowRight: 1, PageDown: 1, " ": 1, ArrowLeft: -1, PageUp: -1 };
let current = 0;

function show(number) {
  current = Math.min(Math.max(number, 0), slides.length - 1);
  slides.forEach((slide, index) => (slide.hidden = index !== current));
  document.querySelector("nav [role=status]").textContent = `${current + 1} / ${slides.length}`;
  history.replaceState(null, "", `#${current + 1}`);
  slides[current].focus();
}

function fromAddress() { // #12 is a slide's number, #goals a heading
  const name = decodeURIComponent(location.hash.slice(1));
  const heading = document.getElementById(name);
  show(heading ? slides.indexOf(heading.closest("main > .slide")) : (parseInt(name, 10) || 1) - 1);
}

document.addEventListener("keydown", (event) => {
  const inControl = event.target.closest("a, button, summary, .box");
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (inControl && !event.key.startsWith("Page")) return; // Enter, space and arrows belong to it
  const step = event.key === " " && event.shiftKey ? -1 : steps[event.key];
  const goal = { Home: 0, End: slides.length - 1 }[event.key] ?? (step && current + step);
  if (goal === undefined) return;
  event.preventDefault();
  show(goal);
});
document.querySelectorAll("nav [data-step]").forEach((button) => {
  button.addEventListener("click", () => show(current + Number(button.dataset.step)));
});
window.addEventListener("hashchange", fromAddress);
fromAddress();
