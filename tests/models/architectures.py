"""Names and shapes of original single-file checkpoints, generated from sizes as the original code builds its blocks."""

from __future__ import annotations

Shapes = dict[str, list[int]]


def sd1(
    *,
    channels: tuple[int, ...] = (320, 640, 1280, 1280),
    layers: int = 2,
    attention: tuple[int, ...] = (0, 1, 2),
    context: int = 768,
    in_channels: int = 4,
    vae_channels: tuple[int, ...] = (128, 256, 512, 512),
    vae_layers: int = 2,
    text_layers: int = 12,
) -> Shapes:
    """A checkpoint of Stable Diffusion 1; the defaults are the published ones."""
    parts = {
        "model.diffusion_model.": unet(channels, layers, attention, context, in_channels),
        "first_stage_model.": vae(vae_channels, vae_layers),
        "cond_stage_model.transformer.text_model.": text(context, text_layers),
    }
    return {prefix + name: shape for prefix, part in parts.items() for name, shape in part.items()}


def sd2(*, in_channels: int = 4) -> Shapes:
    """A checkpoint of Stable Diffusion 2 as published."""
    parts = {
        "model.diffusion_model.": unet((320, 640, 1280, 1280), 2, (0, 1, 2), 1024, in_channels, linear=True),
        "first_stage_model.": vae((128, 256, 512, 512), 2),
        "cond_stage_model.model.": open_clip(1024, 24),
    }
    return {prefix + name: shape for prefix, part in parts.items() for name, shape in part.items()}


def sdxl() -> Shapes:
    """A checkpoint of SDXL as published."""
    parts = {
        "model.diffusion_model.": unet((320, 640, 1280), 2, (1, 2), 2048, 4, linear=True, depths=(0, 2, 10), vector=2816),
        "first_stage_model.": vae((128, 256, 512, 512), 2),
        "conditioner.embedders.0.transformer.text_model.": text(768, 12),
        "conditioner.embedders.1.model.": open_clip(1280, 32),
    }
    return {prefix + name: shape for prefix, part in parts.items() for name, shape in part.items()}


def sdxl_refiner() -> Shapes:
    """A checkpoint of SDXL's refiner as published."""
    network = unet((384, 768, 1536, 1536), 2, (1, 2), 1280, 4, linear=True, depths=(0, 4, 4, 0), vector=2560, mid=4)
    parts = {
        "model.diffusion_model.": network,
        "first_stage_model.": vae((128, 256, 512, 512), 2),
        "conditioner.embedders.0.model.": open_clip(1280, 32),
    }
    return {prefix + name: shape for prefix, part in parts.items() for name, shape in part.items()}


