"""Users' own prompts: what a file's prompts are, and that their task is one like the others."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psplit_eval.cli import main
from psplit_eval.errors import DataError, UsageError
from psplit_eval.harness import load_task
from psplit_eval.modes import BUILTIN_MODES
from psplit_eval.prompts import prompt_source, prompt_sources, read_prompts
from psplit_eval.store import Store


@pytest.fixture
def file(tmp_path):
    """Write a prompt file of this content."""

    def write(content, name="ideas.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def texts(path):
    return [row["prompt"] for row in read_prompts(path)]


@pytest.mark.parametrize(
    ("content", "prompts"),
    [
        ("One.\nTwo.\n", ["One.", "Two."]),
        ("\n  One. \r\n\r\n\tTwo.", ["One.", "Two."]),
        ("\ufeffOne.\n", ["One."]),
        ("One\u2028still one.\nTwo\x0bstill two.", ["One\u2028still one.", "Two\x0bstill two."]),
        ("---\nOne.\n\nMore.\n--- \nTwo.\n---\n\n---\n", ["One.\n\nMore.", "Two."]),
        ("A --- B\n----\n", ["A --- B", "----"]),
        ('{"prompt": "text"}\n', ['{"prompt": "text"}']),
        ("{{ 1 + 1 }} {% raw %}\n", ["{{ 1 + 1 }} {% raw %}"]),
    ],
)
def test_a_line_is_a_prompt_or_what_stands_between_breaks(file, content, prompts):
    assert texts(file(content)) == prompts
    assert asked(file(content)) == prompts


def asked(path):
    """What a model is asked, as it is."""
    task = load_task(prompt_source(path))
    found = task.questions(task.docs, BUILTIN_MODES["normal"], last_message)
    return [question.text for _, (question,) in found]


def last_message(messages, add_generation_prompt=True):
    return messages[-1]["content"]


LINES = st.text().map(lambda text: " ".join(text.replace("\ufeff", "").split())).filter(bool)


@settings(max_examples=100)
@given(st.lists(LINES.filter(lambda line: line != "---"), min_size=1, unique=True))
def test_any_lines_come_back_in_both_forms(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("prompts")
    for name, joint in (("lines.txt", "\n"), ("parts.txt", "\n---\n")):
        path = folder / name
        path.write_text(joint.join(lines) + "\n---\n" * (len(joint) > 1), encoding="utf-8")
        assert texts(path) == lines


def test_json_lines_keep_their_other_fields_in_the_doc(file):
    rows = [
        {"prompt": "One\nmore.", "kind": "a", "id": 7},
        {"prompt": " Two. ", "answer": ["x", "y"]},
    ]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    path = file(content, "my ideas.v2.jsonl")
    packed = file(gzip.compress(content.encode()), "packed.jsonl.gz")
    assert asked(path) == asked(packed) == ["One\nmore.", " Two. "]
    docs = load_task(prompt_source(path)).docs
    assert docs[0].doc == {"prompt": "One\nmore.", "kind": "a", "id": 7, "answer": None}
    assert docs[1].doc["answer"] == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("ideas.txt", "prompts_ideas"),
        ("ideas", "prompts_ideas"),
        ("my ideas.v2.jsonl", "prompts_my_ideas_v2"),
        ("ideas.jsonl.gz", "prompts_ideas"),
    ],
)
def test_the_task_is_called_as_the_file(file, name, task):
    assert prompt_source(file("One.", name)).name == task


def test_the_same_prompts_elsewhere_are_the_same_task(file):
    one, two = (load_task(prompt_source(file("One.\n", name))) for name in ("a.txt", "b.md"))
    other = load_task(prompt_source(file("One!\n", "a.txt")))
    assert one.sha256 == two.sha256 != other.sha256
    assert (one.samples, one.sampling.temperature, one.scorer.form) == (8, 1.0, "prompts")


def test_two_files_of_one_name_are_refused(file):
    paths = [file("One.", "ideas.txt"), file("Two.", "ideas.md")]
    with pytest.raises(UsageError, match=r"ideas.md': another file gives the task 'prompts_ideas'"):
        prompt_sources(paths)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("\n \n", "a.txt", "no prompts; expected one a line"),
        ("---\n---\n", "a.txt", "no prompts; expected one a line"),
        ("", "a.jsonl", "empty; expected one JSON object a line"),
        (b"caf\xe9\n", "a.txt", r"cannot be read \(UnicodeDecodeError\); expected text in UTF-8"),
        ('["One."]', "a.json", "expected text, or JSON Lines in a file called .jsonl"),
        ('{"prompt": "One."}\n{"text": "Two."}\n', "a.jsonl", "row 2: no prompt; task 'prompts_a'"),
        ('{"prompt": 5}\n', "a.jsonl", "row 1: prompt '5', expected a text"),
        ('{"prompt": "  "}\n', "a.jsonl", "row 1: prompt '', expected a text"),
        ("One.\nTwo.\n One. \n", "a.txt", "prompt 3 repeats prompt 1 .'One.'.; remove one"),
        ('{"prompt": "One."}\nTwo.\n', "a.jsonl", "line 2: not JSON"),
    ],
)
def test_a_file_without_usable_prompts_is_an_error_of_one_line(file, content, name, message):
    path = file(content, name)
    for read in (read_prompts, asked):
        with pytest.raises(DataError, match=message) as raised:
            read(path)
        assert "\n" not in str(raised.value)
        assert name in str(raised.value)


def test_a_file_that_is_not_there_is_an_error_of_one_line(tmp_path, tiny, capsys):
    missing = tmp_path / "none.txt"
    assert evaluate(tiny, "--prompts", missing, "--out", tmp_path / "run") == 2
    assert f"prompt file '{missing}': cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "run" / "manifest.json").exists()


SMALL = ("--samples", "3", "--set", "max_tokens=6", "--modes", "normal,high")


def evaluate(tiny, *arguments):
    """The model reads its own texts: SmolLM2 takes 20 seconds for them."""
    model = ["--model", str(tiny), "--reference", str(tiny)]
    return main(["run", *model, *SMALL, *map(str, arguments)])


def drawn(run):
    with Store(run / "samples.sqlite") as store:
        return {sample.key: (sample.text, sample.seed) for sample in store.samples()}


def test_prompts_alone_are_a_run_that_goes_on_and_is_scored_again(file, tiny, tmp_path, capsys):
    path, out = file("One.\nTwo.\nThree.\n"), tmp_path / "run"
    command = ("--prompts", path, "--out", out)
    assert evaluate(tiny, *command) == 0
    before = drawn(out)
    assert {key[1] for key in before} == {"prompts_ideas"}
    assert len(before) == 2 * 3 * 3
    manifest = json.loads((out / "manifest.json").read_text())
    entry = manifest["tasks"]["prompts_ideas"]
    assert (entry["source"], entry["docs"], entry["title"]) == (
        str(path),
        3,
        "prompts of ideas.txt",
    )
    assert evaluate(tiny, *command) == 0
    assert drawn(out) == before
    board = (out / "leaderboard.csv").read_text()
    assert "prompts_ideas,div_bleu_4" in board
    assert main(["score", str(out)]) == 0
    assert main(["report", str(out)]) == 0
    assert (out / "leaderboard.csv").read_text() == board
    path.write_text("One.\nTwo.\nFour.\n")
    capsys.readouterr()
    assert evaluate(tiny, *command) == 2
    assert "prompts_ideas" in capsys.readouterr().err
    assert drawn(out) == before


def test_prompts_stand_beside_tasks_with_settings_of_their_own(file, tiny, tmp_path):
    one, two = file("One.\nTwo.\n"), file('{"prompt": "Three."}\n', "more.jsonl")
    files = ("--prompts", one, "--prompts", two, "--tasks", "psplit_sums")
    own = ("--limit", "1", "--limit", "prompts_ideas=2", "--samples", "prompts_more=2")
    assert evaluate(tiny, *files, *own, "--out", tmp_path / "run") == 0
    counts = {}
    for _, task, *_ in drawn(tmp_path / "run"):
        counts[task] = counts.get(task, 0) + 1
    assert counts == {"psplit_sums": 2 * 3, "prompts_ideas": 2 * 2 * 3, "prompts_more": 2 * 2}


def test_shards_of_prompts_join_into_the_whole_run(file, tiny, tmp_path):
    command = ("--prompts", file("One.\nTwo.\nThree.\nFour.\n"), "--batch-size", "2")
    parts = [tmp_path / "1", tmp_path / "2"]
    for index, part in enumerate(parts, 1):
        assert evaluate(tiny, *command, "--shard", f"{index}/2", "--out", part) == 0
    assert main(["merge", *map(str, parts), "--out", str(tmp_path / "joined")]) == 0
    assert evaluate(tiny, *command, "--out", tmp_path / "whole") == 0
    assert drawn(tmp_path / "joined") == drawn(tmp_path / "whole")
    assert 0 < len(drawn(parts[0])) < len(drawn(tmp_path / "whole"))


def test_two_runs_on_the_same_prompts_are_compared(file, tiny, tmp_path):
    prompts = "".join(f"Prompt {i}.\n" for i in range(6))
    for name, seed in (("ideas.txt", 0), ("again/ideas.txt", 1)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        out = ("--seed", seed, "--out", tmp_path / f"run-{seed}")
        assert evaluate(tiny, "--prompts", file(prompts, name), *out) == 0
    runs = [str(tmp_path / f"run-{seed}") for seed in (0, 1)]
    out = tmp_path / "compared"
    assert main(["compare", *runs, "--modes", "normal", "--out", str(out)]) == 0
    found = json.loads((out / "comparison.json").read_text())["comparisons"]
    assert {(c["task"], c["n_docs"]) for c in found if c["primary"]} == {("prompts_ideas", 6)}
