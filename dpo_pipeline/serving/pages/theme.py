"""What all pages share: look, breadcrumb, consent line, and how text of others is made harmless.

Fonts are the system's own: a page asks nothing of the internet.
"""

import html
from typing import Any

from dpo_pipeline.serving.site_map import SitePage, breadcrumb

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

# Gradio rewrites `css` so that it holds inside of a page only; what is around a page goes into the head.
FRAME = """
.gradio-container { max-width: 1200px !important; margin: 0 auto !important; }
#startup { position: sticky; top: 0; z-index: 100; margin: 0; padding: .6rem 1rem; text-align: center;
  font: 600 .9375rem/1.4 system-ui, sans-serif; color: #fff; background: #3730a3; }
.gradio-container .nav-holder nav { justify-content: flex-start !important; flex-wrap: wrap; }
@media (max-width: 700px) {
  .gradio-container .main.fillable { padding: 12px 16px !important; }
  .gradio-container .nav-holder nav { padding-left: 16px !important; padding-right: 16px !important; }
}
"""
# While no version can answer, every page says from its first second what is being made, and how long it takes.
STARTUP = """
(() => {
  const look = async shown => {
    const answer = await fetch("/startupz").then(found => found.json()).catch(() => null);
    if (answer && !answer.message) { if (shown) shown.remove(); return; }
    if (!shown) {
      shown = document.createElement("p");
      shown.id = "startup";
      shown.setAttribute("role", "status");
      document.body.prepend(shown);
    }
    const message = answer ? answer.message : "The server does not answer; trying again.";
    if (shown.textContent !== message) shown.textContent = message;
    setTimeout(look, 1000, shown);
  };
  // Gradio may put this into the head before there is a body, or long after.
  if (document.body) look(null); else document.addEventListener("DOMContentLoaded", () => look(null));
})();
"""
# Who is signed in stands beside the title; where nobody holds a key there is nothing to sign in with.
WHO = """
(() => {
  const show = async () => {
    const place = document.getElementById("who");
    if (!place) { setTimeout(show, 200); return; }
    const found = await fetch("/session").then(answer => answer.json()).catch(() => null);
    if (!found || !(found.name || found.offered)) return;
    if (!found.name) {
      const link = document.createElement("a");
      link.href = "/sign-in?then=" + encodeURIComponent(location.pathname); link.textContent = "Sign in";
      place.replaceChildren("Without a key you count as anonymous. ", link);
      return;
    }
    const leave = document.createElement("button");
    leave.textContent = "Sign out";
    // What was typed and shown here is nothing for whoever signs in next.
    const forget = () => { sessionStorage.clear(); location.reload(); };
    leave.onclick = () => fetch("/sign-out", {method: "POST"}).then(forget);
    place.replaceChildren(`Signed in as ${found.name}, ${found.role}. `, leave);
  };
  show();
})();
"""
CSS = """
#who { margin: .25rem 0 0; font-size: .875rem; color: var(--body-text-color-subdued); }
#who a, #who button { font: inherit; font-weight: 600; padding: 0; border: 0; background: none; cursor: pointer;
  color: var(--link-text-color); text-decoration: underline; }
.gradio-container .html-container { padding: 0; }
/* Gradio fades whatever it updates; here people read it meanwhile. */
.gradio-container .pending, .gradio-container .generating { opacity: 1 !important; animation: none; border: none; }
.gradio-container button:focus-visible, .gradio-container a:focus-visible {
  outline: 3px solid var(--color-accent); outline-offset: 2px; }
.crumbs { margin: 0 0 .25rem; font-size: .875rem; color: var(--body-text-color-subdued); }
.crumbs ol { display: flex; flex-wrap: wrap; list-style: none; margin: 0; padding: 0; }
.crumbs li { margin: 0; } .crumbs a { padding: 0 !important; margin: 0 !important; }
.crumbs li + li::before { content: "→"; margin: 0 .4rem; }
.page-title { margin: .1rem 0 0; font-size: 1.5rem; font-weight: 650; color: var(--body-text-color); }
.consent { margin: 1.5rem 0 0; padding-top: .75rem; border-top: 1px solid var(--border-color-primary);
  font-size: .8125rem; line-height: 1.45; color: var(--body-text-color-subdued); }
.notice { margin: 0; padding: .6rem .8rem; border-radius: 8px; overflow-wrap: anywhere;
  border: 1px solid var(--border-color-primary); border-left: 4px solid var(--color-accent);
  background: var(--block-background-fill); color: var(--body-text-color); }
.notice.trouble { border-color: #d92d20; color: #b42318; }
.dark .notice.trouble { color: #fda29b; }
.notice.trouble::before { content: "⚠ " / ""; font-weight: 700; }
"""


def theme() -> Any:
    """Gradio's default look with fonts of the system and an accent that can be read on light and on dark."""
    import gradio as gr

    default = gr.themes.Default(
        primary_hue="indigo", secondary_hue="indigo", neutral_hue="slate", font=SANS, font_mono=MONO
    )
    # Gradio's own choices here are too pale to read: at least 4.5 to 1 against what is behind.
    return default.set(
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_cancel_background_fill="#b42318",
        button_cancel_background_fill_dark="#b42318",
        button_cancel_background_fill_hover="#912018",
        button_cancel_background_fill_hover_dark="#912018",
        button_cancel_text_color="white",
        button_cancel_text_color_dark="white",
        link_text_color_dark="*primary_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )


def inert(text: str) -> str:
    """Text that somebody else wrote, as HTML that shows every character and does nothing."""
    return html.escape(text)


def notice(text: str, error: bool = False) -> str:
    """A message to the person; nothing for an empty text."""
    kind, role = ("notice trouble", "alert") if error else ("notice", "status")
    return f'<p class="{kind}" role="{role}">{inert(text)}</p>' if text else ""


def into_view(what: str) -> str:
    """For `js_on_load` of an HTML component: what is told there, as a CSS selector, may be off a small screen."""
    return f"""watch('value', () => requestAnimationFrame(() => {{  // it is not drawn yet
  element.querySelector('{what}')?.scrollIntoView({{block: 'nearest'}});
}}));"""


def heading(page: SitePage) -> str:
    """Breadcrumb and title of a page."""
    crumbs = breadcrumb(page.heading, page.address)
    return f'{crumbs}<h1 class="page-title">{inert(page.heading)}</h1><p id="who"></p>'


def consent(text: str) -> str:
    return f'<p class="consent">{inert(text)}</p>'
