"""Import Gradio as a server needs it: in less than half of the time that it takes, and without a word to its makers.

Each time it is imported, Gradio 6 reads the source of every component and writes a stub for editors beside it: two of
four seconds, in a folder that is often not ours to write to. Where a later Gradio no longer does, nothing is left out.
"""

import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from dpo_pipeline.quick_imports import quick_imports

MAKES_STUBS, BY = "gradio.component_meta", "create_or_modify_pyi"


class _WithoutStubs(MetaPathFinder, Loader):
    """Finds one module only, and gives it a function that does nothing."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == MAKES_STUBS else None
        if spec and spec.loader:
            self._theirs, spec.loader = spec.loader, self
        return spec

    def exec_module(self, module: ModuleType) -> None:
        self._theirs.exec_module(module)
        if hasattr(module, BY):
            setattr(module, BY, lambda *_, **__: None)


def import_gradio() -> Any:
    """`gradio`, imported once per process."""
    # Gradio reports its use to its makers unless told otherwise before it is imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    finder = _WithoutStubs()
    sys.meta_path.insert(0, finder)
    try:
        with quick_imports():
            import gradio
    finally:
        sys.meta_path.remove(finder)
    return gradio
