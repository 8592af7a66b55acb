"""Configs of transformers by name, for `MaskGit.from_preset`, which sets the codebook and grid of a tokenizer.

Numbers of parameters are for 2^18 codes. Memory per clip is what the forward and backward pass in float32 need besides
weights and gradients, for the preset's grid and with attention kernels that do not store the attention weights, as
counted by `train/budget.py`. A test compares all figures with the models.
"""

from dataclasses import replace

from .config import MaskGitConfig

MAGVIT2 = MaskGitConfig(
    codebook_size=2**18, grid=(5, 16, 16), width=1024, depth=24, num_heads=16, dropout=0.1, num_registers=4
)
"""The paper's size: 24 layers, width 1024, 16 heads, MLPs with 4096 hidden channels; 303.34 M parameters.

Hardware: one GPU or several. Weights, gradients, optimizer state and averaged weights take 5.7 GiB on each. The paper's
batch has 256 clips.
Memory per clip: 2.64 GiB.
Expected result: not trained here. The paper reports an FVD of 58 for class-conditional samples of UCF-101.
"""

MAGVIT2_SMALL = MaskGitConfig(
    codebook_size=2**18, grid=(5, 16, 16), width=768, depth=12, num_heads=12, dropout=0.1, num_registers=4
)
"""The design of the paper with half the layers: 12 layers, width 768; 85.88 M parameters.

Hardware: one GPU. Weights, gradients, optimizer state and averaged weights take 1.6 GiB.
Memory per clip: 1.01 GiB.
Expected result: not trained here, and not in the paper.
"""

BASE = replace(MAGVIT2_SMALL, sequential=True)
"""`magvit2-small` with sub-codes that are predicted one after another: 12 layers, width 768; 87.06 M parameters.

Hardware: one GPU. Weights, gradients, optimizer state and averaged weights take 1.6 GiB.
Memory per clip: 1.02 GiB.
Expected result: not trained here, and not in the paper.
"""

SMALL = MaskGitConfig(codebook_size=2**18, grid=(5, 8, 8), width=384, depth=8, num_heads=12)
"""14.62 M parameters, for clips of 17 x 64 x 64 pixels.

Hardware: a small GPU, or a CPU with long training times. Weights, gradients, optimizer state and averaged weights take
0.27 GiB.
Memory per clip: 0.073 GiB.
Expected result: not trained here.
"""

TINY = MaskGitConfig(codebook_size=2**16, grid=(5, 4, 4), width=128, depth=6, num_heads=4, sequential=True)
"""The size of the presets `demo` and `laptop` of `train/maskgit.py`: 1.37 M parameters, 1.30 M with the demo's codes.

Hardware: two CPU cores; a few minutes for the demo's 1,500 steps of 16 clips.
Memory per clip: 0.005 GiB.
Expected result: the output of `make demo`.
"""

PRESETS = {"magvit2": MAGVIT2, "magvit2-small": MAGVIT2_SMALL, "base": BASE, "small": SMALL, "tiny": TINY}
