const slides = [...document.querySelectorAll("main > .slide")];
const steps = { ArrowRight: 1, PageDown: 1, " ": 1, ArrowLeft: -1, PageUp: -1 };
let current = 0;

function show(number) {
  current = Math.min(Math.max(number, 0), slides.length - 1);
  slides.forEach((slide, index) => (slide.hidden = index !== current));
  document.querySelector("nav [role=status]").textContent = `${current + 1} / ${slides.length}`;
  history.replaceState(null, "", `#${current + 1}`);
  document.querySelector("main").scrollTop = 0;
  slides[current].focus({ preventScroll: true });
}

function fromAddress() { // #12 is a slide's number, whatever the headings are called; #goals a heading
  let name = location.hash.slice(1);
  if (/^\d+$/.test(name)) return show(Number(name) - 1);
  try { name = decodeURIComponent(name); } catch { name = ""; }
  show(slides.indexOf(document.getElementById(name)?.closest("main > .slide")));
}

function keeps(target, key) { // what has the focus keeps a key only if it does something with it
  if (target.closest("input, select, textarea, [contenteditable]")) return true;
  if (key === " ") return target.closest("button, summary") !== null;
  const scrolls = (box) => box.scrollWidth > box.clientWidth && /auto|scroll/.test(getComputedStyle(box).overflowX);
  for (let box = target; key.startsWith("Arrow") && box.matches(".slide *"); box = box.parentElement) if (scrolls(box)) return true;
  return false;
}

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || keeps(event.target, event.key)) return;
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
