"""minipig: Paired Image Generation with Diffusion-Guided Diffusion Models, as readable code."""
