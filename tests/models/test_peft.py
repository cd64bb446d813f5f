"""What the library peft trains and saves, it and Weft merge alike. Runs where peft is installed."""

from __future__ import annotations

import pytest
import torch
from reference import relative_error
from safetensors.torch import save_file

from engine.models import apply_lora

peft = pytest.importorskip("peft")

TARGETS = ["to_q", "to_v", "ff.net.2", "conv1"]
CONFIGS = {
    "LoRA": lambda: peft.LoraConfig(r=4, lora_alpha=4, target_modules=TARGETS),
    "DoRA": lambda: peft.LoraConfig(r=4, lora_alpha=4, target_modules=TARGETS, use_dora=True),
    "LoHa": lambda: peft.LoHaConfig(r=4, alpha=4, target_modules=TARGETS),
    "LoHa with cores": lambda: peft.LoHaConfig(r=4, alpha=4, target_modules=TARGETS, use_effective_conv2d=True),
    "LoKr": lambda: peft.LoKrConfig(r=2, alpha=2, target_modules=TARGETS),
    "LoKr in factors": lambda: peft.LoKrConfig(r=2, alpha=2, target_modules=TARGETS, decompose_both=True),
    "LoKr with a core": lambda: peft.LoKrConfig(r=2, alpha=2, target_modules=TARGETS, use_effective_conv2d=True),
}
"""Alpha is the rank: peft keeps it in a file of its own."""


@pytest.fixture
def unet(tiny):
    """The network with weights of its own."""
    from diffusers import UNet2DConditionModel

    with torch.inference_mode(mode=False):
        module = UNet2DConditionModel.from_config(tiny.model.network.config)
        module.load_state_dict({name: tensor.clone() for name, tensor in tiny.model.weights.tensors.items()})
    return module


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_trained_adapter_gives_the_same_weights(kind, tiny, unet, tmp_path):
    with torch.inference_mode(mode=False), torch.no_grad():
        torch.manual_seed(1)
        trained = peft.get_peft_model(unet, CONFIGS[kind]())
        for parameter in trained.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        tensors = {name: tensor.clone().contiguous() for name, tensor in peft.get_peft_model_state_dict(trained).items()}
        merged = trained.merge_and_unload().state_dict()
    save_file(tensors, tmp_path / "x.safetensors")

    model, _ = apply_lora(tiny.model, None, tmp_path / "x.safetensors")

    ours = model.network.state_dict()
    changed = {name for name, tensor in ours.items() if not torch.equal(tensor, tiny.model.weights.tensors[name])}
    assert len(changed) == len([name for name in ours if name.endswith(tuple(f"{target}.weight" for target in TARGETS))])
    assert max(relative_error(ours[name], merged[name]) for name in ours) < 1e-5
