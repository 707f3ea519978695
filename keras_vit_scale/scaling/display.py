"""How results look in a notebook: a sentence, a table, and what to know."""

from collections.abc import Iterable, Sequence
from html import escape


def html_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    above: Iterable[str] = (),
    below: Iterable[str] = (),
) -> str:
    """A table as HTML, with sentences above and below it. Everything is escaped.

    Args:
        columns: Names of the columns.
        rows: Cells of each row; the first is its name.
        above, below: Sentences, each a paragraph and each an item of a list.

    Example:

    >>> from keras_vit_scale.scaling.display import html_table
    >>> html_table(["size", "error"], [["S/16", "< 0.2"]], above=["One size."])
    '<p>One size.</p><table>...<tbody><tr><th>S/16</th><td>&lt; 0.2</td></tr></tbody></table>'
    """
    paragraphs = "".join(f"<p>{escape(line)}</p>" for line in above)
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        f"<tr><th>{escape(name)}</th>" + "".join(f"<td>{escape(c)}</td>" for c in cells) + "</tr>"
        for name, *cells in rows
    )
    items = "".join(f"<li>{escape(line)}</li>" for line in below)
    notes = f"<ul>{items}</ul>" if items else ""
    return f"{paragraphs}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"
