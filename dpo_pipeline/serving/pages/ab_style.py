"""How the A/B page looks and behaves in the browser; what it says is `ab_view`'s."""

from dpo_pipeline.serving.pages.markdown import TOGGLE
from dpo_pipeline.serving.services.slips import SLIP_S

CSS = """
.ab-progress { display: grid; grid-template-columns: minmax(16rem, 1fr) minmax(20rem, 1.4fr); gap: .5rem 2rem;
  align-items: end; color: var(--body-text-color); }
.ab-progress p { margin: 0 0 .3rem; font-size: .9375rem; }
.ab-progress b { font-variant-numeric: tabular-nums; }
.ab-bar { display: flex; height: 8px; border-radius: 4px; overflow: hidden; background: var(--border-color-primary); }
.ab-bar > span { height: 100%; background: var(--color-accent); }
.ab-bar > .simulated { background: repeating-linear-gradient(-45deg, var(--color-accent) 0 3px, transparent 3px 7px); }
.ab-coverage { display: grid; grid-template-columns: repeat(5, 1fr); gap: .25rem .9rem; margin: 0; padding: 0;
  list-style: none; font-size: .8125rem; color: var(--body-text-color-subdued); }
.ab-coverage li { margin: 0; white-space: nowrap; }
.ab-coverage .ab-bar { height: 4px; margin-top: .2rem; }
.ab-question { margin: 0; scroll-margin-top: .25rem; font-size: 1.125rem; font-weight: 600; line-height: 1.4;
  white-space: pre-wrap; overflow-wrap: anywhere; color: var(--body-text-color); }
.ab-question small { display: block; font-size: .8125rem; font-weight: 400; color: var(--body-text-color-subdued); }
.ab-turn { margin: 0 0 .6rem; padding: .5rem .8rem; border-radius: 10px; width: fit-content; max-width: min(44rem, 92%);
  border: 1px solid var(--border-color-primary); color: var(--body-text-color); overflow-wrap: anywhere; }
.ab-turn.user { margin-left: auto; white-space: pre-wrap; border-color: var(--color-accent); }
.ab-card { box-sizing: border-box; height: 100%; padding: .8rem 1rem 1rem; border-radius: 10px;
  border: 1px solid var(--border-color-primary); background: var(--block-background-fill);
  color: var(--body-text-color); }
.ab-card.chosen { border-color: var(--color-accent); box-shadow: inset 0 0 0 1px var(--color-accent); }
.ab-card h2 { display: flex; flex-wrap: wrap; gap: .25rem .6rem; align-items: baseline; margin: 0 0 .5rem;
  font-size: .9375rem; font-weight: 650; color: var(--body-text-color); }
.ab-card h2 .name { font-weight: 400; color: var(--body-text-color-subdued); }
.ab-card h2 .mark { font-weight: 600; color: var(--link-text-color); }
.ab-answer { min-height: 7rem; max-height: max(14rem, 60vh); overflow-y: auto; font-size: 1rem; line-height: 1.55;
  overflow-wrap: anywhere; }
.ab-answer.empty { color: var(--body-text-color-subdued); }
.ab-cell :is(.block, .html-container, .prose) { display: grid; grid-template: 1fr / minmax(0, 1fr); flex: 1; }
.gradio-container { overflow: visible !important; overflow-x: clip !important; }
#ab-bar { position: sticky; bottom: 0; z-index: 5; padding: .5rem 0; gap: .4rem;
  background: var(--body-background-fill); }
#ab-bar:not(:has(button:enabled)) { position: static; }
#ab-votes:has(#ab-next) button:not(#ab-next), .column:has(#ab-next) #ab-why { display: none; }
.ab-result { display: inline; margin: 0; font-size: 1rem; color: var(--body-text-color);
  background: var(--body-background-fill); }
:is(.ab-result, .ab-card h2) a { padding: 0; }
.ab-slip { border: none; background: none; padding: 0; cursor: pointer; text-decoration: underline; font: inherit;
  font-size: .875rem; color: var(--link-text-color); animation: ab-over 0s SLIP_S forwards; }
@keyframes ab-over { to { visibility: hidden; font-size: 0; } }
.ab-keys { margin: 0; font-size: .8125rem; line-height: 1.9; color: var(--body-text-color-subdued); }
.ab-keys span { display: inline-block; margin-right: 1rem; white-space: nowrap; }
.ab-keys kbd { padding: .05rem .35rem; border-radius: 4px; border: 1px solid var(--border-color-primary);
  background: var(--block-background-fill); color: var(--body-text-color); font: inherit; white-space: nowrap; }
.ab-order { align-items: center; }
.ab-line:not(:has(p)):not(:has(section)) { display: none; }
.ab-batch { margin: 0; font-weight: 600; color: var(--body-text-color); }
.ab-summary { padding: .8rem 1rem; border-radius: 10px; border: 1px solid var(--border-color-primary);
  background: var(--block-background-fill); color: var(--body-text-color); }
.ab-summary h2 { margin: 0 0 .4rem; font-size: 1rem; color: var(--body-text-color); }
.ab-summary ul { margin: 0; padding-left: 1.2rem; }
@media (max-width: 700px) {
  .ab-progress { grid-template-columns: 1fr; }
  .ab-coverage { grid-template-columns: repeat(2, 1fr); }
  .ab-answer { min-height: 0; height: 23vh; }
  /* What two answers and the bar leave: a long question scrolls, for answers below the bar cannot be compared. Half a
     line at its end shows that there is more. */
  .ab-question { max-height: max(5.2rem, 54vh - 17rem); overflow-y: auto; }
  .ab-card { padding: .5rem .8rem; } .ab-card h2 { margin: 0 0 .2rem; }
  .ab-result { font-size: .875rem; line-height: 1.35; }
  #ab-votes { display: grid; grid-template-columns: repeat(6, 1fr); gap: .4rem; }
  #ab-votes button { grid-column: span 2; min-width: 0 !important; padding: .5rem .25rem; }
  #ab-votes :is(#ab-left, #ab-right) { grid-column: span 3; }
  #ab-votes #ab-next { grid-column: span 6; }
}
/* One button at a time is the one to press: what cannot be pressed is none, nor what a pair on screen waits for. */
.column:has(#ab-left:enabled, #ab-next, .ab-card.growing) #ab-generate, #ab-votes button:disabled {
  background: var(--button-secondary-background-fill);
  color: var(--button-secondary-text-color); border-color: var(--button-secondary-border-color); }
@media (pointer: coarse) { .ab-keys { display: none; } }
""".replace("SLIP_S", f"{SLIP_S}s")
# A new question may be out of sight, above the buttons that were pressed; on a narrow screen it goes to the top, so
# that both answers fit below it. Once a typed one is sent, keys are for voting.
LOOK_UP = """watch('value', () => {
  const block = innerWidth > 700 ? 'nearest' : 'start';
  (element.querySelector('.ab-question') ?? element).scrollIntoView({block});
  if (document.activeElement?.closest('#ab-typed, #ab-follow')) document.activeElement.blur();
});"""
# Which vote was a slip, by the comparison that it was on: another may be on screen by now.
SLIPPED = """element.addEventListener("click", event => {
  const button = event.target.closest("button.ab-slip");
  if (button) trigger("select", {index: 0, value: button.dataset.comparison});
});"""
KEYS_HINT = (
    '<p class="ab-keys">'
    + " ".join(
        "<span>" + " ".join(f"<kbd>{key}</kbd>" for key in keys) + f" {what}</span>"
        for keys, what in (
            (("1", "A", "←"), "Model A"),
            (("2", "B", "→"), "Model B"),
            (("T",), "Tie"),
            (("X",), "Both bad"),
            (("S",), "Skip"),
            (("Enter",), "Next comparison"),
        )
    )
    + f"</p>{TOGGLE}"
)
