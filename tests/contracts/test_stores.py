"""What holds for every store: what it gives is what it was given, it keeps to its limit, and it may forget."""

from __future__ import annotations

import functools
import json
import math
import os
import threading
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
import torch

from engine.cache import MemoryStore, Store, Tiers, size_bytes
from engine.cache.disk import DiskStore
from engine.cache.values import Listed, Result
from engine.fingerprint import digest
from engine.types import Cond, Conditioning, Latent, Shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMIT = 200_000
SECONDS = 1.0


def key(number: int) -> bytes:
    return digest(number)


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda _: MemoryStore(LIMIT),
    "disk": lambda folder: DiskStore(folder, LIMIT),
    "tiers": lambda folder: Tiers([MemoryStore(LIMIT), DiskStore(folder, LIMIT)]),
    "tiny memory over disk": lambda folder: Tiers([MemoryStore(1_000), DiskStore(folder, LIMIT)]),
}

VALUES: dict[str, tuple[Any, ...]] = {
    "numbers": (1, -(2**63), 2**70, 1.5, -0.0, math.inf, math.nan, True, None),
    "texts": ("", "naïve 🙂", "a\0b", "\n"),
    "tensors": (
        tensor(2, 3),
        tensor(0, 4),
        torch.tensor(3),
        tensor(4).half(),
        torch.tensor([True, False]),
        tensor(2, 2).bfloat16(),
    ),
    "a view": (tensor(8, 8)[::2, 1:3],),
    "a latent": (Latent(tensor(1, 4, 8, 8), tensor(1, 1, 8, 8), (3, 4)),),
    "a conditioning": (
        Conditioning(
            (
                Cond(tensor(1, 77, 8), tensor(1, 8), {"area": (1, 2, 3, 4), "mask": tensor(1, 8, 8), "strength": 0.5}),
                Cond(tensor(1, 77, 8)).with_extra(hint=tensor(1, 3, 64, 64)),
            )
        ),
    ),
    "lists": (Listed((1, 2, tensor(2))), (1, (2, "x")), [1, [2]], {"a": 1, "b": {"c": tensor(1)}}),
    "nothing in it": (Listed(),),
}


@pytest.fixture(params=STORES, ids=lambda name: name)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return STORES[request.param](tmp_path / "cache")


def frozen(value: Any) -> Any:
    """`value` with dictionaries as they are read: typed content, told apart by digest."""
    return MappingProxyType(value) if isinstance(value, dict) else value


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_what_it_gives_is_what_it_was_given(store: Store, values: tuple[Any, ...]) -> None:
    store.put(key(1), Result(values, None, SECONDS), SECONDS)
    got = store.get(key(1))
    assert got is not None
    assert got.seconds == SECONDS
    assert [digest(frozen(v)) for v in got.outputs] == [digest(frozen(v)) for v in values]
    assert [type(v) for v in got.outputs if not isinstance(v, dict | MappingProxyType)] == [
        type(v) for v in values if not isinstance(v, dict)
    ]


def test_what_was_never_put_is_not_there(store: Store) -> None:
    assert key(1) not in store
    assert store.get(key(1)) is None


def test_contains_says_what_get_gives(store: Store) -> None:
    for i in range(60):
        store.put(key(i), Result((tensor(40, 40, seed=i),), None, SECONDS), SECONDS)
    kept = [i for i in range(60) if key(i) in store]
    assert kept
    assert all(store.get(key(i)) is not None for i in kept)
    assert all(store.get(key(i)) is None for i in set(range(60)) - set(kept))


def test_results_of_different_calls_are_not_mixed_up(store: Store) -> None:
    for i in range(10):
        store.put(key(i), Result((i, tensor(3, seed=i)), None, SECONDS), SECONDS)
    for i in range(10):
        got = store.get(key(i))
        assert got is not None
        assert got.outputs[0] == i
        assert torch.equal(got.outputs[1], tensor(3, seed=i))


def test_putting_again_changes_nothing(store: Store) -> None:
    for _ in range(3):
        store.put(key(1), Result((5,), None, SECONDS), SECONDS)
    got = store.get(key(1))
    assert got is not None
    assert got.outputs == (5,)


def test_what_is_larger_than_the_limit_is_not_kept_and_drives_nothing_out(store: Store) -> None:
    store.put(key(1), Result((5,), None, SECONDS), SECONDS)
    store.put(key(2), Result((tensor(LIMIT),), None, SECONDS), SECONDS)
    assert key(2) not in store
    assert key(1) in store


def test_clear_forgets_everything(store: Store) -> None:
    for i in range(5):
        store.put(key(i), Result((i,), None, SECONDS), SECONDS)
    store.clear()
    assert not any(key(i) in store for i in range(5))
    store.put(key(1), Result((1,), None, SECONDS), SECONDS)
    assert key(1) in store


def test_what_cannot_be_kept_is_left_out_without_a_word(store: Store) -> None:
    store.put(key(1), Result((object(), threading.Lock()), None, SECONDS), SECONDS)
    got = store.get(key(1))
    assert got is None or len(got.outputs) == 2


