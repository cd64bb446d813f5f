"""Weft from Python."""

from engine import Engine, Graph, Link, NodeFailed, WorkflowInvalid, load


def run_a_file() -> None:
    """A workflow file, edited on the way."""
    with Engine(output_dir="output") as engine:
        result = engine.run("workflows/portrait.json")
        print(result.files[0])

        again = engine.run("workflows/portrait.json", overrides={"Prompt.text": "portrait of a man with a beard"})
        print(again.report.ran)


def look_inside() -> None:
    """Any node's outputs, and what each node did."""
    with Engine() as engine:
        result = engine.run("workflows/portrait.json", targets=["Sampler", "Decode"])
        latent = result.value("Sampler")
        assert latent.samples.shape == (1, 4, 16, 16)
        assert result.value("Decode", "IMAGE").shape == (1, 128, 128, 3)
        assert result.port("Sampler").tensors()["samples"] is latent.samples
        for entry in result.report:
            print(f"{entry.title:16} {entry.state:4} {entry.because:10} {entry.seconds:.2f} s")


def build_a_graph() -> None:
    """A graph made in Python; links name outputs by name or index."""
    graph = (
        Graph()
        .add("model", "CheckpointLoaderSimple", ckpt_name="portrait.safetensors")
        .add("yes", "CLIPTextEncode", clip=Link("model", "CLIP"), text="portrait of a woman, green background")
        .add("no", "CLIPTextEncode", clip=Link("model", "CLIP"), text="blurry")
        .add("canvas", "EmptyLatentImage", width=128, height=128)
        .add("sample", "KSampler", model=Link("model"), positive=Link("yes"), negative=Link("no"),
             latent_image=Link("canvas"), seed=5, steps=20, cfg=7.0, sampler_name="euler", scheduler="normal")
        .add("picture", "VAEDecode", samples=Link("sample"), vae=Link("model", "VAE"))
    )  # fmt: skip
    with Engine() as engine:
        for seed in range(3):
            picture = engine.run(graph.set("sample", seed=seed), ["picture"]).value("picture")
            assert picture.shape == (1, 128, 128, 3)


def when_it_goes_wrong() -> None:
    """Problems come all at once, before anything runs; a node that fails names itself."""
    with Engine() as engine:
        graph = load("workflows/portrait.json")
        broken = graph.set(graph.find("Sampler"), steps=0, sampler_name="oiler")
        try:
            engine.run(broken)
        except WorkflowInvalid as error:
            for problem in error.problems:
                print(problem.code, problem.port, problem.hint)
        except NodeFailed as error:
            print(error.node, error.cause)


def decide_and_do() -> None:
    """What a run would do, and why, without doing it."""
    with Engine() as engine:
        engine.run("workflows/portrait.json")
        plan = engine.explain("workflows/portrait.json", overrides={"Sampler.seed": 7})
        assert [(step.node.title, step.reason.value) for step in plan.steps] == [
            ("Sampler", "changed"),
            ("Decode", "changed"),
            ("Save", "effect"),
        ]
        assert plan.steps[0].because == "changed: seed"


if __name__ == "__main__":
    run_a_file()
    look_inside()
    build_a_graph()
    when_it_goes_wrong()
    decide_and_do()
