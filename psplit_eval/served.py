"""The `openai` engine: chat servers that speak OpenAI's protocol, one or many.

Before the first sample a few small questions are asked: what a server takes, whether it draws by
seed, whether a mode's system prompt reaches the model. Then requests go out side by side, and
every sample ends as text or as an error.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar

from psplit_eval.asker import Asker, Needs
from psplit_eval.backends import Case, Completion, Crossed, Messages, Result, Watch
from psplit_eval.chat import Form
from psplit_eval.errors import TemplateError
from psplit_eval.estimates import Estimates, Given, Question
from psplit_eval.fleet import Fleet
from psplit_eval.inflight import Done, InFlight, Work, flowing
from psplit_eval.requests import Request, work_groups
from psplit_eval.servers import shown_url
from psplit_eval.thinking import Thinking

__all__ = ["ServedBackend"]

T = TypeVar("T")
_GROUP_REQUESTS = 64
_DOCS_ALIKE = 3
_ALIKE = (
    "every doc with several samples got the same text each time: a very sharp policy, or a server "
    "that keeps answers; look at some samples before you believe the diversity"
)


class ServedBackend:
    """A model behind one or more servers."""

    can_score = exact = False
    context_length = 2**31  # not known

    def __init__(
        self,
        model: str,
        urls: Sequence[str],
        *,
        concurrency: int = 32,
        requests_per_minute: float | None = None,
        timeout: float = 600.0,
        retries: int = 10,
        top_logprobs: int = 20,
        thinking: Thinking | None = None,
        say: Callable[[str], None] = lambda _: None,
        scale: float = 1.0,
    ) -> None:
        """Nothing is sent yet.

        `concurrency`: requests in flight by URL. `requests_per_minute`: sent at most, over all
        URLs. `timeout`: seconds for one try, of which a sample has `retries` more; waits between
        them begin at `scale` seconds and grow to 60 times that. `top_logprobs` are listed by token,
        for the entropy; each takes some 80 bytes of an answer. `say` hears notices.
        """
        self._model, self._urls = model, tuple(urls)
        self._thinking = thinking or Thinking()
        self._say = say
        self._limits: dict[str, Any] = {
            "concurrency": concurrency,
            "requests_per_minute": requests_per_minute,
            "timeout": timeout,
            "retries": retries,
            "scale": scale,
            "say": say,
        }
        self._form = Form(top_logprobs)

    def describe(self) -> dict[str, Any]:
        """`left_out` are parameters that the servers turned out not to take."""
        left_out = self._form.left_out()
        found = {"left_out": left_out} if left_out else {}
        return {
            "backend": "openai",
            "urls": [shown_url(url) for url in self._urls],
            "top_logprobs": self._form.top_logprobs,
            **self._thinking.describe(),
            **{name: self._limits[name] for name in ("concurrency", "timeout", "retries")},
            **found,
        }

    def render(self, messages: Messages, add_generation_prompt: bool = True) -> str:
        """The messages as JSON: the server's own template makes the prompt."""
        if not add_generation_prompt:
            raise TemplateError(
                "the task begins the answer itself, which a chat server cannot continue; take "
                "--backend hf"
            )
        return json.dumps(messages, ensure_ascii=False)

    def encode(self, text: str) -> tuple[int, ...]:
        return ()

    def groups(self, requests: Iterable[Request]) -> list[list[Request]]:
        return work_groups(requests, 1, _GROUP_REQUESTS)

    def run(self, groups: Sequence[Sequence[Request]], watch: Watch) -> Iterator[list[Result]]:
        requests = list(chain.from_iterable(groups))
        if not requests:
            return
        texts = _Texts()

        def work(asker: Asker) -> Work[Request]:
            async def sample(request: Request) -> Completion:
                completion = await asker.sample(request)
                texts.see(request, completion.text)
                return completion

            return sample

        def heard(done: list[Result]) -> None:
            tokens = sum(r.tokens or 0 for _, r in done if isinstance(r, Completion))
            watch(tokens, len(done))

        yield from self._asking(requests, Needs.of(requests), work, heard)
        if texts.all_alike:
            self._say(_ALIKE)

    def token_text(self, token: int) -> str:
        """Nothing: a server keeps its vocabulary to itself, and no stored sample has its ids."""
        return ""

    def cross_score(self, cases: Sequence[Case], watch: Watch) -> Iterator[tuple[int, Crossed]]:
        """See `backends.CrossScoring`: estimates, by servers that can score a given response.

        Only vLLM's can, as far as is known (`given`; it was never tried on a real one). A column is
        a token that the server makes of a response's text, so there is none for an end token. A
        response that no server scores, or that a template changes, has NaN rows; how many there
        are is said at the end. Raises UsageError where a server cannot score at all.
        """
        estimates = Estimates(cases, by_text=True)
        yield from estimates.unasked()
        questions = list(estimates.questions())
        if not questions:
            return

        def work(asker: Asker) -> Work[Question]:
            return _Scoring(cases, asker).given

        needs = Needs.of_scoring(cases[questions[0].case])
        for done in self._asking(questions, needs, work, lambda _: None):
            for question, found in done:
                if whole := estimates.take(question, found):
                    responses = cases[question.case].responses
                    watch(sum(rows.shape[1] for rows in whole[1].rows), len(responses))
                    yield whole
        self._say_lost(estimates)

    def _say_lost(self, estimates: Estimates) -> None:
        for reason, number in estimates.lost.most_common(3):
            self._say(f"{number} responses have no divergence: {reason}")
        if estimates.recut:
            self._say(
                f"{estimates.recut} responses were drawn as other tokens than the server makes of "
                "their text; they were scored as the latter"
            )

    def _asking(
        self,
        items: Sequence[T],
        needs: Needs,
        work: Callable[[Asker], Work[T]],
        heard: Callable[[Done[T]], None],
    ) -> Iterator[Done[T]]:
        """Work on many items at once; yields what is done, each with a result or its error."""
        asked: list[Asker] = []

        async def begin() -> InFlight[T]:
            fleet = Fleet(self._urls, **self._limits)
            asker = Asker(fleet, self._model, self._thinking, needs, self._say, self._form)
            asked.append(asker)
            return InFlight(items, fleet, asker.prepare, work(asker))

        try:
            yield from flowing(begin, heard)
        finally:
            self._form = asked[0].form if asked else self._form


