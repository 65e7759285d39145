"""What the paged kernel computes, plainly, to take its place: only GPUs have it."""

import torch
from torch.nn import functional


def by_the_book(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: None,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
    seqused_k: torch.Tensor,
    block_table: torch.Tensor,
) -> torch.Tensor:
    """What torch's documentation says of ``varlen_attn``: causal, the last query at the last key, a window to the left."""
    assert (cu_seq_k, enable_gqa, window_size[1]) == (None, True, 0)
    assert {part.dtype for part in (cu_seq_q, seqused_k, block_table)} == {torch.int32}
    counts = cu_seq_q.diff().tolist()
    assert max_q == max(counts)
    assert max_k >= int(seqused_k.max())
    result = torch.empty_like(query)
    for index, (count, length) in enumerate(zip(counts, seqused_k.tolist(), strict=True)):
        rows = slice(int(cu_seq_q[index]), int(cu_seq_q[index]) + count)
        keys, values = (pool[block_table[index].long()].flatten(0, 1)[:length] for pool in (key, value))
        own = torch.arange(length - count, length).unsqueeze(1)
        seen = torch.arange(length) <= own
        if window_size[0] >= 0:
            seen &= torch.arange(length) >= own - window_size[0]
        result[rows] = functional.scaled_dot_product_attention(
            query[rows].transpose(0, 1)[None],
            keys.transpose(0, 1)[None],
            values.transpose(0, 1)[None],
            attn_mask=seen,
            scale=scale,
            enable_gqa=True,
        )[0].transpose(0, 1)
    return result
