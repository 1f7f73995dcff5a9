// Keys 1, 2, 3 and 0 choose, unless the person is typing a comment.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=checkbox])")) return;
  const button = document.querySelector(`button[data-key="${event.key}"]`);
  if (button) button.click();
});
// A second click while the page loads would judge the next pair unseen.
const judgement = document.getElementById("judgement");
if (judgement) judgement.addEventListener("submit", () => setTimeout(() => {
  for (const button of judgement.querySelectorAll("button")) button.disabled = true;
}));