class _Scoring:
    """Scores responses; a prompt is asked for once, for all responses behind it."""

    def __init__(self, cases: Sequence[Case], asker: Asker) -> None:
        self._cases, self._asker = cases, asker
        self._prompts: dict[tuple[int, str], asyncio.Task[tuple[int, ...]]] = {}

    async def given(self, question: Question) -> Given:
        case = self._cases[question.case]
        messages = json.loads(case.prompt_texts[question.policy])
        place = question.case, question.policy
        if place not in self._prompts:
            asking = self._asker.prompt_ids(messages)
            self._prompts[place] = asyncio.get_running_loop().create_task(asking)
        text, drawn = case.texts[question.response], case.responses[question.response]
        return await self._asker.given(messages, await self._prompts[place], text, drawn)


class _Texts:
    """Whether the samples of every doc are alike, which is what an ignored seed looks like."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str, int], int] = {}
        self._alike: set[tuple[str, str, int]] = set()
        self._differ = False

    def see(self, request: Request, text: str) -> None:
        if self._differ or not request.sampling.temperature:
            return
        doc = request.key[:3]
        if doc not in self._first:
            self._first[doc] = hash(text)
        elif self._first[doc] == hash(text):
            self._alike.add(doc)
        else:
            self._differ = True
            self._first.clear()

    @property
    def all_alike(self) -> bool:
        return not self._differ and len(self._alike) >= _DOCS_ALIKE
