"""A page of found pairs to look at: one HTML file, its thumbnails inline, that asks no network."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from keras_vit_scale.atomic import write_text
from keras_vit_scale.data.decode import BadImageError
from keras_vit_scale.data.near_duplicates.candidates import WITHIN
from keras_vit_scale.data.near_duplicates.exclusions import Exclusions
from keras_vit_scale.data.sources import Source

#: Pairs that are shown: the most doubtful, which are the farthest apart.
SHOWN = 120

#: Pixels of the longer side of a thumbnail.
SIDE = 160

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { padding: .15rem .9rem .15rem 0; text-align: right; }
th:first-child, td:first-child { text-align: left; }
.pairs { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(22rem, 1fr)); }
figure { border: 1px solid #8885; border-radius: 6px; margin: 0; padding: .6rem; }
.two { display: grid; gap: .5rem; grid-template-columns: 1fr 1fr; }
.two div { min-width: 0; } .two p { font-size: .8rem; margin: .2rem 0 0; overflow-wrap: anywhere; }
.two img { display: block; height: 160px; object-fit: contain; width: 100%; background: #8882; }
figcaption { font-weight: 600; margin-bottom: .3rem; } .note { opacity: .75; }
.bar { background: #4c78a8; display: inline-block; height: .7em; }
"""


def write_page(
    path: Path, train: Source, against: Sequence[Source], exclusions: Exclusions
) -> None:
    """Writes a page of what a list excludes: how many, how far apart, and the pairs farthest apart.

    Args:
        path: The file.
        train, against: The sources that the list was made from; the images shown are read again.
        exclusions: The list.
    """
    pairs, about = exclusions.pairs(), exclusions.about
    shown = pairs.sort_values(["distance", "image"], ascending=[False, True], kind="stable")
    shown = shown.head(SHOWN)
    figures = "".join(_figure(row, train, against) for row in shown.to_dict("records"))
    many = len(pairs) > len(shown)
    heading = f"The {len(shown)} pairs farthest apart" if many else "All pairs, the farthest first"
    if not len(pairs):
        heading = "No pairs were found"
    check = "" if about["similarity"] is None else f", cosine at least {about['similarity']:g}"
    write_text(
        path,
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Near-duplicates</title>
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>{_STYLE}</style></head><body>
<h1>{len(pairs):,} of {about["images"]:,} training images are near-duplicates</h1>
<p>Hashes differ in at most {about["threshold"]} bits of 256{check}. {about["plain"]:,} plain and
{about["unread"]:,} unreadable training images were not compared.</p>
{_counts(pairs, against)}
<h2>How far apart they are</h2>
{_distances(pairs)}
<h2>{heading}</h2>
<p class="note">On the left the training image, which goes; on the right what it resembles. If pairs
here are no duplicates, take a lower threshold.</p>
<div class="pairs">{figures}</div>
</body></html>
""",
    )


def _counts(pairs, against):
    rows = [
        (f"evaluation source {i}: {source!r}", (pairs["source"] == i).sum())
        for i, source in enumerate(against)
    ]
    rows.append(("the training source itself", (pairs["source"] == WITHIN).sum()))
    body = "".join(f"<tr><td>{escape(what)}</td><td>{n:,}</td></tr>" for what, n in rows)
    mirrored = int(pairs["mirrored"].sum())
    return (
        f"<table><tr><th>near-duplicates of an image of</th><th>images</th></tr>{body}"
        f"<tr><td>of all, mirrored</td><td>{mirrored:,}</td></tr></table>"
    )


def _distances(pairs):
    """How many pairs there are at distances from 0 on, four bits a row."""
    if not len(pairs):
        return "<p>Nothing to show.</p>"
    counts = np.bincount(pairs["distance"] // 4)
    rows = "".join(
        f"<tr><td>{4 * i} to {4 * i + 3} bits</td><td>{n:,}</td><td style='text-align:left'>"
        f"<span class='bar' style='width:{max(1, round(240 * n / counts.max())) if n else 0}px'>"
        "</span></td></tr>"
        for i, n in enumerate(counts)
    )
    return f"<table>{rows}</table>"


def _figure(row: dict[str, Any], train: Source, against: Sequence[Source]) -> str:
    """A pair with its distance."""
    within = row["source"] == WITHIN
    other = train if within else against[row["source"]]
    where = "training" if within else f"evaluation {row['source']}"
    told = f"{row['distance']} bits" + (", mirrored" if row["mirrored"] else "")
    if not pd.isna(row["similarity"]):
        told += f", cosine {row['similarity']:.3f}"
    return (
        f"<figure><figcaption>{told}</figcaption><div class='two'>"
        f"{_picture(train, row['image'], 'training')}{_picture(other, row['other'], where)}"
        "</div></figure>"
    )


def _picture(source: Source, index: int, where: str) -> str:
    name = source.class_names[int(source.labels[index])]
    caption = escape(f"{where} {index}, {name}")
    try:
        image = source[index][0]
    except BadImageError as error:
        return f"<div>{escape(str(error))}<p>{caption}</p></div>"
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    small = max(picture.size) < SIDE
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG" if small else "JPEG", **({} if small else {"quality": 80}))
    data = base64.b64encode(buffer.getvalue()).decode()
    kind = "png" if small else "jpeg"
    return f"<div><img alt='{caption}' src='data:image/{kind};base64,{data}'><p>{caption}</p></div>"
