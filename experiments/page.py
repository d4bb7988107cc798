"""The page of a study, made of its records alone: claims, tables, pictures, settings."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean

from experiments.analysis import (
    METRICS,
    Compared,
    Trained,
    claims,
    comparisons,
    creative_comparisons,
    creative_summary,
    creative_tasks,
    excess,
    matched,
    seed_mean,
    summary,
    trained_arms,
)
from experiments.measuring import HELD_OUT, PROMPTS, TRAINED
from experiments.pictures import draw_creative, draw_stopped, draw_study, draw_temperatures
from experiments.records import Record, read_records, read_stopped
from experiments.study import BASE, MODES, Study
from psplit_eval.files import write_text
from psplit_eval.stats import Difference
from psplit_train.cards import markdown_table

__all__ = ["write_page"]


def write_page(study: Study, path: Path, records: Path, pages: Path) -> Path:
    """Write `pages`/NAME.md and its pictures. Raises DataError for records that do not fit."""
    rest = read_stopped(records)
    every = trained_arms(study, [*read_records(records), *rest])
    arms, stopped = _having("evaluations", every), _having("steps", every)
    page = pages / f"{path.stem}.md"
    pages.mkdir(parents=True, exist_ok=True)
    parts = [f"# {study.title}", study.about.strip(), _how(study, path, arms, rest)]
    if arms:
        parts += list(_results(study, arms, every, pages / path.stem))
    if stopped:
        parts += list(_stopped(stopped, pages / path.stem))
    write_text(page, "\n\n".join(parts) + "\n")
    return page


def _how(study: Study, path: Path, arms: Sequence[Trained], rest: Sequence[Record]) -> str:
    asked = {(arm.name, seed) for arm in study.arms for seed in range(arm.seeds)}
    done = asked & {(each.arm.name, record.seed) for each in arms for record in each.records}
    steps = ", ".join(map(str, study.evaluate.steps))
    early = (
        " **Not finished**: answers are of the seeds so far, and who looks before the end is wrong "
        "more often than a p says."
    )
    measured = sum(bool(record.means) for record in rest)
    partly = (
        f" Of {measured} more trainings there is what their evaluations reported, but not the "
        "answers to each question: they are in the tables of seeds, prompts and creative tasks, "
        "and in no others."
    )
    return (
        f"[All studies](README.md). {len(done)} of {len(asked)} records are there."
        f"{partly if measured else ''}"
        f"{early if done < asked else ''} This page is made by "
        f"`python -m experiments experiments/{path.name}`, which trains what is missing "
        f"([settings](../../experiments/{study.config.name}), "
        f"[arms](../../experiments/{path.name})){_libraries(arms)}. "
        f"Evaluated by psplit-eval at steps {steps}, "
        f"{study.evaluate.samples} samples a question and mode at temperature 1; values are means "
        "over these checkpoints."
    )


def _libraries(arms: Sequence[Trained]) -> str:
    """Which torch made how many records, if there are any: digits differ between them, as between
    machines."""
    known = Counter(record.versions["torch"] for each in arms for record in each.records)
    made = ", ".join(f"torch {version} ({count})" for version, count in sorted(known.items()))
    return f"; made with {made}" if made else ""


def _results(
    study: Study, arms: Sequence[Trained], every: Sequence[Trained], folder: Path
) -> Iterator[str]:
    """`every`: with trainings that were stopped, of which some numbers may be known."""
    yield from _claims(study, arms)
    main = [each for each in arms if each.arm.main]
    others = [each for each in arms if not each.arm.main]
    if main:
        yield f"## The main table\n\n{_table(main)}\n\n{_notes()}"
        yield from _comparisons(study, arms)
        yield from _temperatures(study, arms, folder)
    if others:
        yield "## Other methods and ablations\n\n" + _table(others)
        if not main:
            yield _notes()
    yield "## Held-out and trained questions\n\n" + _generalisation(arms)
    if any(record.means for each in every for record in each.records):
        yield "## Held-out questions, seed by seed\n\n" + _by_seed(_having("means", every))
    yield "## Prompts beyond placebos\n\n" + _prompts(_having("splits", every))
    yield from _creative(study, _having("creative", every), folder)
    yield "## Pictures"
    for plot in draw_study(study, arms, _having("splits", every), folder):
        yield f"![{plot.alt}]({folder.name}/{plot.name}.png)\n\n{plot.caption}"
    yield "## Settings of the arms\n\n" + _settings(study, arms)


def _stopped(arms: Sequence[Trained], folder: Path) -> Iterator[str]:
    """What trainings logged that were never evaluated."""
    header = ("arm", "seeds", "steps", "mode", "right", "entropy", "unique", "KL to the other mode")
    yield (
        "## Stopped trainings\n\nThe machine was gone before these had a record. This is what they "
        "logged of their own batches: questions that are trained on, and no placebos. Means of the "
        "last fifth, 40 steps at least (lowest to highest seed); *unique* of as many responses as "
        "a question has in the mode.\n\n"
        + markdown_table(header, (row for each in arms for row in _logged_rows(each)))
    )
    plot = draw_stopped(arms, folder)
    yield f"![{plot.alt}]({folder.name}/{plot.name}.png)\n\n{plot.caption}"


def _logged_rows(each: Trained) -> Iterator[Sequence[str]]:
    steps = sorted({record.steps or 0 for record in each.records})
    first = (
        each.arm.name,
        str(len(each.records)),
        " to ".join(map(str, steps[:1] + steps[1:][-1:])),
    )
    for mode, other in (MODES, MODES[::-1]):
        measures = ("reward/{}", "entropy_bits/{}", "unique/{}")
        found = [_logged(each, measure.format(mode)) for measure in measures]
        if any(found):
            yield (*first, mode, *found, _logged(each, f"kl_bits/{mode}_{other}"))
            first = ("", "", "")


def _notes() -> str:
    return (
        "Shares, bits a token (a question's bits by its tokens, then the mean over questions), and "
        "different right answers among a question's samples; in brackets 95 % intervals over seeds "
        "and questions (two-way clustered; base: over questions). With few seeds they are wide and "
        "may go below 0 or above 1. KL in bits a token at what the first-named mode says, mean of "
        "the last fifth of training, between its lowest and highest seed; of arms with one trained "
        "mode it is in the table of prompts."
    )


def _claims(study: Study, arms: Sequence[Trained]) -> Iterator[str]:
    found = claims(study, arms)
    if found:
        yield "## What was wanted"
    for name in dict.fromkeys(claim.arm for claim in found):
        rows = [
            (
                claim.words,
                _shown(claim.value, "+.3f"),
                f"[{claim.low:+.3f}, {claim.high:+.3f}]" if math.isfinite(claim.low) else "",
                _p(claim.p_adjusted),
                claim.answer,
            )
            for claim in found
            if claim.arm == name
        ]
        header = (f"of {name}", "found", "95 % interval", "p, Holm", "answer")
        yield markdown_table(header, rows)
    if found:
        yield (
            "The claims were written down before the arm was trained. p: one-sided, of a claim "
            "that is false, corrected over all claims of this page. *No*: the whole interval lies "
            "below what is wanted; else inconclusive."
        )


def _comparisons(study: Study, arms: Sequence[Trained]) -> Iterator[str]:
    found = comparisons(study, arms)
    if found:
        yield "## Differences in the main table\n\n" + _compared(found)
        yield (
            f"*less {study.reference}*: less the normal mode of {study.reference}. Two-sided "
            "t-tests clustered by seed and question (`stats.crossed_difference`), corrected over "
            "this table."
        )


def _compared(found: Iterable[Compared]) -> str:
    rows = [
        (each.arm, each.what, *_difference(each.difference), _p(each.p_adjusted)) for each in found
    ]
    return markdown_table(("arm", "what", "difference", "95 % interval", "p, Holm"), rows)


def _temperatures(study: Study, arms: Sequence[Trained], folder: Path) -> Iterator[str]:
    found = matched(study, arms)
    if not found:
        return
    rows = [
        (
            each.arm,
            each.other,
            f"{each.temperature:.2f}",
            f"{each.unique[0]:.1f}",
            f"{each.unique[1]:.1f}",
            f"{each.difference.value_a:.3f}",
            f"{each.difference.value_b:.3f}",
            *_difference(each.difference),
            _p(each.p_adjusted),
        )
        for each in found
    ]
    header = ("arm", "beside", "at temperature", "unique, there", "unique, high",
              "accuracy, there", "accuracy, high", "difference", "95 % interval",
              "p, Holm")  # fmt: skip
    tried = ", ".join(f"{t:g}" for t in study.evaluate.temperatures)
    yield (
        "## A second mode, or a warmer sampler\n\nOne policy, too, gives more different answers "
        f"where it is sampled at a higher temperature. So start (*{BASE}*) and *{study.reference}* "
        f"answered in the normal mode at {tried} as well. Each arm's high mode, at 1, is set "
        "beside them where they have as many different right answers a question, or the most that "
        "they ever have. Last checkpoints, held-out questions.\n\n" + markdown_table(header, rows)
    )
    yield (
        "Interpolated between the temperatures nearest. Two-sided t-tests clustered by seed and "
        f"question (beside *{BASE}*: its answers as given), corrected over this table."
    )
    plot = draw_temperatures(arms, folder)
    yield f"![{plot.alt}]({folder.name}/{plot.name}.png)\n\n{plot.caption}"


def _creative(study: Study, arms: Sequence[Trained], folder: Path) -> Iterator[str]:
    tasks = creative_tasks(arms)
    if not tasks or study.creative is None:
        return
    yield (
        "## Creative tasks, before and after\n\nNothing here was trained on: the tasks that "
        f"psplit-eval ships, answered by the start (*{BASE}*) and by the last checkpoints of "
        f"the arms in these tables, {study.creative.samples} responses a question and mode of at "
        f"most {study.creative.max_tokens} tokens. The first measure decides a comparison; the "
        "others are of quality and of more kinds of diversity ([metrics](../reference/metrics.md))."
    )
    for task, metrics in tasks.items():
        rows = (row for each in arms for row in _creative_rows(each, task, metrics))
        yield markdown_table((f"{task}: arm", "seeds", "mode", *metrics), rows)
    plot = draw_creative(arms, folder)
    yield f"![{plot.alt}]({folder.name}/{plot.name}.png)\n\n{plot.caption}"
    yield _compared(creative_comparisons(arms))
    yield (
        f"Two-sided t-tests clustered by seed and question (*{BASE}*: by question), corrected over "
        "this table."
    )


def _creative_rows(each: Trained, task: str, metrics: Sequence[str]) -> Iterator[Sequence[str]]:
    first = (each.arm.name, str(len(each.records)))
    for mode in MODES:
        found = [creative_summary(each, metric, mode, task) for metric in metrics]
        values = (_shown(e.value_b, ".1f" if abs(e.value_b) >= 10 else ".3f") for e in found[1:])
        yield (*first, mode, _value(found[0], metrics[0]), *values)
        first = ("", "")


def _table(arms: Sequence[Trained]) -> str:
    header = ("arm", "seeds", "mode", *METRICS, "KL to the other mode", "alarms")
    return markdown_table(header, (row for each in arms for row in _rows(each)))


def _rows(each: Trained) -> Iterator[Sequence[str]]:
    alarms = sum(bool(record.alarms) for record in each.records)
    for mode, other in (MODES, MODES[::-1]):
        yield (
            each.arm.name if mode == MODES[0] else "",
            str(len(each.records)) if mode == MODES[0] else "",
            mode,
            *(_value(summary(each, metric, mode), metric) for metric in METRICS),
            _logged(each, f"kl_bits/{mode}_{other}"),
            (f"in {alarms} of {len(each.records)}" if alarms else "none")
            if mode == MODES[0] and each.arm.name != BASE
            else "",
        )


def _value(found: Difference, metric: str) -> str:
    digits = 1 if metric == "unique" else 3
    value, low, high = found.value_b, found.ci_low, found.ci_high
    shown = _shown(value, f".{digits}f")
    return f"{shown} [{low:.{digits}f}, {high:.{digits}f}]" if math.isfinite(low) else shown


def _logged(each: Trained, measure: str) -> str:
    known = [record.log[measure] for record in each.records if measure in record.log]
    if not known:
        return ""
    return _spread([_late(values) for values in known])


def _late(values: Sequence[float]) -> float:
    """Mean of a log's last fifth."""
    last = [value for value in values[-max(2, len(values) // 5) :] if math.isfinite(value)]
    return fmean(last) if last else math.nan


def _spread(values: Sequence[float]) -> str:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return ""
    shown = f"{fmean(known):.3f}"
    return f"{shown} ({min(known):.3f} to {max(known):.3f})" if len(known) > 1 else shown


def _generalisation(arms: Iterable[Trained]) -> str:
    rows = [
        (
            each.arm.name,
            mode,
            *(
                _value(summary(each, metric, mode, task), metric)
                for metric in ("accuracy", "unique")
                for task in (TRAINED, HELD_OUT)
            ),
        )
        for each in arms
        for mode in MODES
    ]
    header = ("arm", "mode", *(f"{m}, {t}" for m in ("accuracy", "unique")
                               for t in ("trained", "held out")))  # fmt: skip
    return markdown_table(header, rows)


def _having(part: str, arms: Iterable[Trained]) -> list[Trained]:
    """Arms with those records that have such a part; evaluations are as good as their means."""
    wanted = ("means", "evaluations") if part == "means" else (part,)
    found = [
        Trained(each.arm, [r for r in each.records if any(getattr(r, name) for name in wanted)])
        for each in arms
    ]
    return [each for each in found if each.records]


def _by_seed(arms: Iterable[Trained]) -> str:
    rows = [
        (
            each.arm.name if mode == MODES[0] else "",
            str(len(each.records)) if mode == MODES[0] else "",
            mode,
            *(_spread([seed_mean(r, metric, mode) for r in each.records]) for metric in METRICS),
        )
        for each in arms
        for mode in MODES
    ]
    note = (
        "Means over questions and evaluated checkpoints, of all seeds (lowest to highest seed), "
        "of entropy over all tokens, so that long answers count for more than in other tables: "
        "what the seeds differ by, and no confidence interval."
    )
    return f"{note}\n\n{markdown_table(('arm', 'seeds', 'mode', *METRICS), rows)}"


def _prompts(arms: Iterable[Trained]) -> str:
    rows = [
        (
            each.arm.name,
            prompt,
            *(_spread([excess(r, prompt, m) for r in each.records]) for m in ("kl", "entropy")),
            _verdicts(each, prompt),
        )
        for each in arms
        for prompt in PROMPTS
    ]
    header = ("arm", "prompt", "KL beyond", "entropy beyond", "split, by seed")
    note = (
        "By how much KL(normal‖prompt) and the gap of entropy exceed those of the placebo that "
        "comes nearest, bits a token at the last checkpoint, mean (lowest to highest seed); and "
        "psplit-eval's answers to *split*. *Low* is meant to have less entropy, so it is beyond "
        "all placebos where its number is below 0."
    )
    return f"{note}\n\n{markdown_table(header, rows)}"


def _verdicts(each: Trained, prompt: str) -> str:
    said = [s["verdict"] for r in each.records for s in r.splits if s["mode"] == prompt]
    return ", ".join(f"{said.count(word)} × {word}" for word in dict.fromkeys(sorted(said)))


def _settings(study: Study, arms: Sequence[Trained]) -> str:
    rows = [
        (
            each.arm.name,
            json.dumps(dict(each.arm.settings)) if each.arm.settings else "",
            f"{fmean(record.seconds for record in each.records):.0f}",
        )
        for each in arms
    ]
    return markdown_table(("arm", "on top of the study's config", "seconds a training"), rows)


def _difference(found: Difference) -> tuple[str, str]:
    limits = found.ci_low, found.ci_high
    known = math.isfinite(found.ci_low)
    return _shown(found.difference, "+.3f"), "[{:+.3f}, {:+.3f}]".format(*limits) if known else ""


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else _shown(value, ".3f")


def _shown(value: float, form: str) -> str:
    """Empty where it is not defined."""
    return "" if math.isnan(value) else f"{value:{form}}"
