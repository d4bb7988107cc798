"""What a run was made with, for readers: a line of facts, and a table of settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from psplit_eval.tables import Table

__all__ = ["about", "settings_table", "title"]


def title(manifest: Mapping[str, Any]) -> str:
    """Checkpoint and modes."""
    modes = ", ".join(mode["name"] for mode in manifest["modes"])
    return f"{manifest['checkpoint']['name']} in its modes {modes}"


def about(manifest: Mapping[str, Any]) -> list[str]:
    """What was measured, when and how much of it, a fact each."""
    tasks = manifest["tasks"].values()
    docs = sum(task["docs"] for task in tasks)
    suite = [f"suite {manifest['suite']}"] if manifest.get("suite") else []
    return [
        *suite,
        f"{_counted(len(tasks), 'task')}, {_counted(docs, 'doc')}",
        f"{_counted(len(manifest['modes']), 'mode')}",
        f"begun {str(manifest['created_at'])[:10]}",
        f"psplit {manifest['psplit_version']}",
    ]


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def settings_table(manifest: Mapping[str, Any]) -> Table:
    """All that a reader needs to know of how the samples were made."""
    model, machine = manifest["model"], manifest["machine"]
    rows = [("checkpoint", str(manifest["checkpoint"]["name"])), *_origin(manifest, model)]
    for mode in manifest["modes"]:
        rows.append((f"mode {mode['name']}", mode["system_prompt"] or _no_prompt(model)))
    for name, task in manifest["tasks"].items():
        sampling = ", ".join(f"{k} {v!r}" for k, v in task["sampling"].items())
        rows.append(
            (
                f"task {name}",
                f"{task['title']}; {task['docs']} of {task['docs_in_all']} docs, "
                f"{task['samples']} samples a doc; {sampling}; source: {task['source']}"
                f"{_shots(task)}",
            )
        )
    rows += _measured_by(manifest)
    if model.get("thinking") is not None:
        rows.append(("told to think", "yes" if model["thinking"] else "no"))
    imported = model["backend"] == "lm-eval"
    if not imported:
        took = f"{manifest['tokens']:,} tokens in {manifest['wall_seconds']:,.0f} s"
        rows.append(("sampled", took))
    rows += [
        (
            "imported on" if imported else "machine",
            f"{machine['system']}, {machine['cpus']} CPUs, Python {machine['python']}",
        ),
        ("software", _software(manifest)),
    ]
    return Table("Settings", "manifest.json has all of them.", ("what", "value"), tuple(rows))


def _measured_by(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The models without whose names the numbers of creative tasks say little."""
    names = manifest.get("yardsticks")
    if names and any(task["scorer"]["kind"] == "diversity" for task in manifest["tasks"].values()):
        words = names["word_vectors"] or names["encoder"]
        absent = ", ".join(manifest.get("unmeasured_by") or [])
        yield (
            "creative tasks measured by",
            f"sentence encoder {names['encoder']}, reference model {names['reference']}, vectors "
            f"of words {words}{f'; not to be had: {absent}' if absent else ''}",
        )


def _no_prompt(model: Mapping[str, Any]) -> str:
    bare = model.get("bare_prompt")
    made = f"; of a bare question the chat template makes {bare!r}" if bare else ""
    return f"no system message is sent{made}"


def _shots(task: Mapping[str, Any]) -> str:
    shots = task.get("few_shot")
    return f"; {shots['examples']} examples before each, from {shots['from']}" if shots else ""


def _origin(manifest: Mapping[str, Any], model: Mapping[str, Any]) -> list[tuple[str, str]]:
    if model["backend"] == "lm-eval":
        return [("samples", "imported: logged by lm_eval, not drawn by psplit")]
    if "urls" in model:
        rows = [("servers", ", ".join(model["urls"])), ("base seed", str(manifest["base_seed"]))]
        left_out = ", ".join(model.get("left_out", ()))
        return [*rows, ("not taken by the servers", left_out)] if left_out else rows
    return [
        *([("parameters", f"{model['parameters']:,}")] if model.get("parameters") else []),
        ("files' fingerprint", manifest["checkpoint"]["fingerprint"]),
        ("precision and device", f"{model['dtype']} on {model['device']} ({model['backend']})"),
        ("base seed", str(manifest["base_seed"])),
    ]


def _software(manifest: Mapping[str, Any]) -> str:
    libraries = {"psplit": manifest["psplit_version"], **manifest["libraries"]}
    return ", ".join(f"{name} {version}" for name, version in libraries.items() if version)
