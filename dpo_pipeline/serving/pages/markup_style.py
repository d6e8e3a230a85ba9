"""How the markup of pages looks. Colours are Gradio's own variables, so that light and dark follow the theme."""

STYLE = """<style>
.dpo { color: var(--body-text-color); font-size: 0.95rem; line-height: 1.5; overflow-wrap: anywhere; }
.dpo h2 { margin: 0.9rem 0 0.3rem; font-size: 1.05rem !important; }
.dpo .muted { color: var(--body-text-color-subdued); font-size: 0.85rem; }
.dpo .notice { border-left: 4px solid var(--color-accent); background: var(--background-fill-secondary);
  padding: 0.6rem 0.9rem; margin: 0.3rem 0; }
.dpo .notice + p { margin-top: .5rem !important; }
.dpo .notice.trouble { border: 1px solid #d92d20; border-left-width: 4px; color: #b42318; }
.dark .dpo .notice.trouble { color: #fda29b; }
.dpo .warned { border-left-color: #b45309 !important; color: #92400e !important; }
.dark .dpo .warned { color: #fcd34d !important; }
.dpo a { padding: 0 !important; }
.dpo .warned b { color: inherit; }
.dpo .command pre code { white-space: pre-wrap; overflow-wrap: anywhere; }
.dpo .wide { overflow-x: auto; contain: inline-size; }
.dpo table { border-collapse: collapse; width: 100%; margin: 0.2rem 0 0.6rem; border: none; }
.dpo caption { text-align: left; color: var(--body-text-color-subdued); font-size: 0.85rem; padding-bottom: 0.2rem; }
.dpo .wide :is(table, thead, tbody, tr) { border: none !important; }
.dpo .wide th, .dpo .wide td { text-align: left; padding: 0.35rem 0.6rem; border: none;
  border-bottom: 1px solid var(--border-color-primary); vertical-align: top; overflow-wrap: break-word; }
.dpo .wide :is(th, .short) { white-space: nowrap; }
.dpo .wide .long { min-width: 15rem; }
.dpo .wide .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
@media (max-width: 600px) {
  .dpo .stacked :is(table, caption, tbody, tr, th) { display: block; }
  .dpo .stacked thead { display: none; }
  .dpo .wide.stacked tr { border-bottom: 1px solid var(--border-color-primary) !important; padding: 0.4rem 0; }
  .dpo .wide.stacked :is(th, td, .number, .long) { padding: 0.1rem 0; border: none; text-align: left;
    white-space: normal; min-width: 0; }
  .dpo .wide.stacked td { display: grid; grid-template-columns: 9rem 1fr; gap: 0.6rem; }
  .dpo .wide.stacked td:has(> div:empty) { display: none; }
  .dpo .stacked td::before { content: attr(data-name); color: var(--body-text-color-subdued); }
}
.dpo .bar { position: relative; height: 0.9rem; border-radius: 0.45rem; background: var(--border-color-primary);
  min-width: 6rem; overflow: hidden; }
.dpo .bar > i { position: absolute; inset: 0 auto 0 0; background: var(--color-accent); border-radius: 0.45rem; }
.dpo .bar > u { position: absolute; top: 0; bottom: 0; background: repeating-linear-gradient(
  -45deg, var(--color-accent) 0 3px, transparent 3px 7px); }
.dpo .bar > b { position: absolute; top: 0; bottom: 0; width: 2px; background: var(--body-text-color); opacity: 0.55; }
.dpo .scale { display: grid; grid-template-columns: minmax(4rem, auto) 1fr minmax(8.5rem, auto); gap: 0.35rem 0.8rem;
  align-items: center; margin: 0.5rem 0; }
@media (max-width: 600px) {
  .dpo .scale { grid-template-columns: auto 1fr; }
  .dpo .scale > span:nth-child(3n) { grid-column: 2; font-size: 0.85rem; }
}
.dpo .track { position: relative; height: 1.5rem; border-bottom: 1px solid var(--border-color-primary); }
.dpo .track > i { position: absolute; top: 0.7rem; height: 3px; background: var(--color-accent); }
.dpo .track > b { position: absolute; top: 0.35rem; width: 0.75rem; height: 0.75rem; margin-left: -0.375rem;
  border-radius: 50%; background: var(--color-accent); border: 2px solid var(--body-background-fill); }
.dpo .track > s { position: absolute; top: 0; bottom: 0; width: 1px; background: var(--body-text-color-subdued); }
.dpo .turn { white-space: pre-wrap; width: fit-content; max-width: min(44rem, 92%); padding: 0.5rem 0.8rem;
  margin: 0.6rem 0 0.1rem; border-radius: 0.8rem; border: 1px solid var(--border-color-primary);
  background: var(--background-fill-secondary); }
.dpo .turn.model { white-space: normal; }
.dpo .turn.model:has(.md-code, .md-wide) { width: min(44rem, 92%); }
.dpo .turn.own { margin-left: auto; border-color: var(--color-accent); }
.dpo .by { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0.1rem 0.9rem; margin: 0 0 0.6rem 0.3rem;
  font-size: 0.8rem; }
.dpo .own > .by { justify-content: flex-end; }
.dpo .act { border: none !important; background: none !important; padding: 0 !important; cursor: pointer;
  box-shadow: none !important; font: inherit !important; margin: 0 !important; color: var(--link-text-color) !important;
  text-decoration: underline; }
.dpo .act:disabled { cursor: default; text-decoration: none; color: var(--body-text-color-subdued) !important; }
.dpo .act[aria-pressed=true] { font-weight: 700 !important; text-decoration: none;
  color: var(--body-text-color) !important; }
.dpo .asks { border-left-color: #b45309; font-weight: 600; padding: 0.5rem 0.9rem; }
.dpo :is(.stage-track, .rules, .timeline) { padding: 0 !important; margin: 0.4rem 0 !important; }
.dpo :is(.stage-track, .rules, .timeline) > li { list-style: none !important; margin: 0; padding: 0; }
.dpo .stage-track { display: grid; grid-template-columns: repeat(5, 1fr); gap: 0.5rem; }
.dpo .stage-track > li { border-top: 4px solid var(--border-color-primary); padding-top: 0.4rem; }
.dpo .stage-track > li.done { border-top-color: #15803d; }
.dpo .stage-track > li.now { border-top-color: var(--color-accent); }
.dpo .stage-track > li.to-come { color: var(--body-text-color-subdued); }
.dpo .stage-track span { display: block; font-size: 0.85rem; }
.dpo .rules { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 0.6rem; }
.dpo .rules > li { border: 1px solid var(--border-color-primary); border-radius: 0.5rem; padding: 0.6rem 0.8rem; }
.dpo .rules p { display: block !important; margin: 0.1rem 0 0; }
.dpo .rule { display: flex; justify-content: space-between; gap: 0.5rem; align-items: start; }
.dpo .chip { display: inline-block; border: 1px solid currentColor; border-radius: 1rem; padding: 0 0.6rem;
  font-size: 0.8rem; font-weight: 600; white-space: nowrap; color: var(--body-text-color-subdued); }
.dpo .chip.ok { color: #166534; } .dark .dpo .chip.ok { color: #86efac; }
.dpo .chip.watching { color: #92400e; } .dark .dpo .chip.watching { color: #fcd34d; }
.dpo .chip.triggered { color: #b42318; } .dark .dpo .chip.triggered { color: #fda29b; }
.dpo .axis { position: relative; height: 1.3rem; }
.dpo .axis > span { position: absolute; top: 0.25rem; font-size: 0.75rem; line-height: 1; transform: translateX(-50%);
  white-space: nowrap; color: var(--body-text-color-subdued); }
.dpo .axis > span::before { content: ""; position: absolute; left: 50%; top: -0.3rem; height: 0.25rem; width: 1px;
  background: var(--body-text-color-subdued); }
.dpo .scale > span:empty { display: none; }
.dpo .limit { position: relative; height: 2.1rem; margin: 0.2rem 0.8rem 0; }
.dpo .limit ~ .axis { margin: 0 0.8rem; }
.dpo .limit > u { position: absolute; left: 0; right: 0; top: 1.6rem; height: 1px;
  background: var(--border-color-primary); }
.dpo .limit > i { position: absolute; top: 1.5rem; height: 4px; border-radius: 2px; background: var(--color-accent); }
.dpo .limit > b { position: absolute; top: 1.2rem; width: 0.75rem; height: 0.75rem; margin-left: -0.375rem;
  border-radius: 50%; background: var(--color-accent); border: 2px solid var(--body-background-fill); }
.dpo .limit > s { position: absolute; top: 1.1rem; height: 1rem; width: 2px; background: var(--body-text-color); }
.dpo .limit > span { position: absolute; top: 0; font-size: 0.75rem; transform: translateX(-50%);
  white-space: nowrap; color: var(--body-text-color-subdued); }
.dpo .strip { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(13rem, 100%), 1fr)); gap: 0.6rem;
  padding: 0 !important; margin: 0.8rem 0 !important; }
.dpo .strip > li { list-style: none !important; margin: 0; padding: 0.6rem 0.8rem; border-radius: 0.5rem;
  border: 1px solid var(--border-color-primary); border-top: 4px solid var(--border-color-primary); }
.dpo .strip > li.working { border-top-color: var(--color-accent); }
.dpo .strip > li.stuck { border-top-color: #d92d20; }
.dpo .strip h2 { margin: 0; }
.dpo .strip p { display: block !important; margin: 0.3rem 0 0 !important; }
.dpo .strip a { margin: 0; white-space: nowrap; }
.dpo .strip .figure { font-size: 1.5rem; font-weight: 600; }
.dpo .spark { width: 100%; height: 2rem; margin-top: 0.4rem; }
.dpo .spark polyline { fill: none; stroke: var(--color-accent); stroke-width: 2; }
.dpo .timeline > li { border-left: 2px solid var(--border-color-primary); padding: 0 0 0.5rem 0.9rem; }
#history:has(.complete) ~ #older, .column:has(.complete) #older { display: none; }
.dpo summary { cursor: pointer; }
.dpo summary:focus-visible { outline: 3px solid var(--color-accent); outline-offset: 2px; }
.dpo time { color: var(--body-text-color-subdued); font-size: 0.85rem; font-variant-numeric: tabular-nums; }
@media (max-width: 600px) {
  .dpo .stage-track { grid-template-columns: 1fr; }
  .dpo .stage-track > li { border-top: none; padding: 0 0 0 0.7rem;
    border-left: 4px solid var(--border-color-primary); }
  .dpo .stage-track > li.done { border-left-color: #15803d; }
  .dpo .stage-track > li.now { border-left-color: var(--color-accent); }
  .dpo .stage-track > li:not(.now) span { display: inline; margin-left: 0.6rem; }
}
.dpo .text { white-space: pre-wrap; border: 1px solid var(--border-color-primary); border-radius: 0.5rem;
  padding: 0.6rem 0.8rem; background: var(--background-fill-secondary); margin: 0.2rem 0 0.6rem; }
.dpo details { border-bottom: 1px solid var(--border-color-primary); padding: 0.3rem 0; }
.dpo summary { cursor: pointer; }
.dpo mark { background: color-mix(in srgb, var(--color-accent) 28%, transparent); color: inherit; border-radius: 2px; }
.dpo .sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); gap: 0.8rem; }
.dpo .figures { display: flex; flex-wrap: wrap; gap: 0.6rem 2rem; margin: 0.4rem 0; }
.dpo .figures dt { color: var(--body-text-color-subdued); font-size: 0.85rem; }
.dpo .figures dd { margin: 0; font-size: 1.25rem; font-weight: 600; }
</style>"""
