"""What the doctor finds, on this machine and on real local servers; and shells' completion."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from psplit_eval.cli import main
from psplit_eval.doctor import LIBRARIES

KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tmp_path):
    """No hub, no key, no proxy, a cache of its own."""
    for name in ("OPENAI_API_KEY", "HF_ENDPOINT", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PSPLIT_CACHE", str(tmp_path / "cache"))


@contextmanager
def server(answers):
    """A real one: path → (status, body, headers); keeps what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.command, self.path, self.headers.get("Authorization")))
            status, body, headers = answers.get(self.path, (404, b"", {}))
            if body is None:
                time.sleep(8)
                return
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        def do_HEAD(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        httpd.block_on_close = False
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}", asked
        httpd.shutdown()


def models(*names):
    return (200, json.dumps({"data": [{"id": name} for name in names]}).encode(), {})


def examined(capsys, *arguments, code=0):
    assert main(["doctor", *arguments, "--json"]) == code
    printed = capsys.readouterr()
    assert KEY not in printed.out + printed.err
    return {f["subject"]: f for f in json.loads(printed.out)["findings"]}


def test_libraries_come_with_version_or_with_what_brings_them(capsys):
    found = examined(capsys)
    assert found["lm-eval"]["text"] == "0.4.13"
    for name, extra in LIBRARIES.items():
        if found[name]["text"] == "not installed" and extra:
            assert f"'.[{extra}]'" in found[name]["fix"]
            assert found[name]["state"] == "note"
    assert set(LIBRARIES) | {"python", "CPUs", "memory", "current folder"} <= set(found)


def test_numbers_are_those_of_the_system(capsys):
    found = examined(capsys)
    memory = found["memory"]["details"]
    assert 0 < memory["available_bytes"] <= memory["total_bytes"]
    assert memory["total_bytes"] <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert found["CPUs"]["details"]["usable"] == len(os.sched_getaffinity(0))


