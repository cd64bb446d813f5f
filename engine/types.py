"""The values that travel on links, and what a running node may ask for.

Values are immutable by agreement: no node changes what it was given (`tests/contracts` proves it). Heavy libraries
are named here for type checkers only, so that importing this module costs nothing.

Port types are the field's words: `Image` is `IMAGE` in a workflow, `TextEncoder` is `CLIP`. `PORT_TYPES` holds the
pairs; any other class is named by its attribute `port_type`, or by its own name in upper case.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, NewType, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch
    from torch import Tensor

    from engine.folders import Folders
    from engine.graph import Graph
    from engine.sampling.rules import Rules
else:
    Tensor = object

T = TypeVar("T")

Image = NewType("Image", Tensor)
"""Pictures: [B, H, W, C] float32 in 0..1, C is 1, 3 or 4, on the CPU."""

Mask = NewType("Mask", Tensor)
"""Masks: [B, H, W] float32 in 0..1, on the CPU; 1 marks what may change."""

Sigmas = NewType("Sigmas", Tensor)
"""Noise levels: [N + 1] float32 on the CPU, falling, the last usually 0."""


@dataclass(frozen=True, slots=True)
class Latent:
    """Pictures in the space of a VAE.

    Attributes:
        samples: [B, C, h, w] float32, in the VAE's own scale (the model's scale factor is not applied).
        noise_mask: [B, 1, H, W] or [B, H, W] float32 in 0..1, any size: where sampling may change the latent.
        batch_index: For each sample the place in the noise batch that it takes its noise from.
    """

    samples: Tensor
    noise_mask: Tensor | None = None
    batch_index: tuple[int, ...] | None = None

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by field name, as reference vectors name them."""
        named = {"samples": self.samples}
        if self.noise_mask is not None:
            named["noise_mask"] = self.noise_mask
        return named


@runtime_checkable
class LatentOperation(Protocol):
    """What is done to a latent, after sampling or at every step of it. Immutable, compared by its parameters."""

    def __call__(self, latent: Tensor, /) -> Tensor:
        """[B, C, h, w] or [B, C, F, h, w] to the same shape, on the same device; the argument stays as it is."""


@dataclass(frozen=True, slots=True)
class Svg:
    """Drawings.

    Attributes:
        documents: SVG files in UTF-8, one for each.
    """

    documents: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Audio:
    """Sounds.

    Attributes:
        waveform: [B, C, T] float32 in -1..1, C is 1 or 2, on the CPU.
        sample_rate: Samples a second.
    """

    waveform: Tensor
    sample_rate: int

    def tensors(self) -> dict[str, Tensor]:
        """The samples by field name."""
        return {"waveform": self.waveform}


@dataclass(frozen=True, slots=True)
class Video:
    """A moving picture: pictures in memory, or a file, of which the part that is meant is read when it is needed.

    Attributes:
        images: The pictures; None for a file.
        fps: Pictures a second; a file knows its own.
        audio: The sound beside the pictures.
        bit_depth: Bits of a colour that the pictures are meant for.
        path: The file; its content is part of the key of whoever named it.
        start_s: Where the part of the file begins, in seconds.
        duration_s: How long it is; 0 goes to the end.
    """

    images: Image | None = None
    fps: float = 0.0
    audio: Audio | None = None
    bit_depth: int = 8
    path: Path | None = None
    start_s: float = 0.0
    duration_s: float = 0.0

    def tensors(self) -> dict[str, Tensor]:
        """The tensors in memory by field name."""
        named: dict[str, Tensor] = {} if self.images is None else {"images": self.images}
        return named if self.audio is None else {**named, **self.audio.tensors()}


