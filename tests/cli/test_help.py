"""What a person reads first: the help of every command, and the settings in force."""

from __future__ import annotations

import re
import subprocess
import sys

import click
import pytest

from tests.conftest import last_json
from workflow.cli.program import COMMANDS, program
from workflow.steps import STEPS

#: What takes a command more time to import than all that help needs.
HEAVY = ("numpy", "scipy", "numba", "dask", "distributed", "zarr", "pydantic", "yaml", "rich")


def all_commands(group=program, before=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from all_commands(command, (*before, name))
        else:
            yield (*before, name)


COMMAND_NAMES = list(all_commands())


@pytest.mark.parametrize("words", COMMAND_NAMES, ids=" ".join)
def test_help__groups_options_and_ends_with_an_example_of_the_command(run_cli, words):
    status, out, err = run_cli(*words, "--help")
    assert (status, err) == (0, "")
    titles = re.findall(r"^(\S.*):$", out, flags=re.MULTILINE)
    assert titles[-4:-1] == ["Settings", "Where it runs", "Output"]
    examples = out.partition(f"{titles[-1]}:\n")[2].splitlines()
    assert titles[-1] in ("Example", "Examples")
    assert examples
    for line in examples:
        assert line.startswith("  overcluster " + " ".join(words))


@pytest.mark.parametrize("words", COMMAND_NAMES, ids=" ".join)
def test_help__names_options_of_the_command_only_in_its_example(words):
    command = program
    for word in words:
        command = command.commands[word]
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", command.example)) <= known


def test_help__of_the_program_lists_every_command_under_a_title(run_cli):
    status, out, _ = run_cli("--help")
    assert status == 0
    listed = [name for names in COMMANDS.values() for name in names]
    assert sorted(listed) == sorted(program.commands)
    for title, names in COMMANDS.items():
        under = out.partition(f"{title}:\n")[2].partition("\n\n")[0]
        assert [line.split()[0] for line in under.splitlines()] == list(names)
    assert "..." not in out.partition("Options:")[2], "a sentence is cut"


def test_help__imports_nothing_heavy():
    code = (
        "import sys; from workflow.cli import main; main(['run', '--help']); "
        f"sys.exit(','.join(sorted(set({HEAVY}) & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_config__has_a_section_for_each_step_and_a_sentence_for_each_setting(run_cli):
    status, out, _ = run_cli("config", "--set", "pca.n_components=7")
    assert status == 0
    sections = out.split("\n\n")
    assert [section.partition(":")[0] for section in sections[1:-2]] == [
        *(step.name for step in STEPS),
        "update",
    ]
    for section in sections[:-1]:
        lines = section.splitlines()
        settings, sentences = lines[1::2], lines[2::2]
        assert all(re.match(r"  [a-z_.]+ +\S.* (default|--set)$", line) for line in settings)
        assert all(re.match(r"    [A-Z].*\.$", line) for line in sentences)
    assert re.search(r"^  pca\.n_components +7 +--set\n    A count, a share", out, re.MULTILINE)


def test_config__shows_batch_systems_when_asked_and_where_they_count(run_cli):
    keys = re.compile(r"^  ([a-z_.]+) ", re.MULTILINE)
    short = run_cli("config")[1]
    whole = run_cli("config", "--all")[1]
    content = last_json(run_cli("config", "--json")[1])
    assert set(keys.findall(whole)) == set(content)
    hidden = set(content) - set(keys.findall(short))
    assert {"compute.queue", "compute.ssh_port", "compute.tls_key"} <= hidden
    assert all(key.startswith("compute.") for key in hidden)
    assert short.splitlines()[-1].startswith(f"{len(hidden)} more settings")
    assert short.splitlines()[-1].endswith("`config --all`.")
    given = run_cli("config", "--set", "compute.queue=gpu")[1]
    assert set(keys.findall(given)) - set(keys.findall(short)) == {"compute.queue"}
    assert set(keys.findall(run_cli("config", "--compute", "slurm")[1])) == set(content)


def test_config__as_json_has_every_value_and_its_origin(run_cli):
    content = last_json(run_cli("config", "--set", "pca.n_components=7", "--json")[1])
    assert content["pca.n_components"] == {"value": 7, "origin": "--set"}
    assert content["seed"] == {"value": 0, "origin": "default"}
