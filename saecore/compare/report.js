// A click on an architecture fades the others; a second click shows all again.
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    for (const other of document.querySelectorAll(".legend button"))
      other.setAttribute("aria-pressed", String(on && other === button));
    for (const one of document.querySelectorAll("svg .series"))
      one.classList.toggle("faded", on && !one.classList.contains("c" + button.dataset.series));
  });
}
