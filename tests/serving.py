"""Draw samples from a fault server without a task around them."""

from __future__ import annotations

import json
import socket
from typing import Any

from faultserver import FaultServer

from psplit_eval.backends import Completion
from psplit_eval.requests import Request, Sampling, digest, sample_seed
from psplit_eval.served import ServedBackend

PROMPT = "Be bold in all that you say."


def asked_for(docs=4, samples=1, modes=(None,), **sampling) -> list[Request]:
    """Requests for questions that end in the doc's number; a mode is a system prompt or None."""
    found = []
    for mode, system in enumerate(modes):
        for doc in range(docs):
            messages = [{"role": "system", "content": system}] if system else []
            text = json.dumps([*messages, {"role": "user", "content": f"Question {doc}"}])
            for i in range(samples):
                found.append(
                    Request(
                        mode=f"mode{mode}",
                        task="t",
                        doc_id=doc,
                        sample_idx=i,
                        doc_hash=str(doc),
                        prompt_hash=digest(text),
                        prompt_ids=(),
                        sampling=Sampling(**sampling),
                        seed=sample_seed(0, f"mode{mode}", "t", str(doc), i),
                        prompt=text,
                    )
                )
    return found


def backend_of(*urls: str, **options: Any) -> ServedBackend:
    """Waits are short: they begin at 5 ms."""
    return ServedBackend("m", urls, **{"scale": 0.005, "timeout": 30.0, **options})


def drawn(requests, *servers: FaultServer | str, **options: Any) -> dict[Any, Any]:
    """Key → completion or error, of every request, each exactly once."""
    urls = [server if isinstance(server, str) else server.url for server in servers]
    backend = backend_of(*urls, **options)
    results: list[Any] = []
    collect(backend, requests, results)
    found = {request.key: result for request, result in results}
    assert len(results) == len(found) == len(requests)
    return found


def collect(backend, requests, kept, watch=None) -> None:
    """Append results to `kept` as they come, so that they are there when the run is cut."""
    for batch in backend.run(backend.groups(requests), watch or quiet):
        kept += batch


def texts(results) -> dict[Any, str]:
    """Key → text; fails where a sample is an error."""
    assert all(isinstance(result, Completion) for result in results.values()), results
    return {key: result.text for key, result in results.items()}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def quiet(tokens, samples):
    pass


def questions(server: FaultServer) -> list[dict[str, Any]]:
    """Bodies of requests for samples, without those that only try the server out."""
    found = [seen.body for seen in server.seen]
    return [body for body in found if "Question" in body["messages"][-1]["content"]]
