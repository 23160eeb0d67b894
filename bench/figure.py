"""The figure of a record of the benchmark: how many times faster than the official loop."""

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bench.tables import rows_of, title
from diml_nb.records.record import Record

COLORS = {"ours": "#0072B2", "POT": "#E69F00", "match": "#777777"}
NAMES = {
    "ours": "this library",
    "POT": "its lists, POT's Sinkhorn a query",
    "match": "its lists, match a query",
}
VERBS = {"evaluation": "a query", "training": "a training step"}
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)

Rows = list[tuple[dict, dict]]  # configurations and results


def figure(record: Record) -> Figure:
    """How many times faster than the official loop: one group of bars for each setting, pale for
    all threads, dashed lines at the goals."""
    groups = _groups(record)
    rows = [row for group in groups.values() for row in group]
    all_threads = max(config["threads"] for config, _ in rows)
    n_bars = sum(len(result["ratio"]) for _, result in rows)
    height = 1.5 + 0.21 * n_bars + 0.2 * len(groups)
    fig = Figure(figsize=(9, height), layout="constrained")
    ax = fig.subplots()
    y = 0.0
    ticks: list[float] = []
    labels: list[str] = []
    goals: list[Artist] = []
    for (part, name), group in groups.items():
        top, y = y, _draw_bars(ax, y, group, all_threads)
        ticks.append((top + y - 1) / 2)
        labels.append(f"{VERBS[part]}\n" + name.replace(", ", ",\n"))
        goal = group[0][0].get("goal")
        if goal:
            ends = [top - 0.6, y - 0.4]
            goals += ax.plot([goal, goal], ends, color="black", lw=1.6, ls=(0, (3, 1.5)))
        y += 0.9
    ax.set_ylim(y - 0.4, -0.9)
    ax.set_yticks(ticks, labels, fontsize=9)
    _set_scale(ax, [value for _, x in rows for ratio in x["ratio"].values() for value in ratio[1:]])
    _add_legend(fig, all_threads, goals)
    return fig


def _groups(record: Record) -> dict[tuple[str, str], Rows]:
    "The rows of each setting, by part and title."
    groups: dict[tuple[str, str], Rows] = {}
    for part in VERBS:
        for config, result in rows_of(record, part, "threads"):
            groups.setdefault((part, title(config)), []).append((config, result))
    return groups


def _draw_bars(ax: Axes, y: float, group: Rows, all_threads: int) -> float:
    "The bars of one setting from y downwards, ours first; returns the next free y."
    for which, color in COLORS.items():
        for config, result in group:
            if which not in result["ratio"]:
                continue
            value, low, high = result["ratio"][which]
            ax.barh(
                y,
                value - 1,
                left=1,
                height=0.85,
                color=color,
                alpha=0.5 if config["threads"] == all_threads > 1 else 1,
                xerr=[[value - low], [high - value]],
                error_kw=dict(lw=1, ecolor="black"),
            )
            text = f"x{value:.2f}" if value < 2 else f"x{value:.1f}"
            if which == "ours" and "share_of_roofline" in result:
                text += f", {result['share_of_roofline']:.0%} of the roofline"
            box = dict(facecolor="white", edgecolor="none", pad=1)
            ax.text(max(high, 1) * 1.06, y, text, va="center", fontsize=8.5, zorder=4, bbox=box)
            y += 1
    return y


def _set_scale(ax: Axes, values: list[float]) -> None:
    "A logarithmic axis that holds all values, and the line of equal speed."
    least, most = min(*values, 1), max(*values, 2)
    ax.set(xscale="log", xlim=(least / 1.2, most * 4))
    ax.set_xlabel(
        "times faster than the official algorithm as a loop with as many threads (median of"
        " pairs; whiskers: deciles)"
    )
    ax.set_xticks([tick for tick in TICKS if least / 1.2 <= tick <= max(values) * 2])
    ax.xaxis.set_major_formatter(lambda x, _: f"x{x:g}")
    ax.minorticks_off()
    ax.axvline(1, color="black", lw=0.8)
    ax.spines[["top", "right"]].set_visible(False)


def _add_legend(fig: Figure, all_threads: int, goals: list) -> None:
    "What colours, pale bars and dashes mean."
    handles: list[Artist] = [Patch(color=color) for color in COLORS.values()]
    labels = list(NAMES.values())
    if all_threads > 1:
        handles.append(Patch(color=COLORS["ours"], alpha=0.5))
        labels.append(f"pale: {all_threads} threads, else 1")
    if goals:
        handles.append(goals[0])
        labels.append("goal")
    fig.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=5,
        frameon=False,
        fontsize=8.5,
        columnspacing=1.2,
        handlelength=1.4,
    )
