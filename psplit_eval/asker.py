"""Ask servers in the form that they take, and find out first what can go wrong silently.

A server may ignore seeds, so that all samples of a doc are one; its template may drop the system
prompt, so that two modes are one. Both would be averaged into fine-looking numbers, so they are
looked for before anything is sampled.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from psplit_eval.backends import Case, Completion, Messages
from psplit_eval.chat import FailedRequestError, Form, needed, read_completion, read_sign
from psplit_eval.errors import InfrastructureError, PsplitError, TemplateError, UsageError
from psplit_eval.estimates import Given
from psplit_eval.fleet import Fleet, Server
from psplit_eval.given import (
    cannot_score,
    prompt_body,
    read_given,
    read_prompt_ids,
    response_body,
)
from psplit_eval.requests import Request, Sampling
from psplit_eval.servers import list_models, shown_text, status_fix
from psplit_eval.thinking import Thinking

__all__ = ["Asker", "Needs"]

Body = Callable[[], Mapping[str, Any]]
Read = Callable[[Mapping[str, Any]], Any]
Ask = Callable[[Body, Read], Awaitable[Any]]

_QUESTION = "Tell the beginning of an unusual story."
_HOT, _WARM = 2.0, 1.0  # the most that some servers take
_STORY_TOKENS = 32
_FEW_TOKENS = 16  # enough to see a thought begin
_GIVEN_WAY = ("return_token_ids", "repeat_penalty", "repetition_penalty", "min_p", "top_k")
_GIVEN_UP = (*_GIVEN_WAY, "logprobs", "stop", "seed")
_LONG_ENOUGH = 24
_SECONDS = 10.0
_ONE_TOKEN = Sampling(temperature=0.0, max_tokens=1)


@dataclass(frozen=True)
class Needs:
    """What is to be drawn, as far as servers must be asked about it first.

    `modes`: name → system prompt. `seeded`: some doc gets several samples at a temperature above 0.
    """

    samplings: tuple[Sampling, ...]
    modes: Mapping[str, str]
    seeded: bool

    @classmethod
    def of(cls, requests: Iterable[Request]) -> Needs:
        """The needs of all that is to be drawn, one request at least."""
        samplings: dict[Sampling, None] = {}
        modes: dict[str, str] = {}
        cells: Counter[tuple[str, str, int]] = Counter()
        for request in requests:
            samplings[request.sampling] = None
            if request.mode not in modes:
                first = json.loads(request.prompt)[0]
                modes[request.mode] = first["content"] if first["role"] == "system" else ""
            cells[request.key[:3]] += bool(request.sampling.temperature)
        system = {name: text for name, text in modes.items() if text}
        return cls(tuple(samplings), system, max(cells.values()) > 1)

    @classmethod
    def of_scoring(cls, case: Case) -> Needs:
        """The needs of cross-scoring under the prompts of such cases: nothing is drawn."""
        first = {name: json.loads(prompt)[0] for name, prompt in case.prompt_texts.items()}
        system = {name: m["content"] for name, m in first.items() if m["role"] == "system"}
        return cls((_ONE_TOKEN,), system, False)


class Asker:
    """Turns requests into what the servers take, and their answers into completions."""

    def __init__(
        self,
        fleet: Fleet,
        model: str,
        thinking: Thinking,
        needs: Needs,
        say: Callable[[str], None],
        form: Form,
    ) -> None:
        """Nothing is asked yet; `form` is the best way of asking."""
        self.form = form
        self._fleet, self._model, self._thinking = fleet, model, thinking
        self._needs, self._say = needs, say
        self._thinks = thinking.enabled is True
        self._heat: dict[str, float] = {}
        self._examined: set[str] = set()
        fleet.check = self._check

    async def sample(self, request: Request) -> Completion:
        """Draw one sample. Raises FailedRequestError, or what would fail all others, too."""
        messages, until = json.loads(request.prompt), request.sampling.until
        stops_sent = False

        def body() -> dict[str, Any]:
            nonlocal stops_sent
            stops_sent = not self._thinks and self.form.takes("stop")
            return self.body(messages, request.sampling, request.seed)

        def read(answer: Mapping[str, Any]) -> Completion:
            try:
                return read_completion(answer, until, self._thinking, stops_sent)
            finally:
                self._notice_thoughts(answer)

        completion: Completion
        completion, seconds = await self._ask(body, read)
        return replace(completion, seconds=seconds)

    async def answer(
        self, messages: Messages, sampling: Sampling, seed: int, more: Mapping[str, Any], read: Read
    ) -> tuple[Any, float]:
        """What `read` makes of an answer, and seconds; `more` goes along with the question.

        Raises as `sample`.
        """
        return await self._ask(lambda: {**self.body(messages, sampling, seed), **more}, read)

    async def prompt_ids(self, messages: Messages) -> tuple[int, ...]:
        """Tokens of a prompt as it is for sampling. Raises as `given`."""
        ids: tuple[int, ...] = await self._scored(lambda: self._plain(messages), read_prompt_ids)
        return ids

    async def given(
        self, messages: Messages, prompt: tuple[int, ...], text: str, drawn: tuple[int, ...]
    ) -> Given:
        """Score a response behind its `prompt`; see `given.read_given`.

        Raises FailedRequestError, or UsageError where the server cannot score any response.
        """

        def body() -> dict[str, Any]:
            return response_body(self._plain(messages), text, max(1, self.form.top_logprobs))

        given: Given = await self._scored(body, lambda a: read_given(a, prompt, text, drawn))
        return given

    def _plain(self, messages: Messages) -> dict[str, Any]:
        return prompt_body(self.body(messages, _ONE_TOKEN, None))

    async def _scored(self, body: Body, read: Read) -> Any:
        try:
            return (await self._ask(body, read))[0]
        except FailedRequestError as error:
            if not cannot_score(error):
                raise
            raise UsageError(
                f"{error.url} does not score given responses ({error}); expected prompt_logprobs "
                "and prompt_token_ids, as a vLLM server gives them (where it refuses as many, give "
                "fewer --top-logprobs); sample it with --backend hf, or do without divergence"
            ) from error

    def body(self, messages: Messages, sampling: Sampling, seed: int | None) -> dict[str, Any]:
        """The JSON of a question, in the form that the servers are known to take."""
        stops = not self._thinks  # a stop string could cut the thought
        return self.form.body(
            self._model, messages, sampling, seed, stops=stops, thinking=self._thinking
        )

    def _notice_thoughts(self, answer: Mapping[str, Any]) -> None:
        if not self._thinks and read_sign(answer, self._thinking).thinks:
            self._thinks = True

    async def _ask(
        self,
        body: Body,
        read: Read,
    ) -> tuple[Any, float]:
        """Ask; where a server does not take a parameter, in another form from then on."""
        while True:
            form = self.form
            try:
                return await self._fleet.ask(body, read)
            except FailedRequestError as error:
                if error.status in (401, 403, 404) and not error.parameters:
                    await self._check_hopeless(error)
                if self.form is form and not self._adapt(error.parameters):
                    raise

    def _adapt(self, parameters: Iterable[str]) -> bool:
        form = self.form.adapted(parameters, self._needs.samplings)
        if form is None:
            return False
        self._change(form)
        return True

    def _change(self, form: Form) -> None:
        gone = set(form.left_out()) - set(self.form.left_out())
        self.form = form
        for name in sorted(gone):
            self._say(f"the server does not take {name}: {self._loss(name)}")

    def _loss(self, name: str) -> str:
        used = [sampling for sampling in self._needs.samplings if name in needed(sampling)]
        if name == "seed":
            return "samples are drawn without seeds, so a repeated run will differ"
        if name == "logprobs":
            return "no entropy can be estimated"
        if name in Sampling.__dataclass_fields__ and used:
            values = sorted({getattr(sampling, name) for sampling in used})
            asked = ", ".join(f"{value:g}" for value in values)
            return f"samples are drawn without {name} {asked}, by the server's own setting"
        return "left out, nothing is lost by it"

    async def _check_hopeless(self, error: FailedRequestError) -> None:
        """Raise what would fail every other request, too."""
        if error.status == 401 or (error.status == 403 and not self._fleet.answered):
            fix = status_fix(error.status, error.url)
            raise UsageError(f"{error.url}: {error}; {fix}") from error
        if error.status == 404:
            known = await _models(error.url)
            if known is None or self._model in known:
                fix = status_fix(404, error.url)
                raise UsageError(f"{error.url}: {error}; {fix}") from error
            listed = ", ".join(shown_text(name, 60) for name in known[:8])
            raise UsageError(
                f"--model {self._model!r}: {error.url} does not have it ({error}); give one of "
                f"those that it lists: {listed or 'none'}"
            ) from error

    # Before sampling

    async def prepare(self) -> None:
        """Ask every server what must be known first; those that do not answer are left out.

        Raises InfrastructureError when none answers, UsageError or TemplateError for what would
        make every sample worthless.
        """
        plain = await self._discover()
        for mode, prompt in self._needs.modes.items():
            await self._check_mode(mode, prompt, plain)
        # one after the other would take minutes with a big fleet
        await asyncio.gather(*map(self._examine, self._fleet.servers))

    async def _discover(self) -> int | None:
        """Find the form that is taken; gives the tokens of the question without a system prompt."""
        until = next((s.until for s in self._needs.samplings if s.until), ())
        sampling = replace(self._needs.samplings[0], max_tokens=_FEW_TOKENS, until=until)
        try:
            return await self._prompt_tokens(self._messages(), sampling)
        except FailedRequestError as error:
            if error.status is None or error.retry:
                raise self._unreached(error) from error
            found = await self._blame(sampling)
            if found is None:
                raise UsageError(
                    f"{error.url} refuses a plain question ({error}); check --model {self._model!r}"
                    " and what the server takes"
                ) from error
            return found

    def _unreached(self, error: FailedRequestError) -> InfrastructureError:
        urls = ", ".join(server.url for server in self._fleet.servers)
        return InfrastructureError(
            f"no answer from {urls} ({error}); start the server, or correct its URL (--base-url, "
            "or that of --judge)"
        )

    async def _blame(self, sampling: Sampling) -> int | None:
        """Find out which parameters an unclear refusal is about; None: none of them.

        Leave out one more until there is an answer, then take back those that did no harm.
        """
        whole, tried = self.form, []
        for name in _GIVEN_UP:
            tried.append(name)
            self.form = whole.without(tried, entirely=True)
            found = await self._attempt(sampling)
            if found is not None:
                break
        else:
            self.form = whole
            return None
        for name in tried[:-1]:
            without, self.form = self.form, self.form.with_again(name)
            if await self._attempt(sampling) is None:
                self.form = without
        form, self.form = self.form, whole
        self._change(form)
        return found

    async def _attempt(self, sampling: Sampling) -> int | None:
        try:
            return await self._prompt_tokens(self._messages(), sampling) or 0
        except FailedRequestError:
            return None

    async def _check_mode(self, mode: str, prompt: str, plain: int | None) -> None:
        """A system prompt that reaches the model changes the number of prompt tokens."""
        try:
            for text in (prompt, f"{prompt} {prompt}"):  # a template's own may have as many
                messages = [{"role": "system", "content": text}, *self._messages()]
                found = await self._prompt_tokens(messages, Sampling(max_tokens=1))
                if not (plain and found) or found != plain:
                    return
        except FailedRequestError as error:
            if error.retry or error.status is None:
                raise self._unreached(error) from error
            raise TemplateError(
                f"mode {mode!r}: the server refuses its system prompt ({error}); serve the model "
                "with a chat template that takes system messages"
            ) from error
        raise TemplateError(
            f"mode {mode!r}: the server's chat template drops its system prompt (the prompt has "
            f"{plain} tokens with and without it); serve the model with a template that keeps "
            "system messages"
        )

    async def _prompt_tokens(self, messages: Messages, sampling: Sampling) -> int | None:
        sign, _ = await self._ask(lambda: self.body(messages, sampling, 1), self._sign)
        tokens: int | None = sign.prompt_tokens
        return tokens

    def _sign(self, answer: Mapping[str, Any]) -> Any:
        sign = read_sign(answer, self._thinking)
        self._thinks = self._thinks or sign.thinks
        if sign.text is None and sign.prompt_tokens is None:
            raise FailedRequestError("an answer that says nothing")
        return sign

    async def _examine(self, server: Server) -> None:
        """Whether one server draws by seed; left out where it does not answer."""

        async def ask(body: Body, read: Read) -> Any:
            return (await self._fleet.ask(body, read, server))[0]

        try:
            if self._needs.seeded:
                await self._check_seeds(server, ask)
            elif len(self._fleet.servers) > 1:
                await self._story(server, 1, ask)
        except FailedRequestError as error:
            if not (error.retry or server.out):
                raise UsageError(f"{server.url} refuses a plain question ({error})") from error
            self._fleet.leave_out(server, error)
        except InfrastructureError as error:  # it wants to be left alone for long
            if len(self._fleet.servers) == 1:
                raise
            self._fleet.leave_out(server, FailedRequestError(str(error), url=server.url))

    async def _check(self, server: Server) -> None:
        """Whether a server that was left out may come back; asked once, past its turn."""

        async def ask(body: Body, read: Read) -> Any:
            return read(await server.ask(body()))

        await ask(lambda: self.body(self._messages(), Sampling(max_tokens=1), 1), self._sign)
        if self._needs.seeded and server.url not in self._examined:
            await self._check_seeds(server, ask)

    async def _check_seeds(self, server: Server, ask: Ask) -> None:
        first = await self._story(server, 1, ask)
        for seed in (2, 3):
            other = await self._story(server, seed, ask)
            if other != first or len(first) < _LONG_ENOUGH:
                break
        else:
            raise UsageError(
                f"{server.url} gives the same answer for every seed, so several samples of a doc "
                "would be one; take a server that draws by seed, or give --samples 1"
            )
        if self.form.takes("seed") and await self._story(server, 1, ask) != first:
            self._say(f"{server.url} does not repeat an answer: a repeated run will differ")
        self._examined.add(server.url)

    async def _story(self, server: Server, seed: int, ask: Ask) -> str:
        """The beginning of an answer that hardly any two seeds share."""

        def body() -> dict[str, Any]:
            heat = self._heat.get(server.url, _HOT)
            sampling = Sampling(temperature=heat, max_tokens=_STORY_TOKENS)
            body = self.body(self._messages(), sampling, seed)
            return {k: v for k, v in body.items() if k not in ("logprobs", "top_logprobs")}

        while True:
            try:
                return str((await ask(body, self._sign_with_text)).text)
            except FailedRequestError as error:
                if error.retry or error.status is None:
                    raise
                if self._adapt(set(error.parameters) - {"temperature"}):
                    continue
                if self._heat.get(server.url) == _WARM:
                    raise
                self._heat[server.url] = _WARM

    def _sign_with_text(self, answer: Mapping[str, Any]) -> Any:
        sign = self._sign(answer)
        if sign.text is None:
            raise FailedRequestError("the answer's content is null, expected text")
        return sign

    def _messages(self) -> Messages:
        return [{"role": "user", "content": _QUESTION}]


async def _models(url: str) -> list[str] | None:
    """What a server lists; None where it cannot be had."""
    try:
        return await asyncio.to_thread(list_models, url, _SECONDS)
    except (OSError, ValueError, http.client.HTTPException, PsplitError):
        return None
