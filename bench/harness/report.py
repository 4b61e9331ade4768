"""The Markdown table."""


def number(value):
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _cells(row, reference):
    if row.failed:
        return ["**FAILED**", "", f"{row.failed}"]
    if row.not_run:
        return ["not run", "", f"{row.not_run}"]
    values = row.values.values()
    figure = f"{number(row.median())} ({number(min(values))} to {number(max(values))})"
    ratios = row.ratios(reference)
    if row is reference:
        return [figure, "1", ""]
    if not ratios:
        return [figure, "", ""]
    return [figure, f"{number(ratios[0])}x ({number(ratios[1])} to {number(ratios[2])})", ""]


def _escape(text):
    return text.replace("|", "\\|").replace("\n", " ")


def markdown(machine, settings, groups, plot):
    """groups: lists of rows, one list a case, the reference first."""
    lines = [
        "# Benchmark results",
        "",
        f"Measured {machine['when']}, commit {machine['commit']}, by `bench/run"
        f"{' ' + settings['arguments'] if settings['arguments'] else ''}`.",
        "",
        f"- Machine: {machine['cpu']}, {machine['cores']} cores"
        f"{' (virtual)' if machine['virtual'] else ''}, {machine['memory_gib']} GiB, "
        f"Linux {machine['kernel']}, load at start {machine['load_at_start']:.2f}",
        f"- {settings['rounds']} rounds of {settings['seconds']:g} s each; in a round each way of a "
        "case runs once, one after the other, so that what disturbs the machine disturbs all",
        "- Figures are medians over the rounds, with the least and the most; ratios are taken "
        "within a round against its first way, above 1 is better than it",
        "- " + ", ".join(f"{name} {version}" for name, version in machine["versions"].items()),
        "",
        f"![Ratios to the kernel]({plot})",
        "",
    ]
    for rows in groups:
        case = rows[0].case
        lines += [
            f"## {case.title}",
            "",
            f"{case.unit}, {case.better} is better.",
            "",
            f"| way | {case.unit} | against {rows[0].label} | asked for | remarks |",
            "|---|---|---|---|---|",
        ]
        for row in rows:
            figure, ratio, remark = _cells(row, rows[0])
            lines.append("| " + " | ".join(_escape(cell) for cell in (
                row.label, figure, ratio, case.bars.get(row.way, ""), remark)) + " |")
        lines.append("")
    return "\n".join(lines)
