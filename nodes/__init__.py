"""The nodes that come with Weft: thin declarations, one file per topic. Importing them imports nothing heavy."""

MODULES = (
    "loaders",
    "conditioning",
    "sdxl",
    "merging",
    "sampling",
    "custom_sampling",
    "samplers",
    "sigmas",
    "latent",
    "latent_batch",
    "latent_math",
    "latent_operations",
    "latent_files",
    "inpaint",
    "image",
    "image_files",
    "animation",
    "image_transform",
    "image_filters",
    "compositing",
    "mask",
    "preview",
    "text",
    "primitive",
)
"""The modules that declare kinds, in the order of their menus."""
