"""One file a family of base models: how its text becomes conditions and its network answers.

`Diffusion` (diffusion.py) is the seam. StableDiffusion (1.x, 2.x) and StableDiffusionXL keep it;
a further family is one more file and one more line in `FAMILIES` (client/base.py).
"""
