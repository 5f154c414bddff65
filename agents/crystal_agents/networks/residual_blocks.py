"""Residual blocks of linear layers, without messages."""

from torch import Tensor, nn

from crystal_agents.networks.dropout import Dropout


class ResidualMLP(nn.Module):
    r"""Blocks of two linear layers with a skip connection.

    .. math:: x \leftarrow x + W_2\, \text{SiLU}(W_1\, \text{LayerNorm}(x))

    Args:
        size: Channels.
        blocks: Number of blocks.
        dropout: Dropout rate before the second linear layer of each block.

    Shapes:
        - **input:** (..., size)
        - **output:** (..., size)
    """

    def __init__(self, size: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(size),
                nn.Linear(size, size),
                nn.SiLU(),
                Dropout(dropout),
                nn.Linear(size, size),
            )
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


class SiteBlocks(nn.Module):
    r"""Residual blocks on each site, joined with the whole crystal.

    .. math:: h_i \leftarrow \text{ResidualMLP}(W_1\, \text{LayerNorm}(h_i) + W_2\, c)

    Args:
        hidden: Channels H of sites.
        crystal: Channels G of the crystal.
        size: Channels D of the blocks.
        blocks: Number of blocks.
        dropout: Dropout rate of the blocks.

    Shapes:
        - **input:** sites (K, s, H), crystals (K, s, G), or (K, S, G) with the crystal of each
          site, int64 (s,)
        - **output:** (K, s, D)
    """

    def __init__(self, hidden: int, crystal: int, size: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.own = nn.Linear(hidden, size)
        self.whole = nn.Linear(crystal, size, bias=False)
        self.blocks = ResidualMLP(size, blocks, dropout)

    def forward(self, sites: Tensor, crystals: Tensor, owner: Tensor | None = None) -> Tensor:
        whole = self.whole(crystals)
        if owner is not None:
            whole = whole.index_select(1, owner)
        return self.blocks(self.own(self.norm(sites)) + whole)
