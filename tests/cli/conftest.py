import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.cli import main

NODES = Path(__file__).parent / "weft_test_nodes.py"
ROOT = NODES.parent.parent.parent


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def records(self):
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    """An empty folder, with the test nodes and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("WEFT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WEFT_NODES", str(NODES))
    monkeypatch.setenv("WEFT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def weft(capsys):
    """The command line in this process."""

    def call(*arguments):
        code = main([str(a) for a in arguments])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


@pytest.fixture
def start():
    """The command line in a process of its own."""
    started = []

    def begin(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [sys.executable, "-m", "engine", *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


class Flag:
    """A pipe into which a test node writes when it waits, so that a test waits for that and not for a time."""

    def __init__(self, path):
        self.path = path
        os.mkfifo(path)
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def __str__(self):
        return str(self.path)

    def wait(self, process):
        ended = os.pidfd_open(process.pid)
        try:
            ready, _, _ = select.select([self.fd, ended], [], [], 300)
        finally:
            os.close(ended)
        if self.fd not in ready:
            process.kill()
            pytest.fail(f"the node never waited: {process.communicate()[1]}")


@pytest.fixture
def flag(tmp_path):
    made = Flag(tmp_path / "flag")
    yield made
    os.close(made.fd)


@pytest.fixture
def workflow(tmp_path):
    """Write a workflow: kind and inputs by id; an id with a title after a slash."""

    def write(name="w.json", **nodes):
        document = {}
        for node, (kind, inputs) in nodes.items():
            node_id, _, title = node.partition("__")
            document[node_id.removeprefix("n")] = {"class_type": kind, "inputs": inputs}
            if title:
                document[node_id.removeprefix("n")]["_meta"] = {"title": title}
        path = tmp_path / name
        path.write_text(json.dumps(document), "utf-8")
        return path

    return write


@pytest.fixture
def story(workflow):
    """A seed, a text, a file."""
    return workflow(
        n1__Maker=("TestSeeded", {"text": "a", "seed": 7}),
        n2=("TestWrite", {"text": ["1", 0], "filename_prefix": "story"}),
    )