def test_several_threads_may_use_it(store: Store) -> None:
    wrong: list[int] = []

    def work(first: int) -> None:
        for i in range(first, first + 40):
            store.put(key(i), Result((i,), None, SECONDS), SECONDS)
            got = store.get(key(i))
            if got is not None and got.outputs != (i,):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(n * 20,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def _refused(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


class TestMemory:
    def test_it_holds_no_more_than_its_limit(self) -> None:
        store = MemoryStore(LIMIT)
        for i in range(100):
            store.put(key(i), Result((tensor(50, 50, seed=i),), None, SECONDS), SECONDS)
            assert store.used_bytes <= LIMIT

    def test_what_is_cheap_for_its_size_goes_first(self) -> None:
        store = MemoryStore(LIMIT)
        store.put(key(0), Result((tensor(50, 50),), None, 100.0), 100.0)
        for i in range(1, 100):
            store.put(key(i), Result((tensor(50, 50),), None, 0.001), 0.001)
        assert key(0) in store


class Held:
    """An object that no one knows."""

    def __init__(self, content: Any) -> None:
        self.content = content
        self.self = self


class Slotted(Held):
    __slots__ = ("__hidden", "empty", "slot")

    def __init__(self, content: Any) -> None:
        self.slot = content
        self.__hidden = content[:1]


class Rows:
    """A mapping that makes its values when asked."""

    def keys(self) -> range:
        return range(50)

    def __iter__(self) -> Any:
        return iter(self.keys())

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.full((1000,), float(row))


class TestSizes:
    @pytest.mark.parametrize(
        "value",
        [
            Held(torch.zeros(1000)),
            Held({"a": [torch.zeros(1000)]}),
            Held(Held(Held((torch.zeros(1000),)))),
            Slotted(torch.zeros(1000)),
            [Held(torch.zeros(500)), Slotted(torch.zeros(500))],
            functools.partial(torch.add, torch.zeros(1000)),
        ],
        ids=["an attribute", "nested", "objects in objects", "slots", "a list", "a partial call"],
    )
    def test_objects_count_with_what_they_hold(self, value: Any) -> None:
        assert 4000 <= size_bytes(value) < 6000

    def test_what_is_shared_counts_once(self) -> None:
        shared = torch.zeros(1000)
        assert size_bytes([Held(shared), Held(shared[:5]), shared, Slotted(shared)]) < 6000

    def test_code_counts_for_nobody(self) -> None:
        assert size_bytes(Held((torch, Held, key, math.sin))) < 10_000

    def test_only_some_objects_are_opened(self) -> None:
        assert size_bytes([Held(Held(b"x" * 1000)) for _ in range(10_000)]) < 10_000 * 1000

    def test_values_made_when_asked_count_each(self) -> None:
        assert size_bytes(Rows()) >= 50 * 4000


class TestDisk:
    def test_it_outlives_the_process(self, tmp_path: Path) -> None:
        DiskStore(tmp_path).put(key(1), Result((tensor(2),), None, SECONDS), SECONDS)
        got = DiskStore(tmp_path).get(key(1))
        assert got is not None
        assert torch.equal(got.outputs[0], tensor(2))

    def test_it_holds_no_more_than_its_limit(self, tmp_path: Path) -> None:
        store = DiskStore(tmp_path, LIMIT)
        for i in range(60):
            store.put(key(i), Result((tensor(50, 50, seed=i),), None, SECONDS), SECONDS)
            assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) <= LIMIT

    @pytest.mark.parametrize("damage", [b"", b"nonsense", b"\0" * 200], ids=["empty", "nonsense", "zeros"])
    def test_a_damaged_file_is_forgotten(self, tmp_path: Path, damage: bytes) -> None:
        store = DiskStore(tmp_path)
        store.put(key(1), Result((tensor(2),), None, SECONDS), SECONDS)
        (path,) = tmp_path.rglob("*.safetensors")
        path.write_bytes(damage)
        assert store.get(key(1)) is None
        assert key(1) not in store

    def test_a_file_that_is_cut_off_is_forgotten(self, tmp_path: Path) -> None:
        store = DiskStore(tmp_path)
        store.put(key(1), Result((tensor(100),), None, SECONDS), SECONDS)
        (path,) = tmp_path.rglob("*.safetensors")
        path.write_bytes(path.read_bytes()[:-100])
        assert store.get(key(1)) is None

    @pytest.mark.parametrize(
        "damage",
        [
            {"outputs": [1]},
            {"outputs": [1], "seconds": "long"},
            {"outputs": [1], "seconds": None},
            {"outputs": [1], "seconds": 10**400},
            {"outputs": "abc", "seconds": 1},
            {"outputs": [{"float": "0x1p99999"}], "seconds": 1},
            {"outputs": [{"type": "Latent", "fields": []}], "seconds": 1},
            {"outputs": [{"tensor": "7"}], "seconds": 1},
            [],
        ],
        ids=str,
    )
    def test_a_damaged_record_is_forgotten(self, tmp_path: Path, damage: Any) -> None:
        store = DiskStore(tmp_path)
        store.put(key(1), Result((1,), None, SECONDS), SECONDS)
        (path,) = tmp_path.rglob("*.safetensors")
        header = json.dumps({"__metadata__": {"result": json.dumps(damage)}}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        assert store.get(key(1)) is None
        assert not path.exists()
        assert key(1) not in store

    def test_a_time_that_cannot_be_set_costs_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = DiskStore(tmp_path)
        store.put(key(1), Result((tensor(2),), None, SECONDS), SECONDS)
        monkeypatch.setattr("os.utime", _refused)
        assert store.get(key(1)) is not None
        assert store.get(key(1)) is not None

    def test_what_cannot_be_read_is_left_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = DiskStore(tmp_path)
        store.put(key(1), Result((tensor(2),), None, SECONDS), SECONDS)
        (path,) = tmp_path.rglob("*.safetensors")
        with monkeypatch.context() as patch:
            patch.setattr("pathlib.Path.open", _refused)
            assert store.get(key(1)) is None
        assert key(1) not in store
        assert path.exists()
        assert DiskStore(tmp_path).get(key(1)) is not None

    def test_a_damaged_file_that_cannot_be_removed_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = DiskStore(tmp_path)
        store.put(key(1), Result((tensor(2),), None, SECONDS), SECONDS)
        (path,) = tmp_path.rglob("*.safetensors")
        path.write_bytes(b"nonsense")
        monkeypatch.setattr("pathlib.Path.unlink", _refused)
        assert store.get(key(1)) is None
        assert key(1) not in store
        store.clear()

    def test_what_no_file_can_hold_is_left_out(self, tmp_path: Path) -> None:
        store = DiskStore(tmp_path)
        store.put(key(1), Result((10**5000,), None, SECONDS), SECONDS)
        assert key(1) not in store

    def test_the_folder_is_asked_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        DiskStore(tmp_path).put(key(1), Result((1,), None, SECONDS), SECONDS)
        store = DiskStore(tmp_path)
        assert key(1) in store
        for name in ("os.stat", "os.scandir", "pathlib.Path.stat", "pathlib.Path.is_file"):
            monkeypatch.setattr(name, lambda *_, **__: pytest.fail("asked the disk"))
        assert key(1) in store
        assert not any(key(i) in store for i in range(2, 50))
        assert store.get(key(2)) is None

    def test_another_process_is_noticed(self, tmp_path: Path) -> None:
        store, other = DiskStore(tmp_path), DiskStore(tmp_path)
        store.put(key(1), Result((1,), None, SECONDS), SECONDS)
        other.put(key(2), Result((2,), None, SECONDS), SECONDS)
        assert key(2) not in store or store.get(key(2)) is not None
        assert key(2) in DiskStore(tmp_path)
        assert key(1) in other
        store.clear()
        assert other.get(key(1)) is None
        assert key(1) not in other
        other.put(key(1), Result((1,), None, SECONDS), SECONDS)
        assert other.get(key(1)) is not None

    def test_what_killed_processes_left_is_counted_evicted_and_cleared(self, tmp_path: Path) -> None:
        store = DiskStore(tmp_path, LIMIT)
        old, new = tmp_path / "ab" / "cd.123.tmp", tmp_path / "ab" / "cd.124.tmp"
        old.parent.mkdir()
        long_ago = time.time() - 7200
        for path in (old, new):
            path.write_bytes(b"\0" * (LIMIT // 2))
        os.utime(old, (long_ago, long_ago))
        store.put(key(1), Result((tensor(LIMIT // 8),), None, SECONDS), SECONDS)
        assert not old.exists()
        assert new.exists()
        assert key(1) in store
        os.utime(new, (long_ago, long_ago))
        store.clear()
        assert not new.exists()

    def test_a_folder_that_is_none_costs_only_the_cache(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        for folder in (tmp_path / "file", tmp_path / "file" / "inner", tmp_path / "a\0b"):
            store = DiskStore(folder)
            store.put(key(1), Result((1,), None, SECONDS), SECONDS)
            assert key(1) not in store
            assert store.get(key(1)) is None
            store.clear()

    def test_what_is_shown_or_quick_is_not_kept(self, tmp_path: Path) -> None:
        store = DiskStore(tmp_path)
        store.put(key(1), Result((1,), Shown({"text": ("x",)}), SECONDS), SECONDS)
        store.put(key(2), Result((1,), None, 0.0001), 0.0001)
        assert not list(tmp_path.rglob("*.safetensors"))


def test_a_slow_tier_fills_the_fast_one(tmp_path: Path) -> None:
    DiskStore(tmp_path).put(key(1), Result((7,), None, SECONDS), SECONDS)
    memory = MemoryStore(LIMIT)
    store = Tiers([memory, DiskStore(tmp_path)])
    assert key(1) not in memory
    assert store.get(key(1)) is not None
    assert key(1) in memory
