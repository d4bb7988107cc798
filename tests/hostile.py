"""A small run without any model whose texts want to run, fetch, break out, hide or fill the page.

Every one of them stands wherever a run has words: in prompts, docs, targets, thoughts, answers,
errors, titles, system prompts, and what judges replied.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from judgeable import SCORERS, sample

from psplit_eval.ledger import LEDGER, Call, Judgement, Ledger
from psplit_eval.manifest import new_manifest
from psplit_eval.measures import stored_scorer
from psplit_eval.requests import digest
from psplit_eval.rescoring import score_store
from psplit_eval.rubrics import find_rubric
from psplit_eval.store import Doc, Metric, Prompt, Sample, Store

ELSEWHERE = "http://127.0.0.1:9/pwned"
"""What hostile texts ask for: nobody answers there, and a listener sees the request."""
RUNS = f"window.pwned=1;alert('pwned');fetch('{ELSEWHERE}');location='{ELSEWHERE}'"
TEXTS = (
    f"<script>{RUNS}</script>",
    f"</title></style></textarea></xmp></noscript>--><script>{RUNS}</script>",
    f'</pre></td></tr></table></details></div></main><script src="{ELSEWHERE}.js"></script>',
    f'<img src=x onerror="{RUNS}"><img src="{ELSEWHERE}.png">',
    f"<svg onload=\"{RUNS}\"><script>{RUNS}</script><image href='{ELSEWHERE}.svg'/></svg>",
    f'<svg><animate onbegin="{RUNS}" attributeName=x dur=1s /></svg><math href="javascript:1">',
    f'<a href="javascript:{RUNS}" id=main>here</a> [here](javascript:{RUNS}) ![]({ELSEWHERE})',
    f'<iframe srcdoc="<script>{RUNS}</script>"></iframe><iframe src="javascript:{RUNS}"></iframe>',
    f'<object data="{ELSEWHERE}"></object><embed src="{ELSEWHERE}"><video src="{ELSEWHERE}">',
    f"<style>@import url({ELSEWHERE}.css); * {{ display: none !important }}</style>",
    f'<link rel=stylesheet href="{ELSEWHERE}.css"><link rel=prefetch href="{ELSEWHERE}">',
    f'<meta http-equiv=refresh content="0;url={ELSEWHERE}"><base href="{ELSEWHERE}/">',
    f'<form action="{ELSEWHERE}"><input autofocus onfocus="{RUNS}"><button>go</button></form>',
    f'" autofocus tabindex=0 onfocus="{RUNS}" onmouseover="{RUNS}" x="',
    f"' autofocus onfocus='{RUNS}' style='background:url({ELSEWHERE})",
    f'<body onload="{RUNS}"><details open ontoggle="{RUNS}"><marquee onstart=\'{RUNS}\'>',
    "{{ 7 * 191 }} {% include 'page.css' %} ${7*191} <%= 7*191 %> {# gone #}",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4- %3Cscript%3E &lt;script&gt; &#60;script&#62;",
    "turned \u202etxt.exe\u202c \u2066\u2067around\u2069\u200f and never back \u202e",
    "unseen \u200b\u200e\u2060\ufeff\u2028\u2029 letters",
    "\0\0\0 null bytes, a bell \x07, \x1b[31mcolour\x1b[0m, \b\b\b, \r over \x85 \x9b31m",
    "noncharacters \ufffe\uffff\U0001fffe, private \ue000, tags \U000e0041\U000e0042",
    "Z" + "\u0300\u0301\u0302\u0303" * 60 + " climbs over other lines",
    "| a | b |\n|---|---|\n\n```\nfence\n```\n\n# heading\n\n---\n<!-- open",
    "",
    "   \n\t\n   ",
    "\n" * 300 + "far below",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 👩\u200d🔬 العربية עברית 故事 " * 3,
)
LONG = (
    "x" * 1_000_000,
    f"<script>{RUNS}</script>" * 5_000,
    "\u202e\0" * 60_000,
    "word " * 200_000,
)
"""Lines of up to a megabyte."""
MODES = {"normal": None, "high": f"Be wild. {TEXTS[0]}{TEXTS[13]}\u202e"}
TASKS = ("psplit_story", "sums", "stock")
"""The last has the long texts alone; its numbers are given."""
WRITING = "Write about {{about}}."


def texts_of(task: str) -> tuple[str, ...]:
    """What the docs of a task are about; doc i has text i, in both modes."""
    return LONG if task == "stock" else TEXTS


def make_run(folder: Path, *, long: bool = True) -> Path:
    """A run's folder with scores and a judge's words; `stored.report_run` makes its report.

    Of every doc, sample 0 says the doc's text, sample 1 something harmless, and sample 2 failed
    with an error that says it.
    """
    folder.mkdir(parents=True)
    tasks = TASKS if long else TASKS[:2]
    with Store(folder / "samples.sqlite") as store:
        for task in tasks:
            _add(store, task)
        own = {task: stored_scorer(SCORERS[task]) for task in tasks if task != "stock"}
        score_store(store, own)
        if long:
            store.replace_metrics("stock", _given())
    _judge(folder)
    (folder / "manifest.json").write_text(json.dumps(_manifest(tasks)))
    return folder


def _add(store: Store, task: str) -> None:
    samples = []
    for number, text in enumerate(texts_of(task)):
        prompts = {mode: f"{system or ''}\n{text}" for mode, system in MODES.items()}
        doc = {"about": text, "question": text, text[:200]: [text[:200]]}
        store.add_plan(
            [Prompt(digest(prompt), mode, prompt, (1, 2)) for mode, prompt in prompts.items()],
            [Doc(task, number, "h", doc, text)],
        )
        for mode, prompt in prompts.items():
            samples += _samples(mode, task, number, prompt, text)
    store.add_samples(samples)


def _samples(mode: str, task: str, number: int, prompt: str, text: str) -> list[Sample]:
    told = {"text": text, "thought": text, "entropy_sum_bits": 9.0}
    mild = {"finish_reason": "length", "entropy_sum_bits": 12.0}
    failed = dict.fromkeys(("text", "thought", "finish_reason", "completion_tokens"))
    made = (told, mild, failed | {"error": text or "none"})
    return [sample(mode, task, number, i, prompt, **each) for i, each in enumerate(made)]


def _given() -> list[Metric]:
    return [
        Metric(mode, "stock", doc, idx, "exact_match", float(doc % 2))
        for mode in MODES
        for doc in range(len(LONG))
        for idx in (0, 1, None)
    ]


def _judge(folder: Path) -> None:
    """A judge that repeats what it reads."""
    rubric = find_rubric("story")
    judge = "openai:<b>judge</b>"
    calls, judgements = [], []
    for number, text in enumerate(TEXTS):
        for mode in MODES:
            call = digest(f"{mode}{number}")
            verdict = dict.fromkeys(rubric.names, 5.0)
            said = (judge, rubric.hash, "scores", verdict, None, None, text, {"words": text})
            calls.append(Call(call, *said, 1, 5, 5, 0.1, "now"))
            about = ("scores", "psplit_story", number, mode, 0, "", -1)
            judgements.append(Judgement(judge, rubric.hash, *about, call))
    with Ledger(folder / LEDGER) as ledger:
        ledger.introduce(judge, {"identity": TEXTS[0]}, rubric.hash, rubric.to_dict())
        ledger.add(calls, judgements)


def _manifest(tasks: tuple[str, ...]) -> dict[str, Any]:
    sampling = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "max_tokens": 8}
    entry = {"sampling": sampling, "samples": 3, "title": TEXTS[0], "source": TEXTS[3]}
    scorers = {**SCORERS, "psplit_story": SCORERS["psplit_story"] | {"prompt": WRITING}}
    return new_manifest(
        {
            "command": ["psplit-eval", "run", TEXTS[1]],
            "checkpoint": {"name": f"made {TEXTS[3]}", "fingerprint": TEXTS[0]},
            "model": {"backend": "openai", "urls": ["http://localhost:1/v1"]},
            "suite": None,
            "pools": {},
            "batch_size": None,
            "base_seed": 0,
            "modes": [
                {"name": name, "system_prompt": system, "role": name, "sampling": {}}
                for name, system in MODES.items()
            ],
            "tasks": {
                task: entry
                | {"docs": len(texts_of(task)), "docs_in_all": len(texts_of(task))}
                | {"scorer": scorers[task], "sha256": "0"}
                for task in tasks
            },
        }
    )
