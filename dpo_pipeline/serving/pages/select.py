"""A list to choose from, as the browser has it: it closes by itself, and works by keyboard and on a phone.

Gradio's own is a text field with a list of ours painted below it, which stays open when one goes elsewhere.
"""

from collections.abc import Sequence
from functools import cache
from html import escape
from typing import Any

Choices = Sequence[tuple[str, str]]
"""What people read, and the value that stands for it."""
STYLE = """
.choice { flex: 1 1 9rem !important; min-width: min(9rem, 100%) !important; }
.choice label { display: block; margin-bottom: .25rem; font-size: .875rem; color: var(--body-text-color); }
.choice select { appearance: auto; width: 100%; min-height: 2.6rem; padding: .4rem .6rem; font: inherit;
  color: var(--body-text-color); background: var(--input-background-fill); border-radius: 8px;
  border: 1px solid var(--neutral-500); text-overflow: ellipsis; }
.choice option { color: var(--body-text-color); background: var(--body-background-fill); }
.choice select:focus-visible { outline: 3px solid var(--color-accent); outline-offset: 2px; }
"""
# The list is filled here and not by a template, so that nothing the server says closes it under somebody's hand.
SCRIPT = """
const list = element.querySelector("select");
const show = () => {
  const {choices, value} = props.value ?? {}, before = list.value;
  if (choices) list.replaceChildren(...choices.map(([label, value]) => new Option(label, value)));
  list.value = value ?? before;
  if (list.selectedIndex < 0) list.selectedIndex = 0;
  const offered = choices ?? [...list.options].map(each => [each.text, each.value]);
  const now = {choices: offered, value: list.value};
  if (JSON.stringify(now) !== JSON.stringify(props.value)) props.value = now;
};
list.addEventListener("change", () => { props.value = {...props.value, value: list.value}; trigger('input'); });
watch('value', show);
show();
"""


def select(
    choices: Choices, value: str | None = None, *, label: str, elem_id: str, show_label: bool = True, **options: Any
) -> Any:
    """The component. Its value is that of the choice; it tells of choices by its event `input`.

    Args:
        value: chosen at first; null: the first one.
        options: as gr.HTML takes them.
    """
    shown = f'<label for="{elem_id}-list">{escape(label)}</label>' if show_label else ""
    named = "" if show_label else f' aria-label="{escape(label)}"'
    return _select_class()(
        {"choices": [*choices], "value": choices[0][1] if value is None else value},
        html_template=f'{shown}<select id="{elem_id}-list"{named}></select>',
        elem_id=elem_id,
        js_on_load=SCRIPT,
        elem_classes="choice",
        **options,
    )


def offering(choices: Choices | None = None, chosen: str | None = None) -> Any:
    """An update: other choices, another one chosen, or both; what is chosen stays where it is offered."""
    import gradio as gr

    told = {"choices": choices and [*choices], "value": chosen}
    return gr.update(value={name: value for name, value in told.items() if value is not None})


@cache
def _select_class() -> type:
    import gradio as gr

    class Select(gr.HTML):
        def preprocess(self, payload: Any) -> str:
            value = payload.get("value", "") if isinstance(payload, dict) else payload
            return value if isinstance(value, str) else ""

        def postprocess(self, value: Any) -> Any:
            return {"value": value} if isinstance(value, str) else value

    return Select
