"""Nodes that choose how steps are taken, with the options of each sampler."""

from typing import Annotated, Literal

from engine.sampling.values import Sampler
from engine.schema import Range, node
from engine.types import Model

Eta = Annotated[float, Range(0.0, 100.0, step=0.01)]
NoiseAmount = Annotated[float, Range(0.0, 100.0, step=0.01)]
Amount = Annotated[float, Range(0.0, 100.0, step=0.01)]
Device = Literal["gpu", "cpu"]

CATEGORY = "sampling/custom_sampling/samplers"


@node("SamplerEulerAncestral", title="SamplerEulerAncestral", category=CATEGORY)
def euler_ancestral(*, eta: Eta = 1.0, s_noise: NoiseAmount = 1.0) -> Sampler:
    """Euler with fresh noise at each step.

    Args:
        eta: Share of the noise that is renewed; 0 for none.
        s_noise: Strength of the fresh noise.
    """
    return Sampler("euler_ancestral", {"eta": eta, "s_noise": s_noise})


@node("SamplerEulerAncestralCFGPP", title="SamplerEulerAncestralCFG++", category=CATEGORY)
def euler_ancestral_cfg_pp(
    *,
    eta: Annotated[float, Range(0.0, 1.0, step=0.01)] = 1.0,
    s_noise: Annotated[float, Range(0.0, 10.0, step=0.01)] = 1.0,
) -> Sampler:
    """Euler with fresh noise, where the noise that stays is that of the negative answer; for small guidance scales.

    Args:
        eta: Share of the noise that is renewed; 0 for none.
        s_noise: Strength of the fresh noise.
    """
    return Sampler("euler_ancestral_cfg_pp", {"eta": eta, "s_noise": s_noise})


@node("SamplerEulerCFGpp", title="SamplerEulerCFG++", category="_for_testing", experimental=True)
def euler_cfg_pp(*, version: Literal["regular", "alternative"]) -> Sampler:
    """Euler where the noise that stays is that of the negative answer; for small guidance scales.

    Args:
        version: As published, or a stronger one.
    """
    return Sampler("euler_cfg_pp" if version == "regular" else "euler_pushed")


@node("SamplerLMS", title="SamplerLMS", category=CATEGORY)
def lms(*, order: Annotated[int, Range(1, 100)] = 4) -> Sampler:
    """Linear multistep: extrapolates from the steps before.

    Args:
        order: How many steps it looks at.
    """
    return Sampler("lms", {"order": order})


@node("SamplerDPMPP_3M_SDE", title="SamplerDPMPP_3M_SDE", category=CATEGORY)
def dpmpp_3m_sde(*, eta: Eta = 1.0, s_noise: NoiseAmount = 1.0, noise_device: Device) -> Sampler:
    """DPM-Solver++(3M) with fresh noise.

    Args:
        eta: Share of the noise that is renewed; 0 for none.
        s_noise: Strength of the fresh noise.
        noise_device: Where the noise is drawn; that of a GPU is another one.
    """
    return Sampler(_on("dpmpp_3m_sde", noise_device), {"eta": eta, "s_noise": s_noise})


@node("SamplerDPMPP_2M_SDE", title="SamplerDPMPP_2M_SDE", category=CATEGORY)
def dpmpp_2m_sde(
    *, solver_type: Literal["midpoint", "heun"], eta: Eta = 1.0, s_noise: NoiseAmount = 1.0, noise_device: Device
) -> Sampler:
    """DPM-Solver++(2M) with fresh noise.

    Args:
        solver_type: How the second-order term is weighed.
        eta: Share of the noise that is renewed; 0 for none.
        s_noise: Strength of the fresh noise.
        noise_device: Where the noise is drawn; that of a GPU is another one.
    """
    return Sampler(_on("dpmpp_2m_sde", noise_device), {"solver": solver_type, "eta": eta, "s_noise": s_noise})


@node("SamplerDPMPP_SDE", title="SamplerDPMPP_SDE", category=CATEGORY)
def dpmpp_sde(*, eta: Eta = 1.0, s_noise: NoiseAmount = 1.0, r: Amount = 0.5, noise_device: Device) -> Sampler:
    """DPM-Solver++ with fresh noise, and a second look within each step.

    Args:
        eta: Share of the noise that is renewed; 0 for none.
        s_noise: Strength of the fresh noise.
        r: Where in the step to look.
        noise_device: Where the noise is drawn; that of a GPU is another one.
    """
    return Sampler(_on("dpmpp_sde", noise_device), {"eta": eta, "s_noise": s_noise, "r": r})


@node("SamplerDPMPP_2S_Ancestral", title="SamplerDPMPP_2S_Ancestral", category=CATEGORY)
def dpmpp_2s_ancestral(*, eta: Eta = 1.0, s_noise: NoiseAmount = 1.0) -> Sampler:
    """DPM-Solver++(2S) with fresh noise at each step.

    Args:
        eta: Share of the noise that is renewed; 0 for none.
        s_noise: Strength of the fresh noise.
    """
    return Sampler("dpmpp_2s_ancestral", {"eta": eta, "s_noise": s_noise})


