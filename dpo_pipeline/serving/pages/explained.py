"""What a page says of an error to whoever is there; what only the server's people should read goes to the log."""

import logging

from dpo_pipeline.errors import DpoError
from dpo_pipeline.request_errors import RequestError

log = logging.getLogger(__name__)


def explained(error: DpoError) -> str:
    if not isinstance(error, RequestError):
        log.error("a page could not do what was asked: %s", error)
    return error.outside()
