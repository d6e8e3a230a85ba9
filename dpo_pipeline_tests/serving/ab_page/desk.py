"""What tests of the A/B page do with it: open it, wait for a pair, read it, and read what is on disk."""

from typing import TYPE_CHECKING, Any

from dpo_pipeline.core.votes import Preference, decode_preference
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline_tests.browser import Tab, tab
from dpo_pipeline_tests.examples import put_version
from dpo_pipeline_tests.programs_under_test import Server
from dpo_pipeline_tests.upstream import Upstream, answered_by

if TYPE_CHECKING:
    from playwright.sync_api import Browser

READY = "#ab-left:not([disabled])"
DONE = "#ab-next:visible"


def install(settings: Settings) -> None:
    """Two versions that the other server answers for; v1.0 in production, v1.1 on its way."""
    with Ledger(settings.ledger_address) as ledger:
        for name in ("v1.0", "v1.1"):
            sha = name[-1] * 64
            put_version(ledger, name, status="registered", adapter_sha=sha, adapter_dir="there", parent=None)
        ledger.install_champion("v1.0", actor="test")
        ledger.start_rollout("v1.1", ledger.deployment().epoch, ("test",), "test")


def variables(models: Upstream) -> dict[str, str]:
    """Without pairs that were decided before: which one would be drawn is nobody's to know."""
    return answered_by(models) | {"DPO_LIMITS__VOTES_PER_MINUTE": "10000", "DPO_COLLECTION__REPEAT_SHARE": "0"}


def at_desk(browser: "Browser", server: Server, **screen: Any) -> Any:
    return tab(browser, f"{server.url}/compare", wait="#ab-progress p", **screen)


def votes(settings: Settings) -> list[Preference]:
    log = settings.prefs_log
    return [decode_preference(line) for line in log.read_bytes().split(b"\n")[:-1]] if log.exists() else []


def ready(opened: Tab) -> None:
    """Both answers are there, and a person has looked at them for longer than a double click takes."""
    opened.page.wait_for_selector(READY)
    opened.page.wait_for_timeout(350)


def ask(opened: Tab, question: str) -> None:
    """A question of one's own, and its pair."""
    opened.page.fill("#ab-typed textarea", question)
    opened.page.click("#ab-generate")
    ready(opened)


def text(opened: Tab, selector: str) -> str:
    return opened.page.inner_text(selector).strip()


def answer(opened: Tab, side: str) -> str:
    return text(opened, f"#ab-card-{side} .ab-answer")


def counted(model: str, question: str) -> str:
    """Eight words, of each version its own: two equal answers are drawn again."""
    return f"one two three four five six seven {'eight' if model == 'v1.0' else 'ate'}"
