"""What an evaluation can find out, before it is run: docs, samples, tokens, time and money.

How docs and samples vary comes from a pilot run or from published accuracies; everything else is
the arithmetic of `power`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from psplit_eval.arms import Arm
from psplit_eval.choosing import chosen_tasks
from psplit_eval.comparison import ALPHA, AVERAGE, POWER, components
from psplit_eval.errors import UnknownNameError, UsageError
from psplit_eval.files import defined
from psplit_eval.harness import task_summary
from psplit_eval.margins import Claim
from psplit_eval.power import Components, detectable, docs_needed, least, power
from psplit_eval.protocol import Estimand
from psplit_eval.published import TASK_DOCS, Published, original
from psplit_eval.stats import MINIMUM_DOCS
from psplit_eval.stored import stored_arms
from psplit_eval.suites import TaskSettings

__all__ = [
    "CROSSING",
    "NOISE",
    "Facts",
    "Goal",
    "Plan",
    "PlanOptions",
    "Planned",
    "Spending",
    "plan",
]

CROSSING, NOISE = 0.032, 0.643
"""Of the variance of one sample's accuracy, what is the docs' by arm and what is sampling's:
measured between two prompts of SmolLM2 on 256 docs (docs/aa.md). The rest is the docs'."""

_TOO_FEW = f"with fewer than {MINIMUM_DOCS} docs nothing is tested"

_RUBRIC_TOKENS, _VERDICT_TOKENS = 1150, 80
"""What a judge reads beside the text (the rubric `story` by SmolLM2's tokenizer), and writes (a
guess: five scores and a sentence)."""


@dataclass(frozen=True)
class Goal:
    """What is to be found out.

    `mde`: smallest true difference that matters, by task; '' is for every task whose metric is a
    fraction. Of a claim that arms do not differ it is the margin, and they are taken to be truly
    equal. `wanted`: chance to find it, in (0, 1).
    """

    mde: Mapping[str, float] = field(default_factory=dict)
    claim: Claim | None = None
    estimand: Estimand = Estimand.SAMPLE
    wanted: float = POWER
    alpha: float = ALPHA

    @property
    def sides(self) -> int:
        """A difference is looked for on two sides, a claim has one."""
        return 1 if self.claim else 2

    @property
    def wanted_of_each(self) -> float:
        """Chance wanted of one test; equivalence takes two, which fail one at a time."""
        return (1 + self.wanted) / 2 if self.claim is Claim.EQUIVALENT else self.wanted

    def chance(self, of_each: float) -> float:
        """Chance of the whole claim."""
        return max(0.0, 2 * of_each - 1) if self.claim is Claim.EQUIVALENT else of_each


@dataclass(frozen=True)
class Spending:
    """`tokens` of one answer, by task ('' for every one); `per_second`: tokens drawn. `judges` read
    every creative answer; `price`: of a million tokens read, and written."""

    tokens: Mapping[str, float] = field(default_factory=dict)
    per_second: float | None = None
    judges: int = 1
    price: tuple[float, float] | None = None


@dataclass(frozen=True)
class PlanOptions:
    """What the command line says; the first six are those of a run."""

    suite: str | None = None
    tasks: Sequence[str] = ()
    prompts: Sequence[Path] = ()
    include: Sequence[Path] = ()
    data: Mapping[str, Path] = field(default_factory=dict)
    settings: Mapping[str, TaskSettings] = field(default_factory=dict)
    modes: Sequence[str] = ("normal", "high")
    pilot: Path | None = None
    published: str = "qwen3-8b"
    crossing: float = CROSSING
    goal: Goal = field(default_factory=Goal)
    spending: Spending = field(default_factory=Spending)

    @property
    def names_tasks(self) -> bool:
        """Whether tasks are named, or come from the pilot; without one it is the default suite."""
        return bool(self.suite or self.tasks or self.prompts or not self.pilot)


@dataclass(frozen=True)
class Facts:
    """What is known of a task before it is run. `docs`: to be run, of `docs_in_all` (None: not
    known); `samples` a doc; `tokens` of an answer, or at most so many; `judged`: by judges, too;
    `parts`: of the deciding metric, None where nobody measured it; `unknown` says why then."""

    task: str
    metric: str
    fraction: bool
    docs: int | None
    docs_in_all: int | None
    samples: int
    tokens: float = 0.0
    at_most: bool = False
    judged: bool = False
    parts: Components | None = None
    source: str = ""
    unknown: str = "a pilot run (--pilot RUN) says how docs vary"


