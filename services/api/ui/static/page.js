// What a page does by itself: says when it is hidden, and shows the numbers of a token.
document.addEventListener("visibilitychange", () => window.emitEvent?.("seen", !document.hidden));
let tip = null;
function showTip(event) {
  const token = event.target.closest?.("[data-tip]");
  tip?.remove();
  tip = null;
  if (!token) return;
  tip = document.createElement("div");
  tip.className = "token-tip";
  tip.textContent = token.dataset.tip;
  document.body.append(tip);
  const at = token.getBoundingClientRect();
  const left = Math.min(at.left, innerWidth - tip.offsetWidth - 8);
  const above = at.top - tip.offsetHeight - 8;
  tip.style.left = Math.max(8, left) + "px";
  tip.style.top = (above > 56 ? above : at.bottom + 8) + "px";
}
document.addEventListener("mouseover", showTip);
document.addEventListener("click", showTip);
document.addEventListener("scroll", () => tip?.remove(), true);