@dataclass(frozen=True, slots=True)
class Cond:
    """One entry of a conditioning: what one forward pass of the network attends to.

    Attributes:
        tokens: [B, T, D] float32 context for cross-attention.
        pooled: [B, D'] float32 pooled text output, or None.
        options: Everything that limits or extends the entry; the names that sampling knows are
            `strength` (float), `area` ((h, w, y, x) in latent cells or ("percentage", h, w, y, x)),
            `mask` ([B, H, W]), `mask_strength` (float), `set_area_to_bounds` (bool),
            `start_percent`, `end_percent` (float), `controls` (a tuple of what steers the network from beside it), and
            for inpainting models `concat_mask` ([B, H, W]) and `concat_latent` ([B, C, h, w] in the VAE's scale).
            SDXL is told `width`, `height`, `crop_w`, `crop_h`, `target_width`, `target_height` (int, pixels), its
            refiner `aesthetic_score` (float), unCLIP `pictures`: (`ClipVisionOutput`, strength, share of noise) each.
        extra: Further tensors of the family for `Model.denoised`, one row or as many as the latent has; those of four
            dimensions are maps over latent cells.
    """

    tokens: Tensor
    pooled: Tensor | None = None
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    extra: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))

    def with_options(self, **options: Any) -> Cond:
        """This entry with options added or replaced."""
        return replace(self, options=MappingProxyType({**self.options, **options}))

    def with_extra(self, **extra: Tensor) -> Cond:
        """This entry with further tensors added or replaced."""
        return replace(self, extra=MappingProxyType({**self.extra, **extra}))


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What guides sampling: entries whose predictions are averaged by strength and place."""

    entries: tuple[Cond, ...]

    def with_options(self, **options: Any) -> Conditioning:
        """This conditioning with options added to, or replaced in, every entry."""
        return Conditioning(tuple(entry.with_options(**options) for entry in self.entries))

    def tensors(self) -> dict[str, Tensor]:
        """`cond0`, `pooled_output0`, ... for the entries in order."""
        named: dict[str, Tensor] = {}
        for i, entry in enumerate(self.entries):
            named[f"cond{i}"] = entry.tokens
            if entry.pooled is not None:
                named[f"pooled_output{i}"] = entry.pooled
        return named


@dataclass(frozen=True, slots=True)
class LatentFormat:
    """How a model's latent space relates to its VAE's.

    Model space is `(latent - shift) * scale`. An all-zero latent means "nothing" and stays zero.

    Attributes:
        channels: C of a latent.
        scale: Factor, unitless; one for each channel, or one for all.
        shift: Offset, in VAE units; one for each channel, or one for all.
        factor: Pixels of a picture for each latent cell, along one side.
        rgb: [C][3] linear map from model space to RGB in -1..1, for cheap previews; None if unknown.
    """

    channels: int = 4
    scale: float | tuple[float, ...] = 0.18215
    shift: float | tuple[float, ...] = 0.0
    factor: int = 8
    rgb: tuple[tuple[float, float, float], ...] | None = None


@runtime_checkable
class NoiseSchedule(Protocol):
    """The noise levels that a model was trained on, and what its output means."""

    @property
    def sigmas(self) -> Tensor:
        """[T] float32 on the CPU, rising: the trained noise levels."""

    @property
    def sigma_min(self) -> float:
        """The lowest trained noise level."""

    @property
    def sigma_max(self) -> float:
        """The highest trained noise level."""

    @property
    def is_flow(self) -> bool:
        """Whether latents are blends (1 - sigma) * clean + sigma * noise; sums clean + sigma * noise otherwise."""

    def timestep(self, sigma: Tensor) -> Tensor:
        """What the network is told for `sigma`; same shape, float32."""

    def sigma(self, timestep: Tensor) -> Tensor:
        """The noise level at a (fractional) timestep; same shape."""

    def percent_to_sigma(self, percent: float) -> float:
        """The noise level when `percent` (0..1) of sampling is done."""

    def noised(self, noise: Tensor, sigma: Tensor, latent: Tensor, *, max_denoise: bool = False) -> Tensor:
        """`latent` (model space) carried to noise level `sigma` by `noise`."""

    def settled(self, x: Tensor, sigma: float) -> Tensor:
        """What a latent that was sampled down to level `sigma` is handed on as."""

    def denoised(self, output: Tensor, sigma: Tensor, x: Tensor) -> Tensor:
        """The clean latent that the network's `output` stands for."""

    def network_input(self, x: Tensor, sigma: Tensor) -> Tensor:
        """`x` scaled as the network expects it."""


