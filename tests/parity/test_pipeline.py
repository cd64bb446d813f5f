"""The second reference: diffusers' own pipeline on a small model, saved as its folder and loaded by ours."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file

from engine import Engine
from engine.sampling.noise import initial_noise
from engine.sampling.schedule import DiscreteSchedule
from engine.sampling.schedulers import sigmas
from tests.parity.reference import ROOT, relative_error

if TYPE_CHECKING:
    from pathlib import Path

PROMPT, NEGATIVE, SEED, CFG, STEPS = "a portrait of a woman with red hair", "blurry", 7, 7.5, 6
SIZE_PX = 64
NOISE = initial_noise((1, 4, SIZE_PX // 8, SIZE_PX // 8), SEED)

TRAINED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}


@pytest.fixture(scope="module")
def pipeline():
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=1,
        projection_dim=64,
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=49407,
    )
    clip = ROOT / "engine" / "assets" / "clip"
    return StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(32, 32, 64, 64),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            latent_channels=4,
            sample_size=SIZE_PX,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer(str(clip / "vocab.json"), str(clip / "merges.txt"), model_max_length=77),
        unet=UNet2DConditionModel(
            sample_size=SIZE_PX // 8,
            block_out_channels=(32, 64),
            layers_per_block=1,
            cross_attention_dim=64,
            attention_head_dim=8,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ),
        scheduler=EulerDiscreteScheduler(**TRAINED, timestep_spacing="leading", steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.fixture(scope="module")
def folder(pipeline, tmp_path_factory) -> Path:
    models = tmp_path_factory.mktemp("models")
    pipeline.save_pretrained(models / "diffusers" / "tiny")
    return models


def ours(models: Path, sampler: str, scheduler: str, steps: int, changes: dict | None = None) -> torch.Tensor:
    """The picture [1, H, W, 3] of the same prompt as a workflow.

    Args:
        models: The folder of models.
        sampler: Its name.
        scheduler: Its name.
        steps: Number of steps.
        changes: Further nodes, and under the id of the sampler its inputs that are others.
    """
    prompt = {
        "1": {"class_type": "DiffusersLoader", "inputs": {"model_path": "tiny"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": PROMPT, "clip": ["1", 1]}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": NEGATIVE, "clip": ["1", 1]}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": SIZE_PX, "height": SIZE_PX, "batch_size": 1}},
        "5": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["1", 0],
                "positive": ["2", 0],
                "negative": ["3", 0],
                "latent_image": ["4", 0],
                "seed": SEED,
                "steps": steps,
                "cfg": CFG,
                "sampler_name": sampler,
                "scheduler": scheduler,
                "denoise": 1.0,
            },
        },
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
    }
    for node, change in (changes or {}).items():
        if node in prompt:
            prompt[node]["inputs"] |= change
        else:
            prompt[node] = change
    with Engine(models_dir=models, input_dir=models, device="cpu", dtype="float32") as engine:
        picture: torch.Tensor = engine.run(prompt, targets=["6"]).value("6")
        return picture


def theirs(pipeline, start: torch.Tensor, **settings) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    result = pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        height=SIZE_PX,
        width=SIZE_PX,
        guidance_scale=CFG,
        latents=start,
        output_type="np",
        **settings,
    )
    return torch.from_numpy(result.images)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside diffusers
def test_euler_draws_the_picture_of_the_pipeline(pipeline, folder):
    """Both walk the same trained levels, from pure noise."""
    levels = sigmas(DiscreteSchedule.scaled_linear(), "simple", STEPS)

    expected = theirs(pipeline, NOISE, sigmas=levels.tolist())

    assert relative_error(ours(folder, "euler", "simple", STEPS), expected) < 1e-4


def test_ddim_draws_the_picture_of_the_pipeline(pipeline, folder):
    """DDIM without noise is Euler in terms of sigma; its start is less noisy than pure noise, hence the scale."""
    from diffusers import DDIMScheduler

    pipeline.scheduler = DDIMScheduler(
        **TRAINED, clip_sample=False, set_alpha_to_one=True, timestep_spacing="leading", steps_offset=1
    )
    steps = 5  # divides the 1000 trained levels: both take every 200th, from the second
    levels = sigmas(DiscreteSchedule.scaled_linear(), "ddim_uniform", steps)
    assert len(levels) == steps + 1
    first = float(levels[0])

    expected = theirs(pipeline, NOISE * first / (1 + first**2) ** 0.5, num_inference_steps=steps)

    assert relative_error(ours(folder, "ddim", "ddim_uniform", steps), expected) < 1e-4


def of_pipeline(kind, pipeline, **parts):
    """Another pipeline of diffusers over the same networks."""
    quiet = {"requires_safety_checker": False} if "requires_safety_checker" in inspect.signature(kind).parameters else {}
    return kind(**{**pipeline.components, **parts}, **quiet)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_controlnet_steers_as_in_the_pipeline(pipeline, folder):
    from diffusers import ControlNetModel, EulerDiscreteScheduler, StableDiffusionControlNetPipeline
    from PIL import Image

    torch.manual_seed(1)
    net = ControlNetModel.from_unet(pipeline.unet, conditioning_embedding_out_channels=(4, 8, 8, 16))
    for part in (net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out):
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    (folder / "controlnet").mkdir()
    save_file(net.state_dict(), folder / "controlnet" / "tiny.safetensors")
    noise = torch.randint(0, 256, (SIZE_PX, SIZE_PX, 3), dtype=torch.uint8)
    Image.fromarray(noise.numpy()).save(folder / "hint.png")
    levels = sigmas(DiscreteSchedule.scaled_linear(), "simple", STEPS)
    scheduler = EulerDiscreteScheduler(**TRAINED, timestep_spacing="leading", steps_offset=1)
    steered = of_pipeline(StableDiffusionControlNetPipeline, pipeline, controlnet=net.eval(), scheduler=scheduler)
    hint = noise.movedim(-1, 0)[None] / 255

    expected = theirs(steered, NOISE, sigmas=levels.tolist(), image=hint, controlnet_conditioning_scale=0.7)

    changes = {
        "7": {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "tiny.safetensors"}},
        "8": {"class_type": "LoadImage", "inputs": {"image": "hint.png"}},
        "9": {
            "class_type": "ControlNetApplyAdvanced",
            "inputs": {
                "positive": ["2", 0],
                "negative": ["3", 0],
                "control_net": ["7", 0],
                "image": ["8", 0],
                "strength": 0.7,
                "start_percent": 0.0,
                "end_percent": 1.0,
            },
        },
        "5": {"positive": ["9", 0], "negative": ["9", 1]},
    }
    got = ours(folder, "euler", "simple", STEPS, changes)
    assert relative_error(got, expected) < 1e-4
    assert relative_error(ours(folder, "euler", "simple", STEPS), expected) > 1e-2


def ddim(pipeline, steps: int) -> torch.Tensor:
    """Give `pipeline` a DDIM scheduler; what it starts from."""
    from diffusers import DDIMScheduler

    pipeline.scheduler = DDIMScheduler(
        **TRAINED, clip_sample=False, set_alpha_to_one=True, timestep_spacing="leading", steps_offset=1
    )
    first = float(sigmas(DiscreteSchedule.scaled_linear(), "ddim_uniform", steps)[0])
    return NOISE * first / (1 + first**2) ** 0.5


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_self_attention_guides_as_in_the_pipeline(pipeline, folder):
    from diffusers import StableDiffusionSAGPipeline

    steps = 5
    guided = of_pipeline(StableDiffusionSAGPipeline, pipeline)
    start = ddim(guided, steps)

    expected = theirs(guided, start, num_inference_steps=steps, sag_scale=0.75)

    node = {"class_type": "SelfAttentionGuidance", "inputs": {"model": ["1", 0], "scale": 0.75, "blur_sigma": 1.0}}
    got = ours(folder, "ddim", "ddim_uniform", steps, {"7": node, "5": {"model": ["7", 0]}})
    assert relative_error(got, expected) < 1e-4
    assert relative_error(ours(folder, "ddim", "ddim_uniform", steps), expected) > 1e-3


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_perturbed_attention_guides_as_in_the_pipeline(pipeline, folder):
    from diffusers import StableDiffusionPAGPipeline

    steps = 5
    guided = of_pipeline(StableDiffusionPAGPipeline, pipeline, pag_applied_layers="mid")
    start = ddim(guided, steps)

    expected = theirs(guided, start, num_inference_steps=steps, pag_scale=2.0)

    node = {"class_type": "PerturbedAttentionGuidance", "inputs": {"model": ["1", 0], "scale": 2.0}}
    got = ours(folder, "ddim", "ddim_uniform", steps, {"7": node, "5": {"model": ["7", 0]}})
    assert relative_error(got, expected) < 1e-4
    assert relative_error(ours(folder, "ddim", "ddim_uniform", steps), expected) > 1e-3
