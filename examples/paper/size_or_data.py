"""Figure 2 (right): what holds a model back, its size or its data."""

from layout import COLOURS, ERRORS, markdown, name_sizes, panels, percent, save, small_log_axes

from keras_vit_scale.scaling import bottlenecks, paper_results

SHOWN = (("fewshot", "imagenet_10shot"), ("finetune", "imagenet"))


def found(table, column):
    """Best error by size and data."""
    r = paper_results(table)
    return bottlenecks(
        r["images_seen"], r[column], r["model"], r["images_in_dataset"],
        cost=r["flops"] / r["images_seen"],
    )  # fmt: skip


def section(folder, resamples: int) -> list[str]:
    """Lines of the report; the picture is written into `folder`."""
    save(draw(), folder / "bottlenecks.png")
    lines = [
        "## Bottlenecks: size and data",
        "",
        "![Best error by model and size of the data set](bottlenecks.png)",
        "",
        "The best error of each model on each data set, and in brackets the millions of images "
        "seen "
        "at it where it was not the longest run (then the error rose again).",
        "",
    ]
    for table, column in SHOWN:
        cells = found(table, column)
        amounts = sorted(cells["data"].unique())
        rows = []
        for name in dict.fromkeys(cells["size"]):
            mine = cells[cells["size"] == name].set_index("data")
            rows.append([name, *(best(mine.loc[a]) if a in mine.index else "" for a in amounts)])
        lines += [f"{ERRORS[table, column]}:", ""]
        lines += markdown(["", *(f"{a / 1e6:,.0f} M images" for a in amounts)], rows)
    cells = found(*SHOWN[0])
    rows = [
        [c.size, f"{c.data / 1e6:,.0f} M", percent(c.from_size), percent(c.from_data), c.bottleneck]
        for c in cells[cells["data"] < 3e9].itertuples(index=False)
        if c.size in ("s/28", "Ti/16", "S/16", "B/16", "L/16")
    ]
    lines += [
        "What the next larger model, or the next larger data set, would take off the 10-shot error "
        "(in logarithm, over the images that both have seen), and which of them is the bottleneck "
        "(at least 3 %):",
        "",
        *markdown(["", "data", "larger model", "more data", "bottleneck"], rows),
        "As in the paper, more data does nothing for small models, and on 30 million images it is "
        "data, not size, that holds B/16 and L/16 back: L/16's best 10-shot error is 27.8 % on 30 "
        "million images (after 400,000 steps, worse later), 19.0 % on 1 billion and 18.5 % on 3 "
        "billion. B/28, s/16 and s/28 have few results on 1 and 3 billion images, so their best "
        "errors there are those of short runs.",
        "",
    ]
    return lines


def best(cell) -> str:
    note = "" if cell["rise"] == 0 else f" ({cell['images_at_best'] / 1e6:,.0f})"
    return f"{cell['best']:.3f}{note}"


def draw():
    figure, axes = panels(1, 2, 12, 4.3)
    for ax, (table, column) in zip(axes[0], SHOWN, strict=True):
        cells = found(table, column)
        for name in dict.fromkeys(cells["size"]):
            mine = cells[cells["size"] == name]
            # Best errors of short runs would be taken for those of little data.
            mine = mine[mine["images_most"] > 0.4 * mine["images_most"].max()]
            ax.plot(mine["data"], mine["best"], "-o", color=COLOURS[name], label=name, markersize=4)
        small_log_axes(
            ax, xlabel="images in the data set", ylabel="best error", title=ERRORS[table, column]
        )
    name_sizes(figure, axes[0][0])
    return figure