@runtime_checkable
class Model(Protocol):
    """A diffusion network: weights, patches and noise schedule. Immutable; patches make a new value."""

    @property
    def family(self) -> str:
        """Architecture family, such as `sd1`."""

    @property
    def schedule(self) -> NoiseSchedule:
        """The trained noise levels."""

    @property
    def latent_format(self) -> LatentFormat:
        """Scale of the latent space."""

    @property
    def in_channels(self) -> int:
        """C that the network reads; more than the latent's where it is also given a mask and a picture."""

    @property
    def rules(self) -> Rules:
        """What changes guidance."""

    def with_rules(self, rules: Rules) -> Model:
        """This model with rules of guidance after those that it has."""

    def with_schedule(self, schedule: NoiseSchedule, *, latent_format: LatentFormat | None = None) -> Model:
        """This model sampled over other noise levels, with its output read in another way, or latents of another scale."""

    def with_dtype(self, dtype: torch.dtype) -> Model:
        """This model with its weights brought to another number format, to compute in that."""

    @property
    def device(self) -> torch.device:
        """Where the network computes."""

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""

    def prepared(self, entry: Cond, *, height: int, width: int, is_negative: bool, seed: int = 0) -> Cond:
        """`entry` with what the network reads beside its tokens, for a latent of `height` x `width` cells."""

    def denoised(
        self,
        x: Tensor,
        sigma: Tensor,
        context: Tensor,
        *,
        extra: Mapping[str, Tensor],
        controls: tuple[Any, ...] = (),
        hooks: tuple[Any, ...] = (),
    ) -> Tensor:
        """Predict the clean latent for R rows in one forward pass.

        Args:
            x: [R, C, h, w] float32 noisy latents in model space.
            sigma: [R] noise level of each row.
            context: [R, T, D] cross-attention context.
            extra: Further per-row tensors of the family (`pooled`, ...).
            controls: What steers the network from beside it (ControlNets, T2I-adapters), see `Cond.options`.
            hooks: Changes to the network for this pass alone, after those of the model.

        Returns:
            [R, C, h, w] float32.
        """


@runtime_checkable
class TextEncoder(Protocol):
    """Prompt text to conditioning. Immutable; clip skip and LoRA make a new value."""

    @property
    def family(self) -> str:
        """Architecture family of the model that it came with."""

    def encode(
        self, text: str | Mapping[str, str], *, find_embedding: Callable[[str], Path | None] | None = None
    ) -> Conditioning:
        """Encode a prompt with the field's weight syntax.

        Args:
            text: The prompt; `(words:1.2)` weighs, `embedding:name` inserts a textual inversion. Or the prompts of the
                parts that an encoder has (`clip_l`, `clip_g`) by name.
            find_embedding: Name of an embedding to its file; None where there is none.
        """

    def with_clip_skip(self, layer: int) -> TextEncoder:
        """This encoder stopped at hidden layer `layer` (-1 is the last)."""


@runtime_checkable
class Vae(Protocol):
    """Pictures to latents and back."""

    @property
    def latent_channels(self) -> int:
        """C of its latents."""

    @property
    def factor(self) -> int:
        """Pixels for each latent cell, along one side."""

    def encode(self, image: Image) -> Tensor:
        """[B, H, W, C>=3] pictures to [B, C, h, w] float32 latents (mean of the posterior)."""

    def decode(self, samples: Tensor) -> Image:
        """[B, C, h, w] latents to [B, H, W, 3] float32 pictures in 0..1."""

    def encode_tiled(self, image: Image, *, tile_px: int, overlap_px: int) -> Tensor:
        """As `encode`, in overlapping tiles of `tile_px` pixels a side, which need less memory."""

    def decode_tiled(self, samples: Tensor, *, tile: int, overlap: int) -> Image:
        """As `decode`, in overlapping tiles of `tile` latent cells a side, which need less memory."""


@runtime_checkable
class Upscaler(Protocol):
    """A network that enlarges pictures, or clears them up."""

    @property
    def scale(self) -> int:
        """Pixels of the result for each pixel, along one side."""

    def upscale(self, image: Image, progress: Callable[[float, float], None] | None = None) -> Image:
        """[B, H, W, C] to [B, H * scale, W * scale, 3]; `progress` is told how many tiles of how many are done."""


