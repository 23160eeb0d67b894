"""The tables of a record of the benchmark, in Markdown."""

from bench.bank import NEAREST
from bench.provenance import changed_since
from diml_nb.records.record import Record

SHORT = {"multi_similarity": "Multi-Similarity", "margin": "Margin"}


def rows_of(record: Record, part: str, *keys: str) -> list[tuple[dict, dict]]:
    "Configurations and results of the rows of a part whose configuration has these keys."
    return [
        (row["config"], row["result"])
        for row in record.rows
        if row["config"]["part"] == part and set(keys) <= set(row["config"])
    ]


def same_setting(record: Record, config: dict, key: str) -> dict:
    """The result of the row with `key` (`checked` or `memory`) for the same setting; {} where it is
    not measured yet."""
    setting = _setting(config)
    for other, result in rows_of(record, config["part"], key):
        if _setting(other) == setting:
            return result
    return {}


def _setting(config: dict) -> dict:
    "A configuration without what was done with the setting."
    return {k: v for k, v in config.items() if k not in ("threads", "checked", "memory")}


def title(config: dict) -> str:
    "A row's setting in words."
    cells = f"{config['grid']} x {config['grid']} cells"
    if "loss" in config:
        return f"{SHORT[config['loss']]}, {cells}"
    return f"{config['images']:,} images, {cells}"


def markdown(record: Record) -> str:
    "The tables of a record: a query, a training step, the store, each where it was measured."
    parts = [
        _evaluation_table(record),
        _training_table(record),
        *(_bank_table(config, result) for config, result in rows_of(record, "bank")),
        _checks(record),
        _noise(record),
        _machine(record),
        changed_since(record),
    ]
    return "\n\n".join(part for part in parts if part)


def _table(header: list, lines: list[list]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def _ratio(ratio: list[float]) -> str:
    median, low, high = ratio
    return f"x{median:.1f} ({low:.1f} to {high:.1f})"


def _ms(x: float) -> str:
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def _memory(memory: dict) -> str:
    values = [memory.get(which, {}).get("extra_mb") for which in ("official", "ours")]
    return "not measured" if None in values else "{:,.0f} / {:,.0f}".format(*values)


def _evaluation_table(record: Record) -> str:
    "A line for each set and number of threads; empty if none is measured."
    header = [
        "a query",
        "threads",
        "official loop, ms",
        "ours, ms",
        "faster (deciles)",
        "with POT / `match` instead",
        "search / re-rank / metrics, ms",
        "of the roofline",
        "extra MB, official / ours",
    ]
    lines = []
    for config, result in rows_of(record, "evaluation", "threads"):
        ms, ratio = result["ms"], result["ratio"]
        rivals = [
            f"x{ratio[name][0]:.1f}" if name in ratio else result["unable"][name]
            for name in ("POT", "match")
        ]
        lines.append(
            [
                title(config),
                config["threads"],
                _ms(ms["official"][0]),
                _ms(ms["ours"][0]),
                _ratio(ratio["ours"]),
                " / ".join(rivals),
                " / ".join(_ms(ms[name][0]) for name in ("search", "rerank", "metrics")),
                f"{result['share_of_roofline']:.0%}",
                _memory(same_setting(record, config, "memory")),
            ]
        )
    return _table(header, lines) if lines else ""


def _training_table(record: Record) -> str:
    "A line for each loss, grid and number of threads; empty if none is measured."
    header = [
        "a training step",
        "threads",
        "official loop, ms",
        "ours, ms",
        "faster (deciles)",
        "extra MB, official / ours",
    ]
    lines = []
    for config, result in rows_of(record, "training", "threads"):
        lines.append(
            [
                title(config),
                config["threads"],
                _ms(result["ms"]["official"][0]),
                _ms(result["ms"]["ours"][0]),
                _ratio(result["ratio"]["ours"]),
                _memory(same_setting(record, config, "memory")),
            ]
        )
    return _table(header, lines) if lines else ""


def _bank_table(config: dict, result: dict) -> str:
    "The store on disk: how it was written, searched, and approximated."
    built, answered, near = result["build"], result["answer"], result["ivf"]
    peak = "not measured" if answered["peak_mb"] is None else f"{answered['peak_mb']:,.0f} MB"
    first = f"{answered['original_first_search']:.0%}, {answered['original_first']:.0%}"
    lines = [
        [f"{title(config)}, {built['gb']:.1f} GB, written in", f"{built['seconds']:.0f} s"],
        [
            f"{answered['queries']} queries, searched and re-ranked in",
            f"{answered['seconds']:.1f} s",
        ],
        ["peak memory of the whole process", peak],
        ["original first: cosine, re-ranked", first],
    ]
    if "unable" in near:
        lines.append(["approximate shortlist (faiss)", near["unable"]])
    else:
        lines.append(["exact shortlist, a query", f"{near['exact_ms']:.2f} ms"])
    for name, found in near.items():
        if not name.startswith("nprobe"):
            continue
        probed = f"faiss {near['faiss']}, {near['lists']} lists, {name.split('_')[1]} probed"
        lines.append(
            [
                f"{probed}: share of the exact first 10 and {NEAREST}, a query",
                f"{found['recall_10']:.1%}, {found['recall']:.1%}, {found['ms']:.2f} ms",
            ]
        )
    return _table(["a bank on disk", "result"], lines)


def _checks(record: Record) -> str:
    "How far the results were from the rivals' before anything was timed, at worst."
    lists = [result for _, result in rows_of(record, "evaluation", "checked")]
    losses = [result for _, result in rows_of(record, "training", "checked")]
    sentences = []
    if lists:
        similarity = max(x["similarity"] for x in lists)
        ties = max(x["lists_official"] for x in lists)
        equal = sum(x["equal_lists_official"] for x in lists)
        queries = sum(x["queries"] for x in lists)
        sentences.append(
            f"similarities are within {similarity:.0e} of `match`; by the official rules {equal} of"
            f" {queries} lists, and their metrics, equal the loop's, the others but for ties within"
            f" {ties:.0e}"
        )
    if losses:
        loss = max(x["loss"] for x in losses)
        gradient = max(x["gradient"] for x in losses)
        sentences.append(
            f"losses are within {loss:.0e}, gradients within {gradient:.0e} of their norm"
        )
    return f"(Checked before the times: {'; '.join(sentences)}.)" if sentences else ""


def _noise(record: Record) -> str:
    "A warning if other processes took more than a twentieth of the machine."
    shares = [0.0]
    for part in ("machine", "evaluation", "training", "bank"):
        results = [result for _, result in rows_of(record, part, "threads")]
        shares += [result["others"] for result in results if "others" in result]
    if max(shares) <= 0.05:
        return ""
    return (
        f"(other processes took up to {max(shares):.0%} of the machine meanwhile: the times with"
        " all threads suffer most)"
    )


def _machine(record: Record) -> str:
    "The machine, what it does at best, and the record's name."
    rows = rows_of(record, "machine")
    if not rows:
        return ""
    best = []
    for config, result in rows:
        threads = "1 thread" if config["threads"] == 1 else f"{config['threads']} threads"
        best.append(f"{threads}: {result['gflops']:.0f} GFLOP/s, {result['gbs']:.0f} GB/s")
    name = rows[0][1].get("processor") or record.environment.get("processor", "unknown")
    system = record.environment["system"].rsplit(", ", 1)[0]
    path = f"data/results/bench/{record.hash}.json"
    return f"({name}, {system}; {'; '.join(best)}; record `{path}`)"
