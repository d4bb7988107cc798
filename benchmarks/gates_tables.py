"""The tables of docs/gates_evidence.md, from what `sequential_gates` and `gates_resampled` found.

python -m benchmarks.gates_tables
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from benchmarks import gates_resampled, sequential_stakes
from benchmarks.sequential_gates import FAMILIES, FEW, RESULTS, TRUTHS, Row, read_results

Numbers = Sequence[float]
SIZES: dict[str, Callable[[Row], bool]] = {
    f"below {FEW}": lambda row: _docs(row) < FEW,
    f"{FEW} or more": lambda row: _docs(row) >= FEW,
}
"""Of fixed designs."""


def tables() -> Iterator[list[str]]:
    rows = read_results(RESULTS)
    yield errors(rows)
    yield samples(rows)
    yield by_size(rows)
    yield stakes(read_results(sequential_stakes.RESULTS))
    yield families(read_results(FAMILIES))
    resampled = read_results(gates_resampled.RESULTS)
    yield real(resampled)
    yield real_rounds(resampled)


def errors(rows: Sequence[Row]) -> list[str]:
    """Wrong verdicts where the truth is at the boundary."""
    lines = _head("test", "looks", "most", "settings", "false pass (%)", "false fail (%)", "≤ 5 %")
    at = [row for row in rows if row["truth"] == "boundary"]
    for key, found in _grouped(at, "test", "looks", "cap"):
        cells = [*key, str(len(found)), _percent(found, "passed"), _percent(found, "failed")]
        lines.append(_line(*cells, _verdicts(row["error_kept"] for row in found)))
    return lines


def samples(rows: Sequence[Row]) -> list[str]:
    """Docs that the bets use in rounds, over those of the fixed design, and what is decided."""
    lines = _head("truth", "fixed docs", "most", "docs used", "pass (%)", "fail (%)", "target met")
    betted = [row for row in rows if row["test"] == "bets" and row["looks"] != "every doc"]
    for truth in TRUTHS:
        for size, within in SIZES.items():
            some = [row for row in betted if row["truth"] == truth and within(row)]
            for key, found in _grouped(some, "cap"):
                docs = _range([float(row["docs"]) for row in found], 2)
                shares = _percent(found, "passed"), _percent(found, "failed")
                met = [row["docs_met"] for row in found if row["docs_met"]]
                lines.append(_line(truth, size, *key, docs, *shares, _verdicts(met)))
    return lines


def by_size(rows: Sequence[Row]) -> list[str]:
    """Every fixed design, in order of size: what the bets take at most 2 times its docs."""
    names = ("fixed docs", "population", "margin", "k")
    looks = ("equal, every doc", "equal, rounds", "twice, every doc", "twice, rounds", "pass (%)")
    lines = _head(*names, *looks)
    some = [row for row in rows if row["test"] == "bets" and row["cap"] == "2"]
    found = {(_design(row), row["truth"], row["looks"]): row for row in some}
    for design in sorted({_design(row) for row in some}, key=lambda each: (int(each[0]), each)):
        used = [
            found[design, truth, look]["docs"]
            for truth in ("equal", "twice as far")
            for look in ("every doc", "every 32 docs")
        ]
        passed = found[design, "equal", "every 32 docs"]["passed"]
        lines.append(_line(*design, *(f"{float(x):.2f}" for x in used), f"{_hundred(passed):.0f}"))
    return lines


def stakes(rows: Sequence[Row]) -> list[str]:
    """What other stakes use where the runs are equal, and where the truth is twice as far."""
    found = {(row["stakes"], _design(row), row["truth"]): row for row in rows}
    designs = list(dict.fromkeys(map(_design, rows)))
    lines = _head("stakes", *(f"{docs} docs, k {k}" for docs, _, _, k in designs))
    for name in dict.fromkeys(row["stakes"] for row in rows):
        cells = []
        for design in designs:
            equal, twice = (found[name, design, truth] for truth in ("equal", "twice as far"))
            used = f"{float(equal['docs']):.2f}, {float(twice['docs']):.2f}"
            cells.append(f"{used}; {_hundred(equal['passed']):.0f} %")
        lines.append(_line(name, *cells))
    return lines


def families(rows: Sequence[Row]) -> list[str]:
    names = ("any false pass", "any false fail", "gate passed", "gate failed", "good rules passed")
    lines = _head("third rule", *(f"{name} (%)" for name in names), "docs used")
    for row in rows:
        shares = [_with_interval(row, name.replace(" ", "_")) for name in names]
        lines.append(_line(row["third_rule"], *shares, f"{float(row['docs']):.2f}"))
    return lines


def real(rows: Sequence[Row]) -> list[str]:
    """Fixed designs on resamples of real samples."""
    lines = _head("planned for", "rules", "candidate", "settings", "pass (%)", "fail (%)", "kept")
    fixed = [row for row in rows if row["design"].startswith("fixed")]
    for (design, rules, case), found in _grouped(_with_rules(fixed), "design", "rules", "case"):
        shares = _percent(found, "passed"), _percent(found, "failed")
        verdicts = _verdicts(row["promise_kept"] for row in found)
        cells = design.removeprefix("fixed, "), rules, case, str(len(found)), *shares, verdicts
        lines.append(_line(*cells))
    return lines


def real_rounds(rows: Sequence[Row]) -> list[str]:
    """Gates in rounds on the same."""
    names = ("candidate", "fixed docs", "most", "settings", "pass (%)", "fail (%)", "docs used")
    lines = _head(*names, "kept")
    rounds = [row for row in rows if row["design"].startswith("rounds")]
    for case in gates_resampled.CASES:
        for size, within in SIZES.items():
            some = [row for row in rounds if row["case"] == case and within(row)]
            for (design,), found in _grouped(some, "design"):
                shares = _percent(found, "passed"), _percent(found, "failed")
                docs = _range([float(row["docs"]) for row in found], 2)
                verdicts = _verdicts(row["promise_kept"] for row in found)
                cap = design.removeprefix("rounds, at most ")
                lines.append(_line(case, size, cap, str(len(found)), *shares, docs, verdicts))
    return lines


def _with_rules(rows: Sequence[Row]) -> list[Row]:
    return [row | {"rules": str(row["modes"].count("+") + 1)} for row in rows]


def _docs(row: Row) -> int:
    return int(row.get("fixed_docs") or row["planned_docs"])


def _design(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in ("fixed_docs", "population", "margin", "k"))


def _grouped(rows: Sequence[Row], *names: str) -> Iterator[tuple[tuple[str, ...], list[Row]]]:
    keys = dict.fromkeys(tuple(row[name] for name in names) for row in rows)
    for key in keys:
        yield key, [row for row in rows if tuple(row[name] for name in names) == key]


def _percent(rows: Sequence[Row], name: str) -> str:
    return _range([_hundred(row[name]) for row in rows], 1)


def _hundred(share: str) -> float:
    return 100 * float(share)


def _with_interval(row: Row, name: str) -> str:
    value, low, high = (_hundred(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _range(values: Numbers, digits: int) -> str:
    low, high = (f"{end:.{digits}f}" for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _verdicts(found: Iterator[str] | Sequence[str]) -> str:
    """'all', or how many of each; empty where nothing was promised."""
    verdicts = list(found)
    counts = {one: verdicts.count(one) for one in ("yes", "within Monte-Carlo error", "no")}
    if counts["yes"] == len(verdicts):
        return "all" if verdicts else ""
    return ", ".join(f"{count} {one}" for one, count in counts.items() if count)


def _head(*names: str) -> list[str]:
    return [_line(*names), "|" + "---|" * len(names)]


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    for lines in tables():
        print("\n".join(lines), end="\n\n")


if __name__ == "__main__":
    main()
