"""The tables of docs/error_rates.md, from the rows of error_rates.csv (see error_rates.py)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from scipy.stats import binomtest

__all__ = ["BELOW", "INTERVAL", "NAIVE", "tables"]

Row = dict[str, str]

INTERVAL = "interval: "
NAIVE = "naive: "
"""Begins what is computed by the same function with samples in the place of docs."""
BELOW = "crossed, p below "
"""Begins a test at the level that follows."""
_ONE_BY_ONE = ("levels", "family", "claims", "power")


def tables(rows: Sequence[Row]) -> Iterator[list[str]]:
    """False claims, small levels, coverage, families, claims, power, and what was not met."""
    for lines in (_level, _small_levels, _coverage, _family, _claims, _power, _missed):
        yield list(lines(rows))


def _level(rows: Sequence[Row]) -> Iterator[str]:
    """Smallest to largest rate over docs and k."""
    yield "| test | data | settings | docs as units (%) | wanted (%) | met | samples as units (%) |"
    yield "|---|---|---|---|---|---|---|"
    tests = [row for row in rows if row["part"] not in _ONE_BY_ONE]
    naive = _grouped([row for row in tests if row["asked"].startswith(NAIVE)], _key)
    ours = [row for row in tests if not row["asked"].startswith((NAIVE, INTERVAL))]
    for (asked, data), found in _grouped(ours, _key).items():
        beside = _span(naive.get((NAIVE + asked, data), []))
        cells = (asked, data, str(len(found)), _span(found), _wanted(found), _met(found), beside)
        yield _line(cells)


def _small_levels(rows: Sequence[Row]) -> Iterator[str]:
    """Rates as multiples of the level, with those of 5 % beside them."""
    found = _grouped(_of(rows, "levels"), lambda row: (row["case"], row["population"]))
    levels = map(_below, next(iter(found.values()), []))
    heads = [f"{100 * x:.3g} % (one-sided {50 * x:.3g} %)" for x in levels]
    yield _line(("arms", "data", *heads))
    yield "|---" * (2 + len(heads)) + "|"
    for place, each in found.items():
        yield _line((*place, *map(_multiple, each)))


def _multiple(row: Row) -> str:
    """From the count, since the rate is rounded."""
    found = binomtest(int(row["count"]), int(row["repetitions"]))
    interval = found.proportion_ci(method="wilson")
    rate, low, high = (x / _below(row) for x in (found.statistic, interval.low, interval.high))
    return f"{rate:.2f} [{low:.2f}, {high:.2f}]"


def _below(row: Row) -> float:
    return float(row["asked"].removeprefix(BELOW))


def _coverage(rows: Sequence[Row]) -> Iterator[str]:
    yield "| interval | data | settings | coverage (%) | met | no interval (%) |"
    yield "|---|---|---|---|---|---|"
    ours = [row for row in rows if row["asked"].startswith(INTERVAL)]
    groups = _grouped(ours, _key)
    for (asked, data), found in sorted(groups.items(), key=lambda group: group[0][0]):
        none = max(int(row["undefined"]) / int(row["repetitions"]) for row in found)
        size, name = str(len(found)), asked.removeprefix(INTERVAL)
        yield _line((name, data, size, _span(found), _met(found), f"{100 * none:.1f}"))


def _family(rows: Sequence[Row]) -> Iterator[str]:
    yield "| 20 comparisons | no correction (%) | Holm (%) |"
    yield "|---|---|---|"
    for (case,), found in _grouped(_of(rows, "family"), lambda row: (row["case"],)).items():
        yield _line((case, *map(_rate, found)))


def _claims(rows: Sequence[Row]) -> Iterator[str]:
    """False yes / false no, by claim."""
    yield "| data | docs | k | superior (%) | non-inferior (%) | equivalent (%) |"
    yield "|---|---|---|---|---|---|"
    groups = _grouped(_of(rows, "claims"), lambda row: (row["population"], row["docs"], row["k"]))
    for key, found in groups.items():
        rates = {row["asked"]: f"{100 * float(row['rate']):.1f}" for row in found}
        claims = ("superior", "non-inferior", "equivalent")
        yield _line(
            (*key, *(f"{rates[c + ': false yes']} / {rates[c + ': false no']}" for c in claims))
        )


def _power(rows: Sequence[Row]) -> Iterator[str]:
    yield "| what is asked | data | docs | k | predicted (%) | simulated (%) | met |"
    yield "|---|---|---|---|---|---|---|"
    for row in _of(rows, "power"):
        predicted = f"{100 * float(row['predicted']):.1f}"
        place = (row["case"], row["population"], row["docs"], row["k"])
        yield _line((*place, predicted, _rate(row), row["met"]))


def _missed(rows: Sequence[Row]) -> Iterator[str]:
    yield "| what | data | case | docs | k | docs that differ | rate (%) | wanted (%) |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        if row["met"] == "not met":
            place = [row[name] for name in ("asked", "population", "case", "docs", "k")]
            yield _line((*place, row["docs_that_differ"] or "–", _rate(row), _wanted([row])))


def _key(row: Row) -> tuple[str, str]:
    return row["asked"], row["population"].split(", seeds'")[0]


def _grouped(
    rows: Sequence[Row], key: Callable[[Row], tuple[str, ...]]
) -> dict[tuple[str, ...], list[Row]]:
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


def _of(rows: Sequence[Row], part: str) -> list[Row]:
    return [row for row in rows if row["part"] == part]


def _span(rows: Sequence[Row]) -> str:
    """Smallest and largest rate in per cent."""
    rates = [f"{100 * rate:.1f}" for rate in sorted(float(row["rate"]) for row in rows)]
    if not rates:
        return "–"
    return rates[0] if len(rates) == 1 else f"{rates[0]} to {rates[-1]}"


def _wanted(rows: Sequence[Row]) -> str:
    low, high = (100 * float(rows[0][name]) for name in ("wanted_low", "wanted_high"))
    return f"{low:.3g} to {high:.3g}"


def _met(rows: Sequence[Row]) -> str:
    """'all', or how many of the settings are what."""
    verdicts = [row["met"] for row in rows]
    if set(verdicts) == {"met"}:
        return "all"
    counts = (
        (verdicts.count(said), said) for said in ("met", "within Monte-Carlo error", "not met")
    )
    return ", ".join(f"{count} {said}" for count, said in counts if count)


def _rate(row: Row) -> str:
    rate, low, high = (100 * float(row[name]) for name in ("rate", "ci_low", "ci_high"))
    return f"{rate:.1f} [{low:.1f}, {high:.1f}]"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
