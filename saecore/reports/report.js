// Clicking a legend entry fades every other series; clicking it again shows all of them.
const buttons = document.querySelectorAll(".legend button");
for (const button of buttons) {
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    for (const other of buttons)
      other.setAttribute("aria-pressed", String(on && other === button));
    for (const series of document.querySelectorAll("svg .series"))
      series.classList.toggle("faded", on && !series.classList.contains("c" + button.dataset.series));
  });
}
