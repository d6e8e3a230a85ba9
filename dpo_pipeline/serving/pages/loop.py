"""The loop, live: a strip from votes to rollout, what is happening, what comes next and why it waits."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from dpo_pipeline.core.overview import Overview, Step
from dpo_pipeline.core.versions import page_of
from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.pages.markup import Markup, chip, link, page, paragraph, text
from dpo_pipeline.serving.pages.markup_plots import bar, sparkline
from dpo_pipeline.serving.pages.polling import following
from dpo_pipeline.serving.pages.version_link import report_links
from dpo_pipeline.serving.site_map import page_at
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.mlflow_pages import page_of_run, version_page

REFRESH_S = 2.0
CHIPS = {
    "open": ("open", "ok"), "working": ("running", "ok"), "waiting": ("waiting", "none"), "ready": ("ready", "ok"),
    "done": ("done", "none"), "stuck": ("stuck", "triggered"),
}  # fmt: skip
PAGES_OF: Mapping[str, Sequence[str]] = {
    "Votes": ("compare", "contributors"), "Valid pairs": ("review",), "Training": ("versions",),
    "Evaluation": ("leaderboard",), "Rollout": ("rollout",),
}  # fmt: skip
"""By their paths in the map of the site."""
ASSET_OF = {
    "Votes": "preferences", "Valid pairs": "validated_pairs", "Training": "trained_adapter",
    "Evaluation": "eval_report", "Rollout": "rollout_decision",
}  # fmt: skip

YOUR_PART = paragraph(
    Markup(
        f"<b>Your part:</b> {link('compare two answers and vote', '/compare')}, "
        f"{link('chat, and rate or correct what you get', '/chat')}, or {link('review what is trained on', '/review')}."
    )
)
# The runs page of Dagster, with its own filter for a tag.
RUNS_OF = "/runs?q%5B0%5D=tag%3Adagster%2Fpartition%3D{version}"


def build(serving: Callable[[], Serving]) -> None:
    """The page, in the gr.Blocks context that is open."""
    import gradio as gr

    shown = gr.HTML(page(paragraph("Looking at the loop…", "muted")), elem_id="loop")

    def look(_: object, request: gr.Request) -> str:
        settings = serving().settings
        return overview_page(serving().loop_watch.look(), beside(settings, request), settings.registered_model)

    following(shown, look, REFRESH_S)


def beside(settings: Settings, request: Any) -> dict[str, str]:
    """Where Dagster and MLflow are for whoever looks: at their ports of the host that this page came from.

    Behind a proxy with TLS nobody here knows their addresses, so none are given.
    """
    asked = urlsplit(str(request.url))
    if asked.scheme != "http" or request.headers.get("x-forwarded-proto", "http") != "http":
        return {}
    host = f"http://[{asked.hostname}]" if ":" in str(asked.hostname) else f"http://{asked.hostname}"
    found = {"Dagster": f"{host}:{settings.ports.dagster}"}
    return found if settings.mlflow_url else found | {"MLflow": f"{host}:{settings.ports.mlflow}"}


def overview_page(found: Overview, programs: Mapping[str, str], model: str) -> str:
    """
    Args:
        programs: addresses of Dagster and MLflow, where they are known.
        model: what MLflow's registry calls it.
    """
    steps = "".join(_step(step, programs, model) for step in found.steps)
    return page(
        paragraph(Markup(f"<b>Now:</b> {text(found.happening)}"), "notice"),
        paragraph(Markup(f"<b>Next:</b> {text(found.next)}"), "notice"),
        YOUR_PART if any(step.state == "open" for step in found.steps) else Markup(),
        Markup(f'<ol class="strip" aria-label="From votes to rollout">{steps}</ol>'),
        report_links(),
    )


def _step(step: Step, programs: Mapping[str, str], model: str) -> str:
    word, kind = CHIPS[step.state]
    links = [link(each.name, each.address) for each in map(page_at, PAGES_OF[step.name]) if each]
    if step.version:
        links.insert(0, link(step.version, page_of(step.version)))
    if "Dagster" in programs:
        links.append(link("in Dagster", f"{programs['Dagster']}/assets/{ASSET_OF[step.name]}"))
        if step.version:
            links.append(link("its runs", programs["Dagster"] + RUNS_OF.format(version=step.version)))
    if "MLflow" in programs and (shown := _in_mlflow(step, model)):
        links.append(link("in MLflow", f"{programs['MLflow']}/{shown}"))
    parts = [
        f'<div class="rule"><h2>{text(step.name)}</h2>{chip(word, kind)}</div>',
        f'<p class="figure">{text(step.figure)}</p>',
        "" if step.share is None else bar(step.share, f"{step.name}: {step.share:.0%}"),
        sparkline(step.losses, "Loss so far") if len(step.losses) > 1 else "",
        f"<p>{text(step.said)}</p>",
        f'<p class="muted">{" · ".join(links)}</p>',
    ]
    return f'<li class="{step.state}">{"".join(parts)}</li>'


def _in_mlflow(step: Step, model: str) -> str | None:
    """The curves of a training; what came of it, once that is registered."""
    if step.mlflow_version and step.name != "Training":
        return version_page(model, step.mlflow_version)
    return page_of_run(step.mlflow_run) if step.mlflow_run else None
