"""Types without what they tell the command line: Griffe extension.

`Annotated[str | None, arg(metavar="MODEL")]` is `str | None` to who calls the function.
"""

import griffe

FOR_THE_COMMAND = ("Annotated", "Positional")


class Annotations(griffe.Extension):
    def on_attribute_instance(self, *, attr, **kwargs):
        attr.annotation = _plain(attr.annotation)


def _plain(annotation):
    while (
        isinstance(annotation, griffe.ExprSubscript)
        and str(annotation.left).rpartition(".")[2] in FOR_THE_COMMAND
    ):
        inner = annotation.slice
        annotation = inner.elements[0] if isinstance(inner, griffe.ExprTuple) else inner
    return annotation
