"""Links of pages: a version's name to the page of that version, and to the reports."""

import re

from dpo_pipeline.core.report import REPORTS, report_of
from dpo_pipeline.core.versions import is_version_name, page_of, served_name
from dpo_pipeline.serving.pages.markup import Markup, link, paragraph, text

_IN_A_SENTENCE = re.compile(r"\bv1\.(?:0|[1-9]\d*)\b(?!\.\d)")


def link_to(name: str) -> Markup:
    """Of `v1.1`, or `chat-v1.1` as the A/B page has it; any other name as it is."""
    version = served_name(name)
    return link(name, page_of(version)) if is_version_name(version) else Markup(text(name))


def linked(sentence: str) -> Markup:
    """A sentence, the names of versions in it leading to their pages."""
    return Markup(_IN_A_SENTENCE.sub(lambda found: link_to(found[0]), text(sentence)))


def report_links() -> Markup:
    return paragraph(Markup(" · ".join(link(title, report_of(name)) for name, title in REPORTS.items())))
