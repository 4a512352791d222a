"""Latent codes of a batch of images: f = [f^c_1 .. f^c_N, f^m_1 .. f^m_N] (FDAE paper, section 3.1)."""

import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from .errors import FDAEError
from .utils.tensor_files import read_metadata, read_tensors, write_tensors

Concepts = int | Sequence[int] | Literal["all"]


@dataclass(eq=False, repr=False)
class FDAECodes:
    """Content codes and mask codes of a batch of images.

    Args:
        content: (B, N, d_c), what each of the N concepts is.
        mask: (B, N, d_m), where it is; ``None`` for a single-concept model, which has no masks.

    Raises:
        FDAEError: If these are no tensors, or their shapes do not belong together.
    """

    content: torch.Tensor
    mask: torch.Tensor | None = None

    def __post_init__(self):
        for name, codes in (("content", self.content), ("mask", self.mask)):
            if not isinstance(codes, torch.Tensor) and (name == "content" or codes is not None):
                raise FDAEError(f"{name} codes must be a tensor, not a {type(codes).__name__}")
        if self.content.ndim != 3:
            raise FDAEError(f"content codes must have shape (B, N, d_c), not {tuple(self.content.shape)}")
        if self.mask is not None and (self.mask.ndim != 3 or self.mask.shape[:2] != self.content.shape[:2]):
            raise FDAEError(
                f"mask codes of shape {tuple(self.mask.shape)} do not belong to content codes of shape "
                f"{tuple(self.content.shape)}: both need the same B and N"
            )

    @property
    def num_concepts(self) -> int:
        """N."""
        return self.content.shape[1]

    @property
    def content_dim(self) -> int:
        """d_c."""
        return self.content.shape[2]

    @property
    def mask_dim(self) -> int | None:
        """d_m; ``None`` without mask codes."""
        return None if self.mask is None else self.mask.shape[2]

    def __len__(self) -> int:
        return len(self.content)

    def __repr__(self) -> str:
        mask = None if self.mask is None else tuple(self.mask.shape)
        return (
            f"FDAECodes(content={tuple(self.content.shape)}, mask={mask}, num_concepts={self.num_concepts}, "
            f"dtype={self.content.dtype}, device='{self.content.device}')"
        )

    def __eq__(self, other: object) -> bool:
        """Whether both have the same shapes and equal values, on whatever devices."""
        if not isinstance(other, FDAECodes):
            return NotImplemented
        return _are_equal(self.content, other.content) and _are_equal(self.mask, other.mask)

    __hash__ = None  # type: ignore[assignment]  # codes can be changed in place, so they are no keys of a dictionary

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
            FDAEError: If no concept is named or it does not exist, ``other`` is no codes or does not fit, or a
                single-concept model has no masks.
        """
        check_codes(other)
        if self._dims() != other._dims() or len(other) not in (1, len(self)):
            raise FDAEError(
                f"cannot swap between {self} and {other}: both must come from the same model, and the other batch be "
                "as large or a single image"
            )
        content_indices, mask_indices = self._indices(content), self._indices(mask)
        if not content_indices and not mask_indices:
            raise FDAEError('name the concepts to take: content=..., mask=... or both, as numbers or "all"')
        swapped_mask = self.mask
        if self.mask is not None and other.mask is not None:
            swapped_mask = _take(self.mask, other.mask, mask_indices)
        elif mask_indices:
            raise FDAEError("these codes have no mask codes to swap: the model has a single concept")
        return FDAECodes(_take(self.content, other.content, content_indices), swapped_mask)

    def single_swaps(self, other: "FDAECodes") -> "FDAECodes":
        """Swap each code alone, in one image: N content codes, then N mask codes (FDAE paper, supplement, fig. 5).

        Args:
            other: Where the codes come from, one image too.

        Returns:
            Codes of 2N images, or of one image for a single-concept model.

        Raises:
            FDAEError: As :meth:`swap`, or if these are codes of several images.
        """
        if len(self) != 1:
            raise FDAEError(f"single swaps start from the codes of one image, not of {len(self)}")
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
        """Move some codes along the straight line through those of another batch.

        Args:
            other: Where the codes go: as many images, or one image for all.
            weight: How far: 0 for these codes, 1 for the other's, as :meth:`swap` gives; below 0 and above 1 the line
                goes on. Several weights make one image each out of a batch of one.
            content: Concept(s) whose content code moves, or ``"all"``.
            mask: Concept(s) whose mask code moves, or ``"all"``.

        Returns:
            New codes; neither batch is changed.

        Raises:
            FDAEError: As :meth:`swap`, or if a weight is not finite, or several meet several images.
        """
        weights = torch.as_tensor(weight, dtype=torch.float32).reshape(-1)  # (W,)
        if not len(weights) or not weights.isfinite().all():
            raise FDAEError(f"weights must be finite numbers, not {weight!r}")
        if len(weights) > 1 and len(self) != 1:
            raise FDAEError(f"{len(weights)} weights need codes of one image, not of {len(self)}")
        start = self.repeat_interleave(len(weights))
        end = start.swap(other, content=content, mask=mask)

        def move(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return torch.lerp(a, b, weights.to(a)[:, None, None])

        moved_mask = None if start.mask is None or end.mask is None else move(start.mask, end.mask)
        return FDAECodes(move(start.content, end.content), moved_mask)

    def stack(self) -> torch.Tensor:
        """Stack all codes into one tensor (B, K, d): the N content codes, then the N mask codes.

        K is 2N, or N without mask codes. If d_c and d_m differ, the shorter codes are padded with zeros to d.
        """
        if self.mask is None:
            return self.content
        dim = max(self.content.shape[2], self.mask.shape[2])
        return torch.cat([F.pad(codes, (0, dim - codes.shape[2])) for codes in (self.content, self.mask)], dim=1)

    @staticmethod
    def unstack(
        stacked: torch.Tensor, num_concepts: int, content_dim: int | None = None, mask_dim: int | None = None
    ) -> "FDAECodes":
        """Undo :meth:`stack`.

        Args:
            stacked: (B, K, d), with K = 2N, or N without mask codes.
            num_concepts: N.
            content_dim: d_c, by default d; what lies beyond is padding.
            mask_dim: d_m, likewise.

        Raises:
            FDAEError: If the shape does not fit the other arguments.
        """
        shape = tuple(stacked.shape)
        if len(shape) != 3 or shape[1] not in (num_concepts, 2 * num_concepts):
            raise FDAEError(f"stacked codes of N = {num_concepts} have shape (B, N or 2N, d), not {shape}")
        if max(content_dim or 0, mask_dim or 0) > shape[2]:
            raise FDAEError(f"stacked codes of {shape} do not hold content_dim={content_dim} and mask_dim={mask_dim}")
        content, mask = stacked[:, :num_concepts, :content_dim], stacked[:, num_concepts:, :mask_dim]
        return FDAECodes(content.contiguous(), mask.contiguous() if mask.shape[1] else None)

    def save(self, path: str | os.PathLike, metadata: Mapping[str, str] | None = None) -> None:
        """Write the codes to a safetensors file, in one step: tensors ``content`` and, unless N = 1, ``mask``.

        Args:
            path: The file; one that exists is replaced.
            metadata: What else to note, for :meth:`read_metadata`: whose codes these are, for example.

        Raises:
            FDAEError: If the metadata are not all strings.
        """
        write_tensors(path, {"content": self.content} | ({} if self.mask is None else {"mask": self.mask}), metadata)

    @staticmethod
    def load(path: str | os.PathLike) -> "FDAECodes":
        """Read codes that :meth:`save` wrote, to the CPU.

        Raises:
            FDAEError: If there is no such file, or it holds no codes.
        """
        tensors = read_tensors(path)
        if "content" not in tensors:
            raise FDAEError(f"{path} holds no codes, as FDAECodes.save and `fdae encode` write them")
        return FDAECodes(tensors["content"], tensors.get("mask"))

    @staticmethod
    def read_metadata(path: str | os.PathLike) -> dict[str, str]:
        """Read what :meth:`save` was given as metadata.

        Raises:
            FDAEError: If there is no such file, or it is no safetensors file.
        """
        return read_metadata(path)

    @staticmethod
    def cat(batches: Iterable["FDAECodes"]) -> "FDAECodes":
        """Join batches of codes of the same model, on the device of the first.

        Raises:
            FDAEError: If there is no batch, or they are not all of one model.
        """
        batches = [check_codes(codes) for codes in batches]
        if not batches:
            raise FDAEError("no codes to join: the list is empty")
        if any(codes._dims() != batches[0]._dims() for codes in batches):
            raise FDAEError(f"cannot join codes of different models: {', '.join(map(repr, batches[:3]))}")
        batches = [codes.to(batches[0].content.device) for codes in batches]
        masks = [codes.mask for codes in batches if codes.mask is not None]
        return FDAECodes(torch.cat([codes.content for codes in batches]), torch.cat(masks) if masks else None)

    def _dims(self) -> tuple[int, int, int | None]:
        return self.num_concepts, self.content_dim, self.mask_dim

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

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "FDAECodes":
        return FDAECodes(function(self.content), None if self.mask is None else function(self.mask))


def check_codes(codes: FDAECodes) -> FDAECodes:
    """Return codes as they are.

    Raises:
        FDAEError: If this is something else, an image for example.
    """
    # Seen by what it has: where a model brings its own code, the class is defined anew in each of the model's files.
    if not isinstance(getattr(codes, "content", None), torch.Tensor) or not hasattr(codes, "mask"):
        raise FDAEError(f"a {type(codes).__name__} is no codes: `pipe.encode(images)` gives the FDAECodes of images")
    return codes


def _are_equal(codes: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    if codes is None or other is None:
        return codes is other
    return codes.shape == other.shape and bool((codes == other.to(codes.device)).all())


def _take(codes: torch.Tensor, other: torch.Tensor, indices: list[int]) -> torch.Tensor:
    taken = codes.clone()
    taken[:, indices] = other[:, indices].to(taken)
    return taken
