"""Fill the store: run what is missing of a plan, group by group.

What an engine gives back together is committed in one transaction, so a kill loses at most the
group that was running, and the same plan again makes the same groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from psplit_eval.backends import Backend, Completion, Watch
from psplit_eval.errors import RunMismatchError, TemplateError, UsageError
from psplit_eval.harness import Question, Task
from psplit_eval.modes import Mode
from psplit_eval.requests import Request, Sampling, digest, sample_seed
from psplit_eval.store import Doc, Prompt, Sample, SampleKey, Store
from psplit_eval.suites import TaskSettings

__all__ = ["Plan", "Tally", "asked_for", "fill", "missing", "plan", "random_order"]


@dataclass(frozen=True)
class Plan:
    """All that a run will sample: every request, and the prompts and docs behind them."""

    requests: tuple[Request, ...]
    prompts: tuple[Prompt, ...]
    docs: tuple[tuple[str, int], ...]

    def part(self, groups: Iterable[Iterable[Request]]) -> Plan:
        """What some of its work groups need: their requests, prompts and docs."""
        requests = tuple(request for group in groups for request in group)
        prompts = {(request.prompt_hash, request.mode) for request in requests}
        docs = {(request.task, request.doc_id) for request in requests}
        return Plan(
            requests,
            tuple(p for p in self.prompts if (p.prompt_hash, p.mode) in prompts),
            tuple(doc for doc in self.docs if doc in docs),
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """Task → mode → planned samples."""
        found: dict[str, dict[str, int]] = {}
        for (mode, task), count in Counter(request.key[:2] for request in self.requests).items():
            found.setdefault(task, {})[mode] = count
        return found


@dataclass
class Tally:
    """What `fill` did; `seconds` is not here, a clock belongs to the caller."""

    samples: int = 0
    tokens: int = 0
    failed: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.samples + other.samples, self.tokens + other.tokens, self.failed + other.failed
        )


def random_order(task: str, docs: Mapping[int, str], seed: int) -> list[int]:
    """Numbers of docs (number → hash) in an order that says nothing about them.

    It depends on their content and the seed alone; of equal docs the first number comes first.
    """
    return sorted(docs, key=lambda doc: (digest(f"{seed} {task} {docs[doc]}"), doc))


def plan(
    backend: Backend,
    modes: Sequence[Mode],
    tasks: Iterable[tuple[Task, TaskSettings]],
    base_seed: int,
) -> Plan:
    """Every request of every mode and task.

    Raises TemplateError when a mode's system prompt is not in a prompt, or a prompt leaves no room
    in the model's context; UsageError for given answers where the backend cannot score them.
    """
    requests: list[Request] = []
    prompts: dict[tuple[str, str], Prompt] = {}
    docs: list[tuple[str, int]] = []
    for task, settings in tasks:
        _check_can_run(backend, task, settings)
        chosen = task.docs[: settings.limit]
        docs += [(task.name, doc.doc_id) for doc in chosen]
        for mode in modes:
            sampling = _sampling(task, settings, mode)
            for doc, questions in task.questions(chosen, mode, backend.render):
                asked = [_asked(backend, mode, question) for question in questions]
                for prompt, _, answer_ids in asked:
                    _check_room(prompt, answer_ids, doc, backend.context_length)
                    prompts.setdefault((prompt.prompt_hash, mode.name), prompt)
                if not task.scored:
                    asked = [asked[0]] * (settings.samples or task.samples)
                requests += _requests(mode, doc, asked, sampling, base_seed)
    return Plan(tuple(requests), tuple(prompts.values()), tuple(docs))


_Asked = tuple[Prompt, str | None, tuple[int, ...]]
"""A prompt, and the answer to score after it (None: none) with its token ids."""


def _asked(backend: Backend, mode: Mode, question: Question) -> _Asked:
    """Tokenise as lm-eval does: an answer's tokens are those that it adds to the prompt's."""
    text, answer = question.text, question.answer
    prompt = Prompt(digest(text), mode.name, text, backend.encode(text))
    if answer is None:
        return prompt, None, ()
    return prompt, answer, backend.encode(text + answer)[len(prompt.token_ids) :]


def _sampling(task: Task, settings: TaskSettings, mode: Mode) -> Sampling:
    if task.scored:
        return task.sampling
    return task.sampling.updated(settings.effective(mode.sampling))


def _requests(
    mode: Mode, doc: Doc, asked: Sequence[_Asked], sampling: Sampling, base_seed: int
) -> Iterator[Request]:
    """A request a sample, or one for each answer to score."""
    for index, (prompt, answer, answer_ids) in enumerate(asked):
        seed = sample_seed(base_seed, mode.name, doc.task, doc.doc_hash, index)
        yield Request(
            mode=mode.name,
            task=doc.task,
            doc_id=doc.doc_id,
            sample_idx=index,
            doc_hash=doc.doc_hash,
            prompt_hash=prompt.prompt_hash,
            prompt_ids=prompt.token_ids,
            sampling=sampling,
            seed=seed if answer is None else None,
            answer=answer,
            answer_ids=answer_ids,
            prompt=prompt.text,
        )


def _check_can_run(backend: Backend, task: Task, settings: TaskSettings) -> None:
    samples = settings.samples or task.samples
    if not task.scored and samples < task.least_samples:
        raise UsageError(
            f"task {task.name!r}: {samples} samples a doc, expected {task.least_samples} or more, "
            f"among which it votes; give --samples {task.name}={task.least_samples}"
        )
    if task.scored and not backend.can_score:
        raise UsageError(
            f"task {task.name!r}: scores given answers by their log-probability, which the "
            f"{backend.describe()['backend']} backend cannot; take --backend hf or vllm, or a "
            "task that generates"
        )


def _check_room(prompt: Prompt, answer_ids: Sequence[int], doc: Doc, context_length: int) -> None:
    tokens = len(prompt.token_ids) + len(answer_ids)
    if not (prompt.text and tokens < context_length):
        raise TemplateError(
            f"task {doc.task!r}, doc {doc.doc_id}, mode {prompt.mode!r}: a prompt of {tokens} "
            f"tokens, expected 1 to {context_length - 1} (the model's context); leave the task out "
            "or take another model"
        )


def missing(store: Store, requests: Iterable[Request]) -> dict[SampleKey, int]:
    """Key of every request that has no good sample yet → attempts already made.

    Raises RunMismatchError where a stored sample came from another request of the same key.
    """
    left = {request.key: request for request in requests}
    tried = {}
    for key, attempts, good, request_hash in store.attempts():
        request = left.get(key)
        if request is None:
            continue
        if request_hash != request.request_hash:
            raise RunMismatchError(
                f"mode {request.mode!r}, task {request.task!r}: the samples in this run folder "
                "come from another prompt, seed or sampling settings; give another --out"
            )
        if good:
            del left[key]
        else:
            tried[key] = attempts
    return {key: tried.get(key, 0) for key in left}


def asked_for(store: Store, wanted: Mapping[SampleKey, int]) -> Counter[tuple[str, str]]:
    """(mode, task) → samples that the run has with those `wanted`: tried ones, and all others."""
    counts = Counter(store.counts())
    counts.update(key[:2] for key, attempts in wanted.items() if not attempts)
    return counts


def fill(
    store: Store,
    backend: Backend,
    groups: Sequence[Sequence[Request]],
    watch: Watch,
    wanted: Mapping[SampleKey, int] | None = None,
) -> Tally:
    """Sample all that is missing of the work groups (`wanted`, where it is known already).

    A sample that fails is stored with its error, to be tried again by the next call; errors of the
    machine (InfrastructureError) end the run, what was done is kept.
    """
    if wanted is None:
        wanted = missing(store, (request for group in groups for request in group))
    left = ([request for request in group if request.key in wanted] for group in groups)
    tally = Tally()
    for results in backend.run([group for group in left if group], watch):
        now = datetime.now(UTC).isoformat(timespec="seconds")
        samples = [
            _to_sample(request, wanted[request.key] + 1, result, now) for request, result in results
        ]
        store.add_samples(samples)
        tally.samples += len(samples)
        tally.tokens += sum(sample.completion_tokens or 0 for sample in samples)
        tally.failed += sum(sample.error is not None for sample in samples)
    return tally


def _to_sample(request: Request, attempt: int, result: Completion | Exception, now: str) -> Sample:
    good = result if isinstance(result, Completion) else None
    sent = len(request.prompt_ids) or None
    return Sample(
        mode=request.mode,
        task=request.task,
        doc_id=request.doc_id,
        sample_idx=request.sample_idx,
        doc_hash=request.doc_hash,
        request_hash=request.request_hash,
        prompt_hash=request.prompt_hash,
        seed=request.seed,
        attempt=attempt,
        text=good.text if good else None,
        thought=good.thought if good else None,
        completion_ids=good.ids if good else None,
        finish_reason=good.finish_reason if good else None,
        prompt_tokens=(good and good.prompt_tokens) or sent,
        completion_tokens=good.tokens if good else None,
        entropy_sum_bits=good.entropy_sum_bits if good else None,
        nll_sum_nats=good.nll_sum_nats if good else None,
        error=None if good else f"{result.__class__.__name__}: {result}",
        seconds=good.seconds if good else 0.0,
        created_at=now,
        is_greedy=good.is_greedy if good else None,
        entropy_estimate_sum_bits=good.entropy_estimate_sum_bits if good else None,
    )