def _affine(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": list(shape), f"{name}.bias": [shape[0]]}


def _resnet(name: str, given: int, made: int, time: int) -> Shapes:
    shapes = {
        **_affine(f"{name}.in_layers.0", given),
        **_affine(f"{name}.in_layers.2", made, given, 3, 3),
        **_affine(f"{name}.emb_layers.1", made, time),
        **_affine(f"{name}.out_layers.0", made),
        **_affine(f"{name}.out_layers.3", made, made, 3, 3),
    }
    return shapes | (_affine(f"{name}.skip_connection", made, given, 1, 1) if given != made else {})


def _transformer(name: str, width: int, context: int, depth: int = 1, *, linear: bool = False) -> Shapes:
    ends = [width, width] if linear else [width, width, 1, 1]
    shapes = _affine(f"{name}.norm", width) | _affine(f"{name}.proj_in", *ends) | _affine(f"{name}.proj_out", *ends)
    for n in range(depth):
        shapes |= _block(f"{name}.transformer_blocks.{n}", width, context)
    return shapes


def _block(block: str, width: int, context: int) -> Shapes:
    shapes = _affine(f"{block}.ff.net.0.proj", width * 8, width) | _affine(f"{block}.ff.net.2", width, width * 4)
    for attention, source in (("attn1", width), ("attn2", context)):
        shapes[f"{block}.{attention}.to_q.weight"] = [width, width]
        shapes[f"{block}.{attention}.to_k.weight"] = [width, source]
        shapes[f"{block}.{attention}.to_v.weight"] = [width, source]
        shapes |= _affine(f"{block}.{attention}.to_out.0", width, width)
    for norm in ("norm1", "norm2", "norm3"):
        shapes |= _affine(f"{block}.{norm}", width)
    return shapes


def unet(
    channels: tuple[int, ...],
    layers: int,
    attention: tuple[int, ...],
    context: int,
    in_channels: int,
    *,
    linear: bool = False,
    depths: tuple[int, ...] = (),
    vector: int = 0,
    mid: int = 0,
) -> Shapes:
    time = channels[0] * 4
    depths = depths or (1,) * len(channels)
    shapes = _affine("label_emb.0.0", time, vector) | _affine("label_emb.0.2", time, time) if vector else {}
    shapes |= _affine("time_embed.0", time, channels[0]) | _affine("time_embed.2", time, time)
    shapes |= _affine("input_blocks.0.0", channels[0], in_channels, 3, 3)
    skips, width, n = [channels[0]], channels[0], 0
    for level, wide in enumerate(channels):
        for _ in range(layers):
            n += 1
            shapes |= _resnet(f"input_blocks.{n}.0", width, wide, time)
            width = wide
            if level in attention:
                shapes |= _transformer(f"input_blocks.{n}.1", width, context, depths[level], linear=linear)
            skips.append(width)
        if level < len(channels) - 1:
            n += 1
            shapes |= _affine(f"input_blocks.{n}.0.op", width, width, 3, 3)
            skips.append(width)
    shapes |= _resnet("middle_block.0", width, width, time)
    shapes |= _transformer("middle_block.1", width, context, mid or depths[-1], linear=linear)
    shapes |= _resnet("middle_block.2", width, width, time)
    n = -1
    for level, wide in reversed(list(enumerate(channels))):
        for layer in range(layers + 1):
            n += 1
            shapes |= _resnet(f"output_blocks.{n}.0", width + skips.pop(), wide, time)
            width = wide
            if level in attention:
                shapes |= _transformer(f"output_blocks.{n}.1", width, context, depths[level], linear=linear)
            if level > 0 and layer == layers:
                shapes |= _affine(f"output_blocks.{n}.{2 if level in attention else 1}.conv", width, width, 3, 3)
    return shapes | _affine("out.0", width) | _affine("out.2", 4, width, 3, 3)


def _vae_resnet(name: str, given: int, made: int) -> Shapes:
    shapes = {
        **_affine(f"{name}.norm1", given),
        **_affine(f"{name}.conv1", made, given, 3, 3),
        **_affine(f"{name}.norm2", made),
        **_affine(f"{name}.conv2", made, made, 3, 3),
    }
    return shapes | (_affine(f"{name}.nin_shortcut", made, given, 1, 1) if given != made else {})


def _vae_mid(side: str, width: int) -> Shapes:
    shapes = _vae_resnet(f"{side}.mid.block_1", width, width) | _vae_resnet(f"{side}.mid.block_2", width, width)
    shapes |= _affine(f"{side}.mid.attn_1.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        shapes |= _affine(f"{side}.mid.attn_1.{part}", width, width, 1, 1)
    return shapes


def vae(channels: tuple[int, ...], layers: int, latent: int = 4) -> Shapes:
    top = channels[-1]
    shapes = _affine("encoder.conv_in", channels[0], 3, 3, 3) | _affine("decoder.conv_in", top, latent, 3, 3)
    width = channels[0]
    for level, wide in enumerate(channels):
        for layer in range(layers):
            shapes |= _vae_resnet(f"encoder.down.{level}.block.{layer}", width, wide)
            width = wide
        if level < len(channels) - 1:
            shapes |= _affine(f"encoder.down.{level}.downsample.conv", width, width, 3, 3)
    shapes |= _vae_mid("encoder", top) | _vae_mid("decoder", top)
    for level, wide in reversed(list(enumerate(channels))):
        for layer in range(layers + 1):
            shapes |= _vae_resnet(f"decoder.up.{level}.block.{layer}", width, wide)
            width = wide
        if level > 0:
            shapes |= _affine(f"decoder.up.{level}.upsample.conv", width, width, 3, 3)
    return {
        **shapes,
        **_affine("encoder.norm_out", top),
        **_affine("encoder.conv_out", 2 * latent, top, 3, 3),
        **_affine("decoder.norm_out", channels[0]),
        **_affine("decoder.conv_out", 3, channels[0], 3, 3),
        **_affine("quant_conv", 2 * latent, 2 * latent, 1, 1),
        **_affine("post_quant_conv", latent, latent, 1, 1),
    }


def text(width: int, layers: int) -> Shapes:
    shapes = {"embeddings.token_embedding.weight": [49408, width], "embeddings.position_embedding.weight": [77, width]}
    for n in range(layers):
        layer = f"encoder.layers.{n}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _affine(f"{layer}.self_attn.{part}", width, width)
        shapes |= _affine(f"{layer}.layer_norm1", width) | _affine(f"{layer}.layer_norm2", width)
        shapes |= _affine(f"{layer}.mlp.fc1", width * 4, width) | _affine(f"{layer}.mlp.fc2", width, width * 4)
    return shapes | _affine("final_layer_norm", width)


def open_clip(width: int, layers: int) -> Shapes:
    """A text transformer in the layout of OpenCLIP."""
    shapes = {
        "positional_embedding": [77, width],
        "text_projection": [width, width],
        "logit_scale": [],
        "token_embedding.weight": [49408, width],
    }
    for n in range(layers):
        block = f"transformer.resblocks.{n}"
        shapes |= _affine(f"{block}.ln_1", width) | _affine(f"{block}.ln_2", width)
        shapes |= {f"{block}.attn.in_proj_weight": [width * 3, width], f"{block}.attn.in_proj_bias": [width * 3]}
        shapes |= _affine(f"{block}.attn.out_proj", width, width)
        shapes |= _affine(f"{block}.mlp.c_fc", width * 4, width) | _affine(f"{block}.mlp.c_proj", width, width * 4)
    return shapes | _affine("ln_final", width)