def test_a_line_a_finding(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= len(LIBRARIES) + 6
    assert {line.split()[0] for line in lines} <= {"ok", "note"}


def test_it_works_without_torch(tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from psplit_eval.cli import main; sys.exit(main(['doctor', '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {f["subject"]: f for f in json.loads(done.stdout)["findings"]}
    assert "torch cannot be imported" in found["accelerator"]["text"]


def test_a_server_is_asked_for_its_models_with_the_key_from_the_environment(capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with server({"/v1/models": models("llama-3", "qwen\x1b[2J")}) as (url, asked):
        found = examined(capsys, "--base-url", f"{url}/v1/")["server"]
        assert main(["doctor", "--base-url", f"{url}/v1"]) == 0
    assert asked == [("GET", "/v1/models", f"Bearer {KEY}")] * 2
    assert found["state"] == "ok"
    assert found["details"]["models"] == ["llama-3", "qwen\x1b[2J"]
    shown = capsys.readouterr().out
    assert "llama-3, qwen?[2J" in shown
    assert KEY not in shown


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, b"no", {}), "set OPENAI_API_KEY"),
        ((404, b"no", {}), "/v1"),
        ((500, b"no", {}), "status 500"),
        ((200, b"<html>", {}), "not with a list of models"),
        ((200, b"\xff\xfe\x00", {}), "not with a list of models"),
        ((200, b"[1]", {}), "not with a list of models"),
        ((200, b'{"data": [{}]}', {}), "not with a list of models"),
    ],
)
def test_a_server_that_answers_otherwise_is_a_problem(capsys, answer, words):
    with server({"/models": answer}) as (url, _):
        found = examined(capsys, "--base-url", url, code=4)["server"]
    assert found["state"] == "problem"
    assert words in f"{found['text']}; {found['fix']}"


def test_the_key_is_not_carried_to_where_a_server_redirects(capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with server({"/models": models("x")}) as (other, stolen):
        target = {"Location": f"{other}/models"}
        with server({"/models": (302, b"", target)}) as (url, _):
            found = examined(capsys, "--base-url", url, code=4)["server"]
    assert "give that address" in found["fix"]
    assert stolen == []


def test_a_key_that_cannot_be_sent_is_not_quoted(capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\nX-Other: 1")
    with server({"/models": models("x")}) as (url, asked):
        found = examined(capsys, "--base-url", url, code=4)["server"]
    assert "OPENAI_API_KEY holds characters" in found["text"]
    assert asked == []


def test_a_server_that_is_not_there_or_says_nothing_costs_no_more_than_three_seconds(capsys):
    with server({"/models": (200, None, {})}) as (url, _):
        started = time.monotonic()
        found = examined(capsys, "--base-url", url, code=4)["server"]
        assert "no answer in 3 s" in found["text"]
    assert time.monotonic() - started < 8
    found = examined(capsys, "--base-url", url, code=4)["server"]
    assert "refused" in found["text"]
    assert main(["doctor", "--base-url", f"{url}/v1?key={KEY}"]) == 4
    shown = capsys.readouterr().out
    assert "problem  server" in shown
    assert KEY not in shown


@pytest.mark.parametrize(
    "url", ["localhost:8000", "file:///etc/passwd", "http://", "http://h:port", f"http://{KEY}@h/"]
)
def test_what_is_no_base_url_is_refused_at_once(capsys, url):
    assert main(["doctor", "--base-url", url]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert "--base-url" in printed.err
    assert KEY not in printed.err


def test_the_hub_is_asked_at_its_endpoint(capsys, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with server({"/": (200, b"hi", {})}) as (url, asked):
        monkeypatch.setenv("HF_ENDPOINT", f"{url}/")
        assert examined(capsys)["model hub"]["state"] == "ok"
        assert asked == [("HEAD", "/", None)]
    found = examined(capsys)["model hub"]
    assert (found["state"], "cannot be reached" in found["text"]) == ("note", True)
    monkeypatch.setenv("HF_ENDPOINT", "file:///tmp")
    assert "no http or https URL" in examined(capsys)["model hub"]["text"]


def test_offline_the_hub_is_not_asked(capsys, monkeypatch):
    with server({}) as (url, asked):
        monkeypatch.setenv("HF_ENDPOINT", url)
        assert "HF_HUB_OFFLINE" in examined(capsys)["model hub"]["text"]
    assert asked == []


def test_a_cache_that_cannot_be_written_is_a_problem_and_one_to_be_made_is_not(
    capsys, monkeypatch, tmp_path
):
    assert examined(capsys)["cache folder"]["state"] == "ok"
    assert not (tmp_path / "cache").exists()
    (tmp_path / "file").touch()
    monkeypatch.setenv("PSPLIT_CACHE", str(tmp_path / "file" / "psplit"))
    found = examined(capsys, code=4)["cache folder"]
    assert (found["state"], "PSPLIT_CACHE" in found["fix"]) == ("problem", True)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder nobody can write to")
def test_a_current_folder_that_cannot_be_written_is_a_problem(capsys, monkeypatch):
    monkeypatch.chdir("/proc")
    assert examined(capsys, code=4)["current folder"]["state"] == "problem"


def test_a_cached_checkpoint_is_found(capsys, tmp_path):
    assert examined(capsys)["smollm2-135m"]["state"] == "note"
    folder = tmp_path / "cache" / "smollm2-135m"
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    assert examined(capsys)["smollm2-135m"]["state"] == "ok"


def completed(tmp_path, *words):
    """What a real bash offers for the last of `words`."""
    drive = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        'function=$(complete -p psplit-eval | sed "s/.*-F \\([^ ]*\\).*/\\1/"); '
        '"$function" psplit-eval "${COMP_WORDS[COMP_CWORD]}"; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    script = tmp_path / "completion.bash"
    command = ["bash", "--norc", "-c", drive, "bash", script, "psplit-eval", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    return set(done.stdout.split())


def test_bash_completes_commands_options_and_paths(capsys, tmp_path):
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    subprocess.run(["bash", "-n", script], check=True)
    (tmp_path / "deep" / "folder").mkdir(parents=True)
    (tmp_path / "deeds.txt").touch()
    assert completed(tmp_path, "ru") == {"run", "runs"}
    assert completed(tmp_path, "runs", "") >= {"list", "describe", "prune"}
    assert completed(tmp_path, "runs", "prune", "--ol") == {"--older-than"}
    assert completed(tmp_path, "completion", "t") == {"tcsh"}
    assert completed(tmp_path, "runs", "describe", "dee") == {"deep"}
    assert completed(tmp_path, "export", "deep", "--out", "dee") == {"deep", "deeds.txt"}
    assert completed(tmp_path, "run", "--out", "dee") == {"deep"}


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_have_a_script_with_every_command(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "psplit-eval" in script
    assert all(word in script for word in ("export", "doctor", "describe", "older-than"))


def test_an_unknown_shell_is_refused(capsys):
    assert main(["completion", "fish"]) == 2
    assert "'fish'" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_traceback():
    command = [sys.executable, "-m", "psplit_eval.cli", "completion", "bash"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_help_does_not_import_the_completion_library():
    code = (
        "import sys; from psplit_eval.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('shtab' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0