@dataclass(frozen=True, slots=True)
class ClipVisionOutput:
    """What a vision transformer says of pictures.

    Attributes:
        states: [B, T, D] hidden states of the last layer, without the final norm; the first token stands for the picture.
        penultimate: [B, T, D] those of the layer before.
        embeds: [B, D'] the picture as a whole, in the space of CLIP's texts.
    """

    states: Tensor
    penultimate: Tensor
    embeds: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by the names that others know them by."""
        return {
            "last_hidden_state": self.states,
            "penultimate_hidden_states": self.penultimate,
            "image_embeds": self.embeds,
        }


@runtime_checkable
class ClipVision(Protocol):
    """Describes pictures."""

    def encode(self, image: Image, *, is_cropped: bool = True) -> ClipVisionOutput:
        """Describe [B, H, W, C >= 3] pictures: the square in their middle, or the whole squeezed into a square."""


@runtime_checkable
class StyleModel(Protocol):
    """Turns descriptions of pictures into words of a prompt."""

    def tokens(self, picture: ClipVisionOutput) -> Tensor:
        """What the prompt gains: [B, V, D] float32 on the CPU."""


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file that a node wrote.

    Attributes:
        path: Where it is.
        filename: Its name.
        subfolder: Folder below the root, `/`-separated, possibly empty.
        type: Which root: `output`, `temp` or `input`.
    """

    path: Path
    filename: str
    subfolder: str
    type: str

    def json(self) -> dict[str, str]:
        """The record that clients expect in `ui.images`."""
        return {"filename": self.filename, "subfolder": self.subfolder, "type": self.type}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a node shows to people: files, text. Its keys are those of ComfyUI's `ui` results.

    Attributes:
        entries: `images` to `SavedFile`s, `text` to strings, and so on.
    """

    entries: Mapping[str, tuple[Any, ...]]

    @property
    def files(self) -> tuple[SavedFile, ...]:
        """Every file among the entries."""
        return tuple(e for entries in self.entries.values() for e in entries if isinstance(e, SavedFile))

    def json(self) -> dict[str, list[Any]]:
        """The entries as JSON values."""
        return {k: [e.json() if isinstance(e, SavedFile) else e for e in v] for k, v in self.entries.items()}


@dataclass(frozen=True, slots=True)
class Blocked:
    """A value that stops whatever would be computed from it, while the rest of the run goes on.

    A call with such an input is not made; its outputs are blocked in turn. Of a list, only the elements that are blocked.

    Attributes:
        message: What the first node that it stops tells people; None tells nothing.
    """

    message: str | None = None


@dataclass(frozen=True, slots=True)
class Expansion:
    """What a node returns to become a subgraph while running.

    Attributes:
        graph: The subgraph. Its inputs may hold links inside it, links to nodes around it, plain values, and any value
            that the node was given, which keeps its identity.
        outputs: For each output of the node a `Link` into the subgraph, or a value.
        shown: What the node itself shows.
    """

    graph: Graph
    outputs: tuple[Any, ...] = ()
    shown: Shown | None = None


class Lazy(Generic[T]):
    """An input that is computed only if the node asks for it: call it to get the value.

    The first call of an input that is not there yet ends the node; the engine computes the input and calls the node
    again. A node therefore asks for lazy inputs before it does anything costly.
    """

    __slots__ = ("_resolve", "is_known")

    def __init__(self, resolve: Callable[[], T], *, is_known: bool = True) -> None:
        self._resolve = resolve
        self.is_known = is_known

    def __call__(self) -> T:
        """The value."""
        return self._resolve()


@runtime_checkable
class Run(Protocol):
    """What a running node may ask of the engine. A parameter of this type is not a port."""

    @property
    def node(self) -> str:
        """Id of the node that runs."""

    @property
    def folders(self) -> Folders:
        """Where models, inputs and outputs are."""

    @property
    def device(self) -> str:
        """The device asked for, such as `cpu`, `cuda:0` or `auto`."""

    @property
    def dtype(self) -> str:
        """The number format asked for: `auto`, `float32`, `float16` or `bfloat16`."""

    @property
    def documents(self) -> Mapping[str, Any]:
        """What saved files carry: `prompt` (API format) and, where there is one, `workflow`."""

    def progress(self, done: float, total: float, preview: Callable[[], Any] | None = None) -> None:
        """Report progress; `preview` is called only if somebody watches.

        Raises:
            RunCancelled: if the run was cancelled.
        """

    def check(self) -> None:
        """Raise `RunCancelled` if the run was cancelled."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the header of a file says of the values that are made from it.

    Attributes:
        title: What the file is, in words with an article.
        values: Fact to value, such as `context` to the width of the words that a network attends to.
    """

    title: str
    values: Mapping[str, Any]


CARRIED: Mapping[str, frozenset[str]] = {
    "MODEL": frozenset({"family", "context", "latent_channels"}),
    "CONTROL_NET": frozenset({"family", "context"}),
    "CLIP": frozenset({"context"}),
    "CONDITIONING": frozenset({"context"}),
    "VAE": frozenset({"latent_channels"}),
    "LATENT": frozenset({"latent_channels"}),
}
"""Port type to the facts that follow its links, see `engine.alike`."""

PORT_TYPES: dict[Any, str] = {
    Image: "IMAGE",
    Mask: "MASK",
    Sigmas: "SIGMAS",
    Latent: "LATENT",
    LatentOperation: "LATENT_OPERATION",
    Conditioning: "CONDITIONING",
    Model: "MODEL",
    TextEncoder: "CLIP",
    Vae: "VAE",
    ClipVision: "CLIP_VISION",
    ClipVisionOutput: "CLIP_VISION_OUTPUT",
    StyleModel: "STYLE_MODEL",
    Upscaler: "UPSCALE_MODEL",
    int: "INT",
    float: "FLOAT",
    str: "STRING",
    bool: "BOOLEAN",
    Any: "*",
}
"""Python type to the name of the port type in workflows."""
