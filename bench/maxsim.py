"""MaxSim of pairs of images in one kernel, with the products of the library's own: what transport
is added to. Triton is made for Linux."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from diml_nb.features.grid import Features
from diml_nb.ot.native import PairSolver
from diml_nb.ot.triton_kernels import _n_warps, _products, pair_constants


@triton.jit
def _maxsim_kernel(a, b, i_p, j_p, sum_p, const: tl.constexpr):
    "Sum over the cells of A of the largest cosine with a cell of B."
    p = tl.program_id(0)
    cell_n, cell_m = tl.arange(0, const.tile_n), tl.arange(0, const.tile_m)
    i, j = tl.load(i_p + p), tl.load(j_p + p)
    cosine_nm, _, _ = _products(a, b, i, j, cell_n, cell_m, const)
    cosine_nm = tl.where((cell_m < const.m)[None, :], cosine_nm, -1.0)
    largest_n = tl.where(cell_n < const.n, tl.max(cosine_nm, 1), 0.0)
    tl.store(sum_p + p, tl.sum(largest_n, 0))


def maxsim(x: Features, i_p: Tensor, j_p: Tensor) -> Tensor:
    "Mean over the cells of image i of the largest cosine in image j, (P,)."
    images = x.local_bcn, x.global_bc, x.norm_bn
    solver = PairSolver(power=1, max_iter=1, eps=1.0, tol=0.0)
    const = pair_constants(images, images, solver, keep=False)
    sum_p = torch.empty(len(i_p), device=i_p.device)
    _maxsim_kernel[(len(i_p),)](images, images, i_p, j_p, sum_p, const, num_warps=_n_warps(const))
    return sum_p / const.n
