"""Judging is a step of its own on a stored run: which samples a judge is asked about, and how.

A judge sees the question that the task asked and the answer, without any thought, and never the
mode or its system prompt. Samples are only read; verdicts lie in the run's ledger.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations
from pathlib import Path
from typing import Any, NamedTuple

from psplit_eval.asking import Asking, Judged, Screen
from psplit_eval.creativity import CreativityScorer
from psplit_eval.errors import UnknownNameError, UsageError
from psplit_eval.inquiry import Inquiry, Price
from psplit_eval.judges import Judge, JudgeName
from psplit_eval.ledger import Call, Cell, Judgement, Ledger
from psplit_eval.manifest import Manifest, open_run
from psplit_eval.measures import stored_scorer
from psplit_eval.rescoring import answers_by_doc
from psplit_eval.rubrics import Question, Rubric
from psplit_eval.scoring import Answers
from psplit_eval.store import Sample, Store

__all__ = [
    "CHOICE",
    "SCORES",
    "Item",
    "JudgeOptions",
    "judge_run",
    "judged_tasks",
    "questions_of",
    "shown_prompt",
]

SCORES, CHOICE = "scores", "choice"


@dataclass(frozen=True, kw_only=True)
class JudgeOptions(Asking):
    """What the command line says, beside who is asked.

    `kinds`: SCORES, CHOICE or both. `tasks` (): those that the rubric is for. `samples`: of every
    doc and mode at most so many, the first ones; None: all.
    """

    folder: Path
    kinds: Sequence[str] = (SCORES,)
    tasks: Sequence[str] = ()
    samples: int | None = None


class Item(NamedTuple):
    """What a question is about; see `ledger.Judgement`."""

    kind: str
    task: str
    doc_id: int
    mode: str
    sample_idx: int
    other_mode: str = ""
    other_idx: int = -1


def judge_run(options: JudgeOptions, screen: Screen) -> list[Judged]:
    """Ask every judge about the run's samples, as far as the ledger lacks answers.

    Nothing is asked with `dry_run`. Raises UsageError where there is no run, or no task that the
    rubric is for; as `Judge.ask` where a judge cannot be asked: what was done is kept.
    """
    manifest = open_run(options.folder)
    tasks = judged_tasks(manifest, options.rubric, options.tasks)
    _check(options, manifest)
    prices = options.priced()
    judges = _named_apart(options.opened(screen.say))
    first = next(judges)  # what is wrong with it is said before there is a ledger
    with (
        options.ledger(options.folder) as ledger,
        Store(options.folder / "samples.sqlite") as store,
    ):
        judging = _Judging(options, manifest, tasks, store, ledger, screen)
        return [judging.by(judge, prices[name]) for name, judge in chain([first], judges)]


def _check(options: JudgeOptions, manifest: Manifest) -> None:
    if options.samples is not None and options.samples < 1:
        raise UsageError(f"--samples {options.samples}: expected 1 or more")
    if CHOICE in options.kinds and len(manifest["modes"]) < 2 and len(options.kinds) == 1:
        raise UsageError(
            f"run {str(options.folder)!r}: one mode, so there is nothing to compare; leave out "
            "--pairwise"
        )


@dataclass(frozen=True)
class _Judging:
    """A run that is judged by one judge after the other."""

    options: JudgeOptions
    manifest: Manifest
    tasks: Sequence[str]
    store: Store
    ledger: Ledger
    screen: Screen

    @cached_property
    def plan(self) -> Counter[Cell]:
        """How many questions there are of every kind, task and mode or two modes."""
        every = (
            item
            for task in self.tasks
            for item, _, _ in _items(self.store, self.manifest, task, self.options)
        )
        return Counter((item.kind, item.task, item.mode, item.other_mode) for item in every)

    def by(self, judge: Judge, price: Price | None) -> Judged:
        """Ask one judge, or say what that would take."""
        options, total = self.options, self.plan.total()
        inquiry = Inquiry(judge, self.ledger, options.rubric, price, options.max_cost)
        if options.dry_run:
            return Judged(judge.name, total, inquiry.expected(self.questions(judge)), price)
        if inquiry.introduce():
            self.screen.say(
                f"{judge.name} was asked with other settings before: what it said then counts no "
                "more"
            )
        self.ledger.plan(judge.name, options.rubric.hash, self.plan)
        with self.screen.judging(total) as heard:
            for settled in inquiry.settle(self.questions(judge), heard):
                self.ledger.add((), [self._judgement(judge, *one) for one in settled])
        inquiry.introduce()  # with what was found out about it
        return Judged(judge.name, total, inquiry.bill, price)

    def questions(self, judge: Judge) -> Iterator[tuple[Item, Question]]:
        for task in self.tasks:
            yield from questions_of(self.store, self.manifest, task, self.options, judge)

    def _judgement(self, judge: Judge, item: Item, call: Call) -> Judgement:
        """By this rubric: the call may have been made by another that asks the very same."""
        return Judgement(judge.name, self.options.rubric.hash, *item, call.call_hash)


def _named_apart(judges: Iterator[tuple[JudgeName, Judge]]) -> Iterator[tuple[JudgeName, Judge]]:
    """The same; raises UsageError for two that results would call by one name."""
    seen = set[str]()
    for name, judge in judges:
        if judge.name in seen:
            raise UsageError(f"--judge {name}: another one is called {judge.name}, too; rename it")
        seen.add(judge.name)
        yield name, judge


def judged_tasks(manifest: Manifest, rubric: Rubric, asked: Sequence[str] = ()) -> list[str]:
    """The tasks of a run that a rubric is for, or those that are asked for.

    Raises UnknownNameError for one that is not in the run, UsageError where there is none.
    """
    for name in asked:
        if name not in manifest["tasks"]:
            raise UnknownNameError("task (of this run)", name, manifest["tasks"])
    found = list(asked) or [name for name in manifest["tasks"] if rubric.is_for(name)]
    if not found:
        raise UsageError(
            f"rubric {rubric.name!r}: for {', '.join(rubric.tasks) or 'no task'}, and the run has "
            f"{', '.join(manifest['tasks'])}; give --tasks, or another --rubric"
        )
    return found


def questions_of(
    store: Store, manifest: Manifest, task: str, options: JudgeOptions, judge: Judge
) -> Iterator[tuple[Item, Question]]:
    """Every question about a task's samples, doc by doc, named TASK/DOC/MODE/SAMPLE for judges
    whose verdicts were recorded, of two samples with a further /MODE/SAMPLE."""
    rubric, doc, prompt = options.rubric, -1, ""
    for item, samples, answers in _items(store, manifest, task, options):
        if item.doc_id != doc:
            doc, prompt = item.doc_id, shown_prompt(store, manifest, answers)
        texts = [sample.text or "" for sample in samples]
        named = [str(part) for part in item[1:] if part not in ("", -1)]
        asked: dict[str, Any] = {"writes": judge.writes, "special": judge.special}
        asked["about"] = "/".join(named)
        if item.kind == SCORES:
            yield item, rubric.score_question(prompt, texts[0], **asked)
        else:
            yield item, rubric.choice_question(prompt, (texts[0], texts[1]), **asked)


def _items(
    store: Store, manifest: Manifest, task: str, options: JudgeOptions
) -> Iterator[tuple[Item, tuple[Sample, ...], Answers]]:
    """What is asked about, with its samples and all that the doc got.

    Of two modes, sample i of the one is compared with sample i of the other, in both orders.
    """
    modes = [mode["name"] for mode in manifest["modes"]]
    for answers in answers_by_doc(store, task):
        by_mode = {
            mode: [s for s in answers.by_mode[mode] if _is_judged(s, options.samples)]
            for mode in modes
            if mode in answers.by_mode
        }
        if SCORES in options.kinds:
            for sample in chain.from_iterable(by_mode.values()):
                about = (task, sample.doc_id, sample.mode, sample.sample_idx)
                yield Item(SCORES, *about), (sample,), answers
        if CHOICE in options.kinds:
            for one, two in _both_orders(by_mode):
                first = (task, one.doc_id, one.mode, one.sample_idx)
                yield Item(CHOICE, *first, two.mode, two.sample_idx), (one, two), answers


def _is_judged(sample: Sample, samples: int | None) -> bool:
    """Whether it was written, and is one of the first; by number, so that modes have the same."""
    return sample.finish_reason != "scored" and (samples is None or sample.sample_idx < samples)


def _both_orders(by_mode: Mapping[str, Sequence[Sample]]) -> Iterator[tuple[Sample, Sample]]:
    for a, b in combinations(by_mode, 2):
        others = {sample.sample_idx: sample for sample in by_mode[b]}
        for sample in by_mode[a]:
            if other := others.get(sample.sample_idx):
                yield sample, other
                yield other, sample


def shown_prompt(store: Store, manifest: Manifest, answers: Answers) -> str:
    """What the task asked, without a mode's system prompt: all that a judge sees of the prompt.

    A creative task's own message; of other tasks the prompt of the mode with the shortest system
    prompt, which is taken out.
    """
    scorer = stored_scorer(manifest["tasks"][answers.doc.task]["scorer"])
    if isinstance(scorer, CreativityScorer) and (asked := scorer.asked(answers.doc)):
        return asked
    known = {mode["name"]: mode["system_prompt"] or "" for mode in manifest["modes"]}
    mode = min((name for name in known if answers.by_mode.get(name)), key=lambda m: len(known[m]))
    prompt = store.prompt(answers.by_mode[mode][0].prompt_hash, mode)
    return _without_system(prompt.text if prompt else "", known[mode])


def _without_system(text: str, system: str) -> str:
    """A rendered prompt, or a server's messages as JSON, without the system message."""
    try:
        messages: Any = json.loads(text)
        return "\n\n".join(m["content"] for m in messages if m["role"] != "system")
    except (ValueError, TypeError, KeyError):
        words = r"\s+".join(map(re.escape, system.split()))  # templates strip and indent
        return re.sub(words, "", text, count=1) if words else text
