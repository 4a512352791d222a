"""Latent codes of a batch of images: f = [f^c_1 .. f^c_N, f^m_1 .. f^m_N] (FDAE paper, section 3.1)."""

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from .errors import FDAEError

Concepts = int | Sequence[int] | Literal["all"]


@dataclass
class FDAECodes:
    """Content codes and mask codes of a batch of images.

    Args:
        content: (B, N, d_c), what each of the N concepts is.
        mask: (B, N, d_m), where it is; ``None`` for a single-concept model, which has no masks.

    Raises:
        ValueError: If the shapes do not belong together.
    """

    content: torch.Tensor
    mask: torch.Tensor | None = None

    def __post_init__(self):
        if self.content.ndim != 3:
            raise ValueError(f"content codes must have shape (B, N, d_c), not {tuple(self.content.shape)}")
        if self.mask is not None and (self.mask.ndim != 3 or self.mask.shape[:2] != self.content.shape[:2]):
            raise ValueError(
                f"mask codes of shape {tuple(self.mask.shape)} do not belong to content codes of shape "
                f"{tuple(self.content.shape)}: both need the same B and N"
            )

    @property
    def num_concepts(self) -> int:
        """N."""
        return self.content.shape[1]

    def __len__(self) -> int:
        return len(self.content)

    def __getitem__(self, index: int | slice | Sequence[int] | torch.Tensor) -> "FDAECodes":
        """Codes of some images of the batch; an integer keeps a batch of one."""
        if isinstance(index, torch.Tensor) and index.ndim == 0 and index.dtype != torch.bool:
            index = int(index)
        if isinstance(index, int | np.integer):
            index = [int(index)]
        return self._map(lambda codes: codes[index])

    def to(self, *args, **kwargs) -> "FDAECodes":
        """Move or cast, as `torch.Tensor.to`."""
        return self._map(lambda codes: codes.to(*args, **kwargs))

    def repeat_interleave(self, repeats: int) -> "FDAECodes":
        """Repeat each image's codes, as `torch.repeat_interleave` along the batch."""
        return self._map(lambda codes: codes.repeat_interleave(repeats, dim=0))

    def repeat(self, repeats: int) -> "FDAECodes":
        """Repeat the whole batch of codes."""
        return self._map(lambda codes: codes.repeat(repeats, 1, 1))

    def swap(self, other: "FDAECodes", content: Concepts = (), mask: Concepts = ()) -> "FDAECodes":
        """Take some codes from another batch, image by image (FDAE paper, figures 3-5).

        Args:
            other: Where the codes come from: as many images, or one image for all.
            content: Concept(s) whose content code is taken, or ``"all"``.
            mask: Concept(s) whose mask code is taken, or ``"all"``.

        Returns:
            New codes; neither batch is changed.

        Raises:
            FDAEError: If a concept does not exist, the batches do not fit, or a single-concept model has no masks.
        """
        if self.content.shape[1:] != other.content.shape[1:] or len(other) not in (1, len(self)):
            raise FDAEError(
                f"cannot swap codes of shape {tuple(other.content.shape)} into {tuple(self.content.shape)}: "
                "both must come from the same model, and the other batch be as large or a single image"
            )
        swapped_mask = self.mask
        if self.mask is not None and other.mask is not None:
            swapped_mask = self._take(self.mask, other.mask, mask)
        elif self._indices(mask):
            raise FDAEError("these codes have no mask codes to swap: the model has a single concept")
        return FDAECodes(self._take(self.content, other.content, content), swapped_mask)

    def single_swaps(self, other: "FDAECodes") -> "FDAECodes":
        """Swap each code alone, in one image: N content codes, then N mask codes (FDAE paper, supplement, fig. 5).

        Args:
            other: Where the codes come from, one image too.

        Returns:
            Codes of 2N images, or of one image for a single-concept model.

        Raises:
            ValueError: As :meth:`swap`, or if these are codes of several images.
        """
        if len(self) != 1:
            raise ValueError(f"single swaps start from the codes of one image, not of {len(self)}")
        swaps = [self.swap(other, content=concept) for concept in range(self.num_concepts)]
        if self.mask is not None:
            swaps += [self.swap(other, mask=concept) for concept in range(self.num_concepts)]
        return FDAECodes.cat(swaps)

    def pairs(self) -> "FDAECodes":
        """Combine the content of each of n images with the masks of each: n * n images, content outermost.

        Raises:
            FDAEError: If a single-concept model has no masks to combine.
        """
        if self.mask is None:
            raise FDAEError("a single-concept model has no masks to combine with content: there is no swap grid")
        return FDAECodes(self.content.repeat_interleave(len(self), dim=0), self.mask.repeat(len(self), 1, 1))

    def interpolate(
        self, other: "FDAECodes", weight: float | Sequence[float], content: Concepts = (), mask: Concepts = ()
    ) -> "FDAECodes":
        """Move some codes in a straight line towards those of another batch.

        Args:
            other: Where the codes go: as many images, or one image for all.
            weight: How far, from 0 (these codes) to 1 (the other's, as :meth:`swap` gives). Several weights make one
                image each out of a batch of one.
            content: Concept(s) whose content code moves, or ``"all"``.
            mask: Concept(s) whose mask code moves, or ``"all"``.

        Returns:
            New codes; neither batch is changed.

        Raises:
            ValueError: As :meth:`swap`, or if a weight is outside [0, 1], or several meet several images.
        """
        weights = torch.as_tensor(weight, dtype=torch.float32).reshape(-1)  # (W,)
        if not len(weights) or not ((weights >= 0) & (weights <= 1)).all():
            raise ValueError(f"weights must be in [0, 1], not {weight!r}")
        if len(weights) > 1 and len(self) != 1:
            raise ValueError(f"{len(weights)} weights need codes of one image, not of {len(self)}")
        start = self.repeat_interleave(len(weights))
        end = start.swap(other, content=content, mask=mask)

        def move(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return torch.lerp(a, b, weights.to(a)[:, None, None])

        moved_mask = None if start.mask is None or end.mask is None else move(start.mask, end.mask)
        return FDAECodes(move(start.content, end.content), moved_mask)

    @staticmethod
    def cat(batches: Iterable["FDAECodes"]) -> "FDAECodes":
        """Join batches of codes of the same model."""
        batches = list(batches)
        masks = [codes.mask for codes in batches if codes.mask is not None]
        return FDAECodes(torch.cat([codes.content for codes in batches]), torch.cat(masks) if masks else None)

    def _take(self, codes: torch.Tensor, other: torch.Tensor, concepts: Concepts) -> torch.Tensor:
        indices = self._indices(concepts)
        taken = codes.clone()
        taken[:, indices] = other[:, indices].to(taken)
        return taken

    def _indices(self, concepts: Concepts) -> list[int]:
        if isinstance(concepts, str) and concepts == "all":
            return list(range(self.num_concepts))
        if isinstance(concepts, int | np.integer):
            concepts = [int(concepts)]
        try:
            indices = [operator.index(concept) for concept in concepts]
        except TypeError:
            indices = [-1]
        if not all(0 <= index < self.num_concepts for index in indices):
            raise FDAEError(f"there is no concept {concepts!r}: this model has concepts 0 to {self.num_concepts - 1}")
        return indices

    def _map(self, function) -> "FDAECodes":
        return FDAECodes(function(self.content), None if self.mask is None else function(self.mask))
