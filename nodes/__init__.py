"""The nodes that come with Weft: thin declarations, one file per topic. Importing them imports nothing heavy."""

MODULES = (
    "loaders",
    "conditioning",
    "sampling",
    "latent",
    "latent_batch",
    "inpaint",
    "image",
    "image_files",
    "mask",
    "preview",
    "text",
    "primitive",
)
"""The modules that declare kinds, in the order of their menus."""
