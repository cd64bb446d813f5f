from pathlib import Path

from engine.settings import Settings, settle


def test_what_is_asked_for_overrules_the_environment_and_that_the_defaults(tmp_path):
    env = {"WEFT_INPUT_DIR": "in", "WEFT_DEVICE": "cpu", "WEFT_MODELS_DIR": "a:b", "WEFT_DTYPE": "float16"}
    chosen = settle(env, input_dir="mine", models=["c"])
    assert (chosen.input, chosen.output, chosen.device, chosen.dtype) == (Path("mine"), Path("output"), "cpu", "float16")
    assert chosen.models == (Path("c"),)
    assert settle(env).models == (Path("a"), Path("b"))
    assert settle({}) == Settings()


def test_a_models_folder_that_is_there_is_used(tmp_path):
    (tmp_path / "models").mkdir()
    assert settle({}).models == (Path("models"),)


def test_the_cache_is_the_users_unless_said_otherwise(tmp_path):
    assert settle({}).cache_dir().parts[-2:] == ("weft", "results")
    assert settle({"WEFT_CACHE_DIR": "x"}).cache_dir() == Path("x")
    assert settle({"WEFT_CACHE_DIR": "none"}).cache_dir() is None
    assert settle({"WEFT_CACHE_DIR": "none"}, cache_dir="y").cache_dir() == Path("y")
    assert settle({}, is_cached=False).cache_dir() is None


def test_extra_model_paths_beside_a_root_are_read_once(tmp_path):
    root = tmp_path / "ui" / "models"
    root.mkdir(parents=True)
    beside = root.parent / "extra_model_paths.yaml"
    beside.write_text("{}")
    assert settle({}, models=[root]).extra_model_paths == (beside.resolve(),)
    assert settle({}, models=[root], extra_model_paths=[beside]).extra_model_paths == (beside,)


def test_nodes_of_the_environment_and_those_asked_for_add_up():
    assert settle({"WEFT_NODES": "a:b"}, nodes=["c", "a"]).nodes == ("a", "b", "c")


def test_nodes_come_from_a_file_beside_the_workflow(tmp_path):
    (tmp_path / "my_own_nodes.py").write_text(
        "from engine.schema import node\n"
        "@node('Mine')\n"
        "def mine(*, x: int = 1) -> int:\n"
        '    """Mine.\n\n    Args:\n        x: It.\n    """\n'
        "    return x\n"
    )
    assert "Mine" in settle({}, nodes=["./my_own_nodes.py"]).catalog()
