"""What was let go is computed again, and only that."""

from __future__ import annotations

from engine.cache import MemoryStore


def test_an_evicted_result_runs_again_and_says_so(bench, graph):
    bench.run(graph, ["decode"])
    store = bench.engine.store
    assert isinstance(store, MemoryStore)
    store.clear()
    assert bench.run(graph, ["decode"]) == "ran load, ran text, ran denoise, ran decode"
    assert bench.why("denoise") == "evicted"


def test_a_result_gone_in_the_middle_of_a_run_is_computed_again(bench, graph):
    """decode's input is kept when the plan is made and gone when it is needed."""
    bench.run(graph, ["denoise"])
    store = bench.engine.store

    class Forgetful:
        def __contains__(self, key):
            return key in store

        def get(self, key):
            return None

        def put(self, key, result, seconds):
            store.put(key, result, seconds)

        def clear(self):
            store.clear()

    bench.engine.store = Forgetful()
    assert bench.run(graph, ["decode"]).endswith("ran decode")
    assert bench.result.value("decode") == "CAT@M#1X20"


def test_memory_stays_within_its_limit():
    from engine.cache.values import Result

    store = MemoryStore(100_000)
    for i in range(1000):
        store.put(b"%d" % i, Result(("x" * 1000,)), 0.001)
        assert store.used_bytes <= 100_000
    assert 0 < len(store) < 100


def test_what_is_dear_for_its_size_stays_longest():
    from engine.cache.values import Result

    store = MemoryStore(100_000)
    store.put(b"dear", Result(("x" * 1000,)), 60.0)
    store.put(b"cheap", Result(("y" * 1000,)), 0.0001)
    for i in range(200):
        store.put(b"%d" % i, Result(("z" * 1000,)), 0.001)
    assert b"dear" in store
    assert b"cheap" not in store


def test_a_value_larger_than_the_limit_is_not_kept():
    from engine.cache.values import Result

    store = MemoryStore(1000)
    store.put(b"k", Result(("x" * 5000,)), 1.0)
    assert b"k" not in store
    assert store.used_bytes == 0


def test_a_storage_that_results_share_counts_once_and_stays_while_one_holds_it():
    import torch

    from engine.cache.values import Result

    weights = torch.zeros(250_000)
    store = MemoryStore(3_000_000)
    for i in range(9):
        store.put(b"%d" % i, Result((weights[i:],)), 1e-6)
    assert 1_000_000 <= store.used_bytes < 1_010_000
    assert len(store) == 9
    store.put(b"other", Result((torch.zeros(400_000),)), 1000.0)
    assert len(store) == 10
    store.put(b"more", Result((torch.zeros(200_000),)), 1000.0)
    assert {key for key in (b"other", b"more") if key in store} == {b"other", b"more"}
    assert not any(b"%d" % i in store for i in range(9))  # letting go of some of them frees nothing
    assert 2_400_000 <= store.used_bytes < 2_401_000
    store.clear()
    assert store.used_bytes == 0
