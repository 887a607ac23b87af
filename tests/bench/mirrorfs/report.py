"""The table: medians and spread by work and directory, and how they compare."""

import statistics

Results = dict[str, dict[str, list[float]]]


def short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def cell(values: list[float]) -> str:
    return f"{short(statistics.median(values))} ({short(min(values))}-{short(max(values))})"


def table(results: Results, sides: list[str]) -> str:
    """Markdown. The last columns say what the mirror makes of a plain directory, and of each GlusterFS."""
    others = [name for name in sides if name != "mirror"] if "mirror" in sides else []
    heads = ["work", *sides, *(f"mirror : {name}" for name in others)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for work, by_side in results.items():
        cells = [cell(by_side[name]) if name in by_side else "-" for name in sides]
        for name in others:
            if name in by_side and "mirror" in by_side:
                ratio = statistics.median(by_side["mirror"]) / statistics.median(by_side[name])
                cells.append(f"{ratio:.0%}" if name == "plain" else f"{ratio:.2f}x")
            else:
                cells.append("-")
        lines.append(f"| {work} | {' | '.join(cells)} |")
    return "\n".join(lines)