@dataclass(frozen=True)
class Planned:
    """One task, or the average of tasks.

    `alpha`: the level that Holm's correction leaves at worst. `detectable`: smallest true
    difference found with the wanted chance, at the planned docs and samples; with endless samples
    it is `at_best`. For the goal `mde` (NaN: none is stated) `chance` is that to find it,
    `docs_needed` counts docs at the planned samples, `samples_needed` samples at the planned docs
    (None: no number will do), and `samples_given` the same with these docs as all there is. NaN
    where nothing is known of how docs vary; `at_best` alone where a doc's samples tell nothing of
    how they vary, and then nothing is known of `samples_needed` either.
    """

    facts: Facts
    alpha: float
    mde: float
    detectable: float = math.nan
    at_best: float = math.nan
    chance: float = math.nan
    docs_needed: int | None = None
    samples_needed: int | None = None
    samples_given: int | None = None

    @property
    def verdict(self) -> str:
        """What to do, in a few words."""
        if math.isnan(self.detectable):
            few = self.facts.docs is not None and self.facts.docs < MINIMUM_DOCS
            return f"not known: {_TOO_FEW if few else self.facts.unknown}"
        if math.isnan(self.mde):
            return "no goal stated"
        return "reached" if self.chance_is_enough else "; ".join(self._ways())

    @property
    def chance_is_enough(self) -> bool:
        return self.detectable <= self.mde

    def _ways(self) -> Iterator[str]:
        there = self.facts.docs_in_all
        if math.isnan(self.at_best):
            yield "what more samples do is not known: the pilot does not tell"
        elif self.samples_needed is None:
            yield "no number of samples will do"
        else:
            yield f"{self.samples_needed:,} samples a doc would do"
        if self.docs_needed is not None:
            too_many = there is not None and there < self.docs_needed
            yield f"{self.docs_needed:,} docs would do" + (
                f", there are {there:,}" if too_many else ""
            )
        if self.samples_needed is None and self.samples_given is not None:
            yield f"of these docs alone it can be said with {self.samples_given:,} samples a doc"

    def to_dict(self) -> dict[str, Any]:
        """For `--json`; what is undefined is null."""
        parts = asdict(self.facts.parts) if self.facts.parts else None
        facts = {
            **asdict(self.facts),
            "parts": parts and {key: defined(value) for key, value in parts.items()},
            "unknown": self.facts.unknown if math.isnan(self.detectable) else None,
        }
        own = {key: value for key, value in asdict(self).items() if key != "facts"}
        return {
            **facts,
            **{key: defined(value) for key, value in own.items()},
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Plan:
    """All tasks, and what they cost in all. `family`: primary comparisons that share one α.

    `seconds`, `cost`: NaN where no speed or price is known. `at_most`: token counts are limits.
    """

    rows: Sequence[Planned]
    family: int
    arms: int
    goal: Goal
    answers: int
    tokens: float
    at_most: bool
    seconds: float
    judge_calls: int
    judge_tokens: tuple[float, float]
    cost: float


def plan(options: PlanOptions) -> Plan:
    """Plan an evaluation; nothing is sampled, no rows are fetched.

    Raises UsageError for tasks, a pilot or a published model that is not there, and for a goal of a
    task that is not run.
    """
    if len(options.modes) < 2:
        raise UsageError(
            f"--modes {','.join(options.modes)}: expected two or more, such as normal,high"
        )
    pilot = _Pilot.read(options.pilot, options.modes) if options.pilot else None
    facts = list(_facts(options, pilot))
    _check_named(options, [fact.task for fact in facts])
    _check_goal(options.goal, facts)
    family = _family(facts, options.goal) * math.comb(len(options.modes), 2)
    rows = [_planned(fact, options.goal, family) for fact in facts]
    rate = options.spending.per_second or (pilot.per_second if pilot else None)
    found = _summed(rows, options, family, rate)
    average = _average(facts, options.goal, family)
    return replace(found, rows=[*rows, average]) if average else found


def _family(facts: Sequence[Facts], goal: Goal) -> int:
    """Comparisons of one pair of arms that share α: tasks (of claims those that a fraction decides)
    and, of two fractions or more, their average."""
    fractions = sum(fact.fraction for fact in facts)
    tasks = max(1, fractions) if goal.claim else len(facts)
    return tasks + (fractions > 1)


# --- what is known of tasks ---


@dataclass(frozen=True)
class _Pilot:
    """A stored run: its manifest and arms in the two modes that stand for all."""

    folder: Path
    manifest: Mapping[str, Any]
    arms: Mapping[str, tuple[Arm, Arm]]

    @classmethod
    def read(cls, folder: Path, modes: Sequence[str]) -> _Pilot:
        manifest, arms = stored_arms(folder)
        names = [mode["name"] for mode in manifest["modes"]]
        wanted = [name for name in modes if name in names] or names
        if len(wanted) < 2:
            raise UsageError(
                f"--pilot {str(folder)!r}: has modes {', '.join(names)}, expected two of "
                f"{', '.join(modes)}; name two that it has by --modes"
            )
        of_mode = [{arm.task: arm for arm in arms if arm.mode == name} for name in wanted[:2]]
        shared = [task for task, arm in of_mode[0].items() if task in of_mode[1] and not arm.pool]
        return cls(
            folder, manifest, {task: (of_mode[0][task], of_mode[1][task]) for task in shared}
        )

    @property
    def per_second(self) -> float | None:
        """Tokens a second while it was sampled."""
        wall = self.manifest.get("wall_seconds") or 0
        return self.manifest["tokens"] / wall if wall and self.manifest.get("tokens") else None


def _facts(options: PlanOptions, pilot: _Pilot | None) -> Iterator[Facts]:
    """Of the tasks that are named, or else of the pilot's; what a pilot has measured counts."""
    measured = {fact.task: fact for fact in _of_pilot(options, pilot)} if pilot else {}
    if pilot and not options.names_tasks:
        yield from measured.values()
        return
    for fact in _of_tasks(options):
        known = measured.get(fact.task)
        if known is None:
            yield fact
        else:
            sizes = fact.docs, fact.docs_in_all, fact.samples
            yield replace(known, docs=sizes[0], docs_in_all=sizes[1], samples=sizes[2])


def _of_pilot(options: PlanOptions, pilot: _Pilot) -> Iterator[Facts]:
    """Tasks of the pilot, with the docs and samples that are said now, else with all its docs."""
    for task, (a, b) in pilot.arms.items():
        entries = [pilot.manifest["tasks"][name] for name in _members(pilot.manifest, task)]
        said = _said(options, task)
        docs_in_all = sum(entry["docs_in_all"] for entry in entries)
        samples = said.samples or entries[0]["samples"]
        drawn = sum(sum(arm.tokens.values()) for arm in (a, b))
        answers = sum(sum(arm.good.values()) for arm in (a, b))
        limit = entries[0]["sampling"].get("max_tokens", 0)
        parts = components(a, b, a.scorer.primary)
        unknown = _unknown(parts, options.goal.estimand)
        yield Facts(
            task=task,
            metric=a.scorer.primary,
            fraction=a.info(a.scorer.primary).unit == "fraction",
            docs=min(docs_in_all, said.limit or docs_in_all),
            docs_in_all=docs_in_all,
            samples=samples,
            tokens=_tokens(options, task, drawn / answers if drawn else limit),
            at_most=not drawn and not _named_tokens(options, task),
            judged=a.scorer.kind == "diversity",
            parts=None if unknown else parts,
            source=f"pilot {pilot.folder}, {a.mode} and {b.mode}",
            unknown=unknown,
        )


def _unknown(parts: Components | None, estimand: Estimand) -> str:
    """Why a pilot tells nothing of how docs vary; '' where it does."""
    if parts is None:
        return f"the pilot has fewer than {MINIMUM_DOCS} docs with this metric in both arms"
    if not parts.now > 0:
        return (
            "every doc of the pilot differs alike between the arms (not at all, say); take one of "
            "fitting difficulty"
        )
    if estimand is Estimand.GIVEN and not parts.noise > 0:
        return "the pilot does not tell how a doc's samples vary; take two samples a doc or more"
    return ""


def _members(manifest: Mapping[str, Any], task: str) -> Sequence[str]:
    pools: Mapping[str, Sequence[str]] = manifest.get("pools") or {}
    return pools.get(task, [task])


def _of_tasks(options: PlanOptions) -> Iterator[Facts]:
    """Tasks of the suite or those named; a pool is one of them, its members are not."""
    row = original(options.published)
    chosen, pools = chosen_tasks(options)
    pool_of = {task: pool for pool, tasks in pools.items() for task in tasks}
    facts = [_of_task(options, source, settings, row) for source, settings in chosen]
    for fact in facts:
        pool = pool_of.get(fact.task)
        if pool is None:
            yield fact
        elif fact.task == pools[pool][0]:
            yield _pooled(pool, [f for f in facts if f.task in pools[pool]], options, row)


def _of_task(options: PlanOptions, source: Any, settings: TaskSettings, row: Published) -> Facts:
    about = task_summary(source)
    docs_in_all = about["rows"] or TASK_DOCS.get(source.name)
    limit = settings.effective({}).get("max_tokens", about["max_tokens"])
    named = _named_tokens(options, source.name)
    return Facts(
        task=source.name,
        metric={"accuracy": "accuracy_avg"}.get(about["kind"], "its deciding metric"),
        fraction=about["kind"] == "accuracy",
        docs=min(docs_in_all, settings.limit or docs_in_all) if docs_in_all else settings.limit,
        docs_in_all=docs_in_all,
        samples=settings.samples or about["samples"],
        tokens=_tokens(options, source.name, limit),
        at_most=not named,
        judged=about["kind"] == "diversity",
        parts=_assumed(row, source.name, options.crossing),
        source=_source(row, source.name),
    )


def _pooled(pool: str, parts: Sequence[Facts], options: PlanOptions, row: Published) -> Facts:
    docs = [fact.docs for fact in parts if fact.docs is not None]
    in_all = [fact.docs_in_all for fact in parts if fact.docs_in_all is not None]
    return replace(
        parts[0],
        task=pool,
        docs=sum(docs) if len(docs) == len(parts) else None,
        docs_in_all=sum(in_all) if len(in_all) == len(parts) else None,
        tokens=_tokens(options, pool, parts[0].tokens),
        at_most=parts[0].at_most and not _named_tokens(options, pool),
        parts=_assumed(row, pool, options.crossing),
        source=_source(row, pool),
    )


def _assumed(row: Published, task: str, crossing: float) -> Components | None:
    """From a published accuracy p: shares of the variance p (1 − p) of one sample, in two arms."""
    if task not in row.accuracy:
        return None
    variance = 2 * row.accuracy[task] * (1 - row.accuracy[task])
    return Components(crossing * variance, NOISE * variance)


def _source(row: Published, task: str) -> str:
    known = row.accuracy.get(task)
    return "" if known is None else f"published accuracy of {row.model}"


def _said(options: PlanOptions, task: str) -> TaskSettings:
    every = options.settings.get("", TaskSettings())
    return every.updated(options.settings.get(task, TaskSettings()))


def _named_tokens(options: PlanOptions, task: str) -> float | None:
    tokens = options.spending.tokens
    return tokens.get(task, tokens.get(""))


def _tokens(options: PlanOptions, task: str, otherwise: float) -> float:
    named = _named_tokens(options, task)
    return otherwise if named is None else named


def _check_named(options: PlanOptions, tasks: Sequence[str]) -> None:
    if not tasks:
        raise UsageError(f"--pilot {str(options.pilot)!r}: no task in two modes; give another run")
    named = {*options.goal.mde, *options.spending.tokens}
    if not options.names_tasks:  # of tasks that are named, settings are looked at where chosen
        named |= set(options.settings)
    for name in named - {"", *tasks}:
        raise UnknownNameError("task (of those in this plan)", name, tasks)


def _check_goal(goal: Goal, facts: Sequence[Facts]) -> None:
    for fact in facts:
        mde = _mde(goal, fact)
        if fact.fraction and mde >= 1:
            raise UsageError(
                f"--mde {mde:g}: expected a fraction below 1 for {fact.task}, such as 0.015 for "
                "1.5 points"
            )


def _mde(goal: Goal, facts: Facts) -> float:
    stated = goal.mde.get("", math.nan) if facts.fraction else math.nan
    return goal.mde.get(facts.task, stated)


# --- what follows from that ---

Measure = Callable[[float, bool], tuple[int, float]]
"""(samples a doc, docs as given?) → number of docs, and variance of one doc's difference."""


def _planned(facts: Facts, goal: Goal, family: int) -> Planned:
    bare = Planned(facts, goal.alpha / family, _mde(goal, facts))
    docs, parts = facts.docs, facts.parts
    if docs is None or docs < MINIMUM_DOCS or parts is None:
        return bare
    found = _answered(bare, goal, lambda k, given: (docs, parts.variance(k, given)))
    if math.isnan(found.mde) or goal.estimand is Estimand.GIVEN:
        return found
    variance = parts.variance(facts.samples)
    needed = docs_needed(found.mde, variance, goal.wanted_of_each, found.alpha, goal.sides)
    return replace(found, docs_needed=None if needed is None else max(MINIMUM_DOCS, needed))


def _average(facts: Sequence[Facts], goal: Goal, family: int) -> Planned | None:
    """The plain mean of the tasks that a fraction decides; None where one of them is not known."""
    of = [fact for fact in facts if fact.fraction]
    known = [
        (fact.docs, fact.parts)
        for fact in of
        if fact.docs and fact.docs >= MINIMUM_DOCS and fact.parts
    ]
    if len(of) < 2 or len(known) < len(of):
        return None

    def measure(samples: float, given: bool) -> tuple[int, float]:
        each = [parts.variance(samples, given) / docs / len(of) ** 2 for docs, parts in known]
        total = sum(each)
        below = sum(part**2 / (docs - 1) for part, (docs, _) in zip(each, known, strict=True))
        if math.isnan(total):  # of docs as given, where a task's samples tell nothing apart
            return whole.docs or 0, math.nan
        docs = max(2, round(total**2 / below) + 1) if below else sum(docs for docs, _ in known)
        return docs, total * docs

    docs = sum(docs for docs, _ in known)
    whole = Facts(AVERAGE, of[0].metric, True, docs, None, min(fact.samples for fact in of))
    bare = Planned(whole, goal.alpha / family, goal.mde.get("", math.nan))
    return _answered(bare, goal, measure)


def _answered(bare: Planned, goal: Goal, measure: Measure) -> Planned:
    """What the planned samples can find, and how many it takes."""
    given, mde = goal.estimand is Estimand.GIVEN, bare.mde

    def chance(samples: float, given: bool) -> float:
        return power(mde, *measure(samples, given), bare.alpha, goal.sides)

    def finds(samples: float) -> float:
        return detectable(*measure(samples, given), goal.wanted_of_each, bare.alpha, goal.sides)

    found = replace(bare, detectable=finds(bare.facts.samples))
    samples_known = not math.isnan(measure(1, True)[1])
    if samples_known:
        found = replace(found, at_best=finds(math.inf))
    if math.isnan(mde):
        return found
    if not samples_known:
        return replace(found, chance=goal.chance(chance(bare.facts.samples, given)))
    return replace(
        found,
        chance=goal.chance(chance(bare.facts.samples, given)),
        samples_needed=least(lambda k: chance(k, given) >= goal.wanted_of_each),
        samples_given=least(lambda k: chance(k, True) >= goal.wanted_of_each),
    )


def _summed(rows: Sequence[Planned], options: PlanOptions, family: int, rate: float | None) -> Plan:
    spending, arms = options.spending, len(options.modes)
    answers = {row.facts.task: (row.facts.docs or 0) * row.facts.samples * arms for row in rows}
    tokens = {row.facts.task: answers[row.facts.task] * row.facts.tokens for row in rows}
    judged = [row.facts.task for row in rows if row.facts.judged]
    calls = sum(answers[task] for task in judged) * spending.judges
    read = sum(tokens[task] for task in judged) * spending.judges + calls * _RUBRIC_TOKENS
    written = float(calls * _VERDICT_TOKENS)
    total, price = sum(tokens.values()), spending.price
    return Plan(
        rows=rows,
        family=family,
        arms=arms,
        goal=options.goal,
        answers=sum(answers.values()),
        tokens=total,
        at_most=any(row.facts.at_most for row in rows),
        seconds=total / rate if rate else math.nan,
        judge_calls=calls,
        judge_tokens=(read, written),
        cost=math.nan if price is None else (read * price[0] + written * price[1]) / 1e6,
    )
