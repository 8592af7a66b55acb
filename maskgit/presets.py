"""Transformers known by name, for `MaskGit.from_preset`, which puts in the codebook and the grid of a tokenizer.

Parameters are those for 2^18 codes. Memory for each clip is what a training step in float32 keeps for its backward
pass, for the grid that stands in the preset, where attention keeps no weights (as its fast kernels do).
"""

from .config import MaskGitConfig

MAGVIT2 = MaskGitConfig(
    codebook_size=2**18, grid=(5, 16, 16), width=1024, depth=24, num_heads=16, dropout=0.1, num_registers=4
)
"""The paper's size: 24 layers, width 1024, 16 heads, hidden layers of 4096; 303.34 M parameters.

Hardware: GPUs; weights, gradients, optimizer and averaged weights are 5.7 GiB on each. The paper's batch is 256 clips.
Memory for each clip: about 5 GiB.
Expected result: not trained by us. The paper reports, for UCF-101, class-conditional samples at an FVD of 58.
"""

BASE = MaskGitConfig(
    codebook_size=2**18, grid=(5, 16, 16), width=768, depth=12, num_heads=12, dropout=0.1, num_registers=4
)
"""Half the layers and three quarters of the width: 85.88 M parameters, the preset `base` of `train/maskgit.py`.

Hardware: one GPU; weights, gradients, optimizer and averaged weights are 1.6 GiB.
Memory for each clip: about 2 GiB.
Expected result: not trained by us, and not in the paper.
"""

SMALL = MaskGitConfig(codebook_size=2**18, grid=(5, 8, 8), width=384, depth=8, num_heads=12)
"""14.62 M parameters, for clips of 17 x 64 x 64 pixels.

Hardware: a small GPU, or a CPU with patience; weights, gradients, optimizer and averaged weights are 0.27 GiB.
Memory for each clip: 0.11 GiB.
Expected result: not trained by us.
"""

TINY = MaskGitConfig(codebook_size=2**16, grid=(5, 4, 4), width=128, depth=6, num_heads=4)
"""The demo's: 1.33 M parameters, 1.27 M with its 2^16 codes.

Hardware: two CPU cores, some minutes for the demo's 2,000 steps of 16 clips.
Memory for each clip: 0.005 GiB.
Expected result: what `make demo` prints and draws.
"""

PRESETS = {"magvit2": MAGVIT2, "base": BASE, "small": SMALL, "tiny": TINY}