@node("SamplerDPMAdaptative", title="SamplerDPMAdaptative", category=CATEGORY)
def dpm_adaptive(
    *,
    order: Annotated[int, Range(2, 3)] = 3,
    rtol: Amount = 0.05,
    atol: Amount = 0.0078,
    h_init: Amount = 0.05,
    pcoeff: Amount = 0.0,
    icoeff: Amount = 1.0,
    dcoeff: Amount = 0.0,
    accept_safety: Amount = 0.81,
    eta: Eta = 0.0,
    s_noise: NoiseAmount = 1.0,
) -> Sampler:
    """DPM-Solver with steps as long as their error allows; of the schedule only the ends count.

    Args:
        order: Of the solver.
        rtol: Tolerated error, as a share of the latent.
        atol: Tolerated error in any case.
        h_init: Length of the first step, in the logarithm of the noise level.
        pcoeff: Weight of the error in the length of the next step.
        icoeff: Weight of the errors so far.
        dcoeff: Weight of the change of the error.
        accept_safety: A step is taken again if the next one would be less than this share of it.
        eta: Share of the noise that is renewed; 0 for none.
        s_noise: Strength of the fresh noise.
    """
    settings = {"pcoeff": pcoeff, "icoeff": icoeff, "dcoeff": dcoeff, "accept_safety": accept_safety}
    tolerance = {"order": order, "rtol": rtol, "atol": atol, "h_init": h_init}
    return Sampler("dpm_adaptive", {**tolerance, **settings, "eta": eta, "s_noise": s_noise})


@node("SamplerER_SDE", title="SamplerER_SDE", category=CATEGORY)
def er_sde(
    *,
    solver_type: Literal["ER-SDE", "Reverse-time SDE", "ODE"],
    max_stage: Annotated[int, Range(1, 3)] = 3,
    eta: Eta = 1.0,
    s_noise: NoiseAmount = 1.0,
) -> Sampler:
    """ER-SDE-Solver: extrapolates from the steps before, with as much fresh noise as its type says.

    Args:
        solver_type: How much noise is fresh: by the paper's function, by a power of the noise level, none.
        max_stage: How many answers it looks at.
        eta: For the reverse-time SDE, that power less 1; 0 is the ODE.
        s_noise: Strength of the fresh noise.
    """
    return Sampler("er_sde", {"solver": solver_type, "order": max_stage, "eta": eta, "s_noise": s_noise})


@node("SamplerSASolver", title="SamplerSASolver", category=CATEGORY)
def sa_solver(
    *,
    model: Model,
    eta: Annotated[float, Range(0.0, 10.0, step=0.01)] = 1.0,
    sde_start_percent: Annotated[float, Range(0.0, 1.0, step=0.001)] = 0.2,
    sde_end_percent: Annotated[float, Range(0.0, 1.0, step=0.001)] = 0.8,
    s_noise: NoiseAmount = 1.0,
    predictor_order: Annotated[int, Range(1, 6)] = 3,
    corrector_order: Annotated[int, Range(0, 6)] = 4,
    use_pece: bool,
    simple_order_2: bool,
) -> Sampler:
    """SA-Solver: predicts from the steps before, corrects with the new answer.

    Args:
        model: What is to be sampled: it knows the noise levels of the percentages.
        eta: How much noise is fresh between them; 0 for none.
        sde_start_percent: Share of the way after which noise is added.
        sde_end_percent: Share of the way after which none is added any more.
        s_noise: Strength of the fresh noise.
        predictor_order: How many answers the prediction uses.
        corrector_order: How many answers the correction uses; 0 for none.
        use_pece: Whether to evaluate what was corrected as well: slower, finer.
        simple_order_2: Whether to weigh two answers by the simpler formula.
    """
    first, last = (model.schedule.percent_to_sigma(percent) for percent in (sde_start_percent, sde_end_percent))
    orders = {"predictor_order": predictor_order, "corrector_order": corrector_order, "simple_order_2": simple_order_2}
    amounts = {"eta": eta, "sde_start": first, "sde_end": last, "s_noise": s_noise}
    return Sampler("sa_solver_pece" if use_pece else "sa_solver", {**amounts, **orders})


@node("SamplerLCMUpscale", category=CATEGORY)
def lcm_upscale(
    *,
    scale_ratio: Annotated[float, Range(0.1, 20.0, step=0.01)] = 1.0,
    scale_steps: Annotated[int, Range(-1, 1000, step=1)] = -1,
    upscale_method: Literal["bislerp", "nearest-exact", "bilinear", "area", "bicubic"],
) -> Sampler:
    """Few-step sampling that makes the latent larger on its way.

    Args:
        scale_ratio: How much larger it becomes.
        scale_steps: How many steps make it larger; -1 for half of them.
        upscale_method: How values between cells are found.
    """
    from engine.media import resized

    return Sampler(
        "lcm_upscaled",
        {
            "ratio": scale_ratio,
            "steps": None if scale_steps < 0 else scale_steps,
            "resized": lambda latent, width, height: resized(latent, width, height, upscale_method),
        },
    )


def _on(name: str, device: str) -> str:
    return f"{name}_gpu" if device == "gpu" else name
