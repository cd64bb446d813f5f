"""`comfy_api.latest.io`: nodes that declare themselves by a schema instead of class attributes.

    class Brighten(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return io.Schema("Brighten", inputs=[io.Image.Input("image")], outputs=[io.Image.Output()])

        @classmethod
        def execute(cls, image):
            return io.NodeOutput(image * 2)

`engine.packs.schemas` turns such a class into one of the class protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable


class Hidden(Enum):
    """What a node may be told beside inputs."""

    prompt = "PROMPT"
    unique_id = "UNIQUE_ID"
    extra_pnginfo = "EXTRA_PNGINFO"
    dynprompt = "DYNPROMPT"
    auth_token_comfy_org = "AUTH_TOKEN_COMFY_ORG"  # noqa: S105 - a name
    api_key_comfy_org = "API_KEY_COMFY_ORG"


class NumberDisplay(Enum):
    """How editors show a number."""

    number = "number"
    slider = "slider"


class FolderType(Enum):
    """Folders of files."""

    input = "input"
    output = "output"
    temp = "temp"


class UploadType(Enum):
    """What editors offer to upload."""

    image = "image_upload"
    audio = "audio_upload"
    video = "video_upload"
    model = "file_upload"


class Input:
    """An input.

    Args:
        id: Its name.
        display_name: What people read.
        optional: May be left out.
        tooltip: One or two sentences.
        lazy: Computed on demand.
        options: Everything else, by the protocol's names.
    """

    io_type: ClassVar[str] = "*"

    def __init__(
        self,
        id: str,  # noqa: A002 - packs call it so
        display_name: str | None = None,
        optional: bool = False,  # noqa: FBT001, FBT002 - packs call it so
        tooltip: str | None = None,
        lazy: bool | None = None,  # noqa: FBT001 - the same
        **options: Any,
    ) -> None:
        self.id = id
        self.type = self.io_type
        self.optional = optional
        named = {"display_name": display_name, "tooltip": tooltip, "lazy": lazy, **options}
        self.options = {name: value for name, value in named.items() if value is not None}


class ComboInput(Input):
    """An input with choices: values, or the members of an enumeration."""

    io_type = "COMBO"

    def __init__(self, id: str, options: Iterable[Any] | None = None, *more: Any, **named: Any) -> None:  # noqa: A002 - packs call it so
        super().__init__(id, *more, **named)
        if options is not None:
            self.options["options"] = [o.value if isinstance(o, Enum) else o for o in options]


class MultiInput(Input):
    """An input that takes one of several types; `id` may be an input whose widget it has."""

    def __init__(self, id: str | Input, types: Iterable[Any], *more: Any, **named: Any) -> None:  # noqa: A002 - packs call it so
        inner = id if isinstance(id, Input) else None
        super().__init__(inner.id if inner is not None else str(id), *more, **named)
        names = [*([inner.type] if inner is not None else []), *(getattr(t, "io_type", str(t)) for t in types)]
        self.type = ",".join(dict.fromkeys(names))
        if inner is not None:
            self.options = {**inner.options, **self.options}
            self.optional = self.optional or inner.optional


class Output:
    """An output."""

    io_type: ClassVar[str] = "*"

    def __init__(
        self,
        id: str | None = None,  # noqa: A002 - packs call it so
        display_name: str | None = None,
        tooltip: str | None = None,
        is_output_list: bool = False,  # noqa: FBT001, FBT002 - packs call it so
        **_: Any,
    ) -> None:
        self.id = id
        self.type = self.io_type
        self.name = display_name or id
        self.tooltip = tooltip
        self.is_list = is_output_list


class Port:
    """A type of values, with the classes of its inputs and outputs."""

    io_type: ClassVar[str]
    Input: ClassVar[type[Any]]
    Output: ClassVar[type[Any]]


def Custom(io_type: str, base: type[Input] = Input) -> type[Port]:  # noqa: N802 - packs call it so
    """A type of a pack's own."""
    members = {"io_type": io_type}
    both = {"Input": type("Input", (base,), dict(members)), "Output": type("Output", (Output,), dict(members))}
    return type(io_type, (Port,), {**members, **both})


class MatchType:
    """Inputs and outputs that share a type which is open; here each takes any."""

    io_type = "*"

    class Template:
        """Names the type that is shared."""

        def __init__(self, template_id: str, allowed_types: Any = None) -> None:
            self.template_id = template_id
            self.allowed_types = allowed_types

    class Input(Input):
        """An input of the shared type."""

        def __init__(self, id: str, template: Any = None, *more: Any, **named: Any) -> None:  # noqa: A002, ARG002 - packs call it so
            super().__init__(id, *more, **named)

    class Output(Output):
        """An output of the shared type."""

        def __init__(self, template: Any = None, *more: Any, **named: Any) -> None:  # noqa: ARG002 - packs call it so
            super().__init__(*more, **named)


class MultiType:
    """Inputs that take one of several types."""

    io_type = "*"
    Input = MultiInput


AnyType = Custom("*")
Boolean = Custom("BOOLEAN")
Int = Custom("INT")
Float = Custom("FLOAT")
String = Custom("STRING")
Combo = Custom("COMBO", ComboInput)
Image = Custom("IMAGE")
Mask = Custom("MASK")
Latent = Custom("LATENT")
Conditioning = Custom("CONDITIONING")
Sampler = Custom("SAMPLER")
Sigmas = Custom("SIGMAS")
Noise = Custom("NOISE")
Guider = Custom("GUIDER")
Clip = Custom("CLIP")
ControlNet = Custom("CONTROL_NET")
Vae = Custom("VAE")
Model = Custom("MODEL")
ClipVision = Custom("CLIP_VISION")
ClipVisionOutput = Custom("CLIP_VISION_OUTPUT")
StyleModel = Custom("STYLE_MODEL")
Gligen = Custom("GLIGEN")
UpscaleModel = Custom("UPSCALE_MODEL")
LatentOperation = Custom("LATENT_OPERATION")
LoraModel = Custom("LORA_MODEL")
Hooks = Custom("HOOKS")
HookKeyframes = Custom("HOOK_KEYFRAMES")
Audio = Custom("AUDIO")
Video = Custom("VIDEO")
Svg = Custom("SVG")
Mesh = Custom("MESH")
Voxel = Custom("VOXEL")
Webcam = Custom("WEBCAM")


@dataclass
class Schema:
    """What a node declares; see `Kind` for the meaning of the fields."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False
    search_aliases: list[str] = field(default_factory=list)
    essentials_category: str | None = None


class NodeOutput:
    """What a node gives.

    Args:
        args: The outputs.
        ui: What it shows: a dict, or one of the helpers of `ui`.
        expand: The subgraph that takes its place.
        block_execution: A message, if nothing may be computed from its outputs.
    """

    def __init__(self, *args: Any, ui: Any = None, expand: Any = None, block_execution: str | None = None) -> None:
        self.args = args
        self.ui = ui
        self.expand = expand
        self.block_execution = block_execution

    @property
    def result(self) -> tuple[Any, ...]:
        """The outputs."""
        return self.args


class ComfyNode:
    """A node that declares itself by a schema.

    Attributes:
        hidden: What it is told beside inputs, while it runs.
    """

    hidden: ClassVar[Any] = None

    @classmethod
    def define_schema(cls) -> Schema:
        """What the node declares."""
        raise NotImplementedError

    @classmethod
    def execute(cls, **inputs: Any) -> Any:
        """Do the work."""
        raise NotImplementedError
