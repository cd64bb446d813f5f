"""What is computed on pictures, masks and latents, apart from reading, writing and resizing them."""
