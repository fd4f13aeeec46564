"""Shows the runnable `Example` of a docstring as code: griffe knows it as `Examples`."""

from typing import Any

import griffe


class Examples(griffe.Extension):
    """Renames the section while the reference is built."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section in one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")
