"""The review page's keys, and its look on a phone."""

from dpo_pipeline.serving.pages.markup import Markup

# On a phone the pair comes before the list of others and the filters, which are a tap away.
LIST_STYLE = Markup(
    """<style>#review-list .wrap { flex-direction: column; align-items: stretch; }
#review-filters .choice { flex-basis: 6.5rem !important; min-width: 6.5rem !important; }
.column:has(#review-yes) #review-keep { background: var(--button-secondary-background-fill);
  color: var(--button-secondary-text-color); border-color: var(--button-secondary-border-color); }
#review-list label { white-space: normal; text-align: left; overflow-wrap: anywhere; }
#review-steps, #review-count .jump { display: none; }
@media (max-width: 700px) {
  #review-filters { order: 1; }
  #review-reading { order: -1; }
  #review-steps { display: block; }
  #review-count .jump { display: block; }
}</style>"""
)
# One pair on or back, exclude it, undo: while nobody is typing or choosing from a list.
KEYS = """
(() => {
  const own = "input:not([type=radio]), textarea, select, [contenteditable=true], [role=listbox], [role=combobox]";
  const step = by => {
    const pairs = [...document.querySelectorAll("#review-list input[type=radio]")];
    const next = pairs[pairs.findIndex(pair => pair.checked) + by];
    if (next) next.click();
    else document.getElementById(by > 0 ? "review-older" : "review-newer")?.click();
  };
  document.addEventListener("click", event => {
    const by = event.target.closest?.("[data-review-step]")?.dataset.reviewStep;
    if (by) step(Number(by));
  });
  const press = id => { const button = document.getElementById(id); if (button?.offsetParent) button.click(); };
  const keys = {
    j: () => step(1), k: () => step(-1), u: () => press("review-undo"), l: () => press("review-keep"),
    e: () => {
      const reason = document.querySelector("#reason textarea, #reason input");
      if (reason?.value.trim()) press("review-exclude"); else reason?.focus();
    },
  };
  document.addEventListener("keydown", event => {
    const act = keys[event.key.toLowerCase()];
    if (!act || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!document.getElementById("review-list") || event.target.closest?.(own)) return;
    event.preventDefault();
    act();
  });
})();
"""
KEYS_HINT = Markup(
    '<p class="ab-keys">'
    + "".join(
        f"<span><kbd>{key}</kbd> {what}</span>"
        for key, what in (
            ("J", "Next pair"),
            ("K", "Previous pair"),
            ("L", "Looks right"),
            ("E", "Exclude, with the reason"),
            ("U", "Undo"),
        )
    )
    + "</p>"
)
JUMPS = Markup(
    '<p class="jump"><a href="/review#review-list">Other pairs</a> · <a href="/review#review-filters">Filters</a></p>'
)
STEPS = Markup(
    '<p class="by"><button type="button" class="act" data-review-step="-1">Previous pair</button>'
    '<button type="button" class="act" data-review-step="1">Next pair</button></p>'
)
