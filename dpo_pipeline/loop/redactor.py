"""What takes personal data out of texts before they are stored: our patterns, and a function of the user's own."""

import importlib

from dpo_pipeline.core.redaction import Redactor, followed_by, redact
from dpo_pipeline.errors import SettingsError
from dpo_pipeline.in_words import fault
from dpo_pipeline.settings import Collection

TRIED = "Ann lives in Paris."


def redactor(collection: Collection) -> Redactor:
    """
    Raises:
        SettingsError: collection.redactor names nothing that can be called.
        RedactionFailed: it was tried on a sentence and failed.
    """
    if not collection.redactor:
        return redact
    module, _, function = collection.redactor.partition(":")
    try:
        own = getattr(importlib.import_module(module), function)
    except Exception as error:  # of the user's own module, which may do anything while it is imported
        raise SettingsError(
            f"collection.redactor is {collection.redactor!r}, which cannot be imported ({fault(error)}). It is "
            "module:function, such as our_redaction:without_names; PYTHONPATH names its folder."
        ) from error
    if not callable(own):
        raise SettingsError(f"collection.redactor is {collection.redactor!r}, which is no function.")
    found = followed_by(own, collection.redactor)
    found(TRIED)
    return found
