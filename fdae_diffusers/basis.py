"""Directions and typical values of each code, found on the codes of a data set: what to edit a code with.

Per code, a PCA gives directions to move along (FDAE paper, supplement, fig. 6) and K-means gives typical values.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HTTPError, RemoteEntryNotFoundError

from .codes import FDAECodes
from .errors import FDAEError, first_line
from .utils.hub import check_folder, explain_loading_error
from .utils.tensor_files import read_tensors, write_tensors

BASIS_FILE = "code_basis.safetensors"

CodeKind = Literal["content", "mask"]


@dataclass(frozen=True)
class KindBasis:
    """What is known of the content codes, or of the mask codes, of the N concepts; d is theirs.

    Args:
        mean: (N, d).
        components: (N, p, d), orthogonal unit vectors, the direction of most variance first.
        deviations: (N, p), standard deviation of the codes along each component.
        centers: (N, k, d), centres of clusters, ordered along the first component so that neighbours are alike.
    """

    mean: torch.Tensor
    components: torch.Tensor
    deviations: torch.Tensor
    centers: torch.Tensor


class CodeBasis:
    """Principal components and clusters of each code of a model, kept beside its ``model_index.json``.

        basis = CodeBasis.from_pretrained("outputs/quickstart")  # or a Hub id
        pipe(codes=basis.traverse(pipe.encode(image), "content", concept=1)).images

    Args:
        content: Of the content codes.
        mask: Of the mask codes; ``None`` for a single-concept model.
    """

    def __init__(self, content: KindBasis, mask: KindBasis | None = None):
        self.content = content
        self.mask = mask

    def __repr__(self) -> str:
        def describe(basis: KindBasis | None) -> str:
            if basis is None:
                return "None"
            (n, p, d), k = basis.components.shape, basis.centers.shape[1]
            return f"(N={n}, d={d}, {p} components, {k} clusters)"

        return f"CodeBasis(content={describe(self.content)}, mask={describe(self.mask)})"

    @classmethod
    def fit(cls, codes: FDAECodes, num_components: int = 3, num_clusters: int = 20, seed: int = 0) -> "CodeBasis":
        """Find the components and clusters of codes.

        Args:
            codes: Codes of n images, as many as there are clusters at least; thousands are better.
            num_components: Principal components per code; at most as many as a code has dimensions are kept.
            num_clusters: Clusters per code.
            seed: ``random_state`` of K-means.

        Raises:
            FDAEError: If there are fewer images than components or clusters.
        """
        if min(num_components, num_clusters) < 1 or max(num_components, num_clusters) > len(codes):
            raise FDAEError(
                f"codes of {len(codes)} images cannot give {num_components} components and {num_clusters} clusters: "
                "both must be at least 1 and at most the number of images"
            )
        content = _fit_kind(codes.content, num_components, num_clusters, seed)
        return cls(content, None if codes.mask is None else _fit_kind(codes.mask, num_components, num_clusters, seed))

    def save_pretrained(self, folder: str | os.PathLike, variant: str | None = None) -> Path:
        """Write the basis into a model's folder.

        Args:
            folder: The model's folder.
            variant: The variant of the weights that the codes are from, ``"ema"`` for example.

        Returns:
            The file: ``code_basis.safetensors``, or ``code_basis.VARIANT.safetensors``.
        """
        tensors = {
            f"{kind}.{field.name}": getattr(basis, field.name)
            for kind, basis in (("content", self.content), ("mask", self.mask))
            if basis is not None
            for field in fields(KindBasis)
        }
        path = Path(folder) / basis_file(variant)
        write_tensors(path, tensors)
        return path

    @classmethod
    def from_pretrained(
        cls, model: str | os.PathLike, revision: str | None = None, variant: str | None = None
    ) -> "CodeBasis":
        """Load the basis that was saved with a model.

        Args:
            model: Pipeline folder or Hub id.
            revision: Branch, tag or commit of a model on the Hub.
            variant: The variant of the weights whose codes are edited; each variant has a basis of its own.

        Raises:
            FDAEError: If there is no such model, or no basis was saved with this variant of it; the message says how
                to make one.
        """
        path = _find_file(model, revision, variant)
        tensors = read_tensors(path)
        try:
            kinds = ["content", "mask"] if "mask.mean" in tensors else ["content"]
            parts = [KindBasis(*(tensors[f"{kind}.{field.name}"] for field in fields(KindBasis))) for kind in kinds]
        except KeyError as error:
            raise FDAEError(f"{path} is damaged or no basis of codes: make it again") from error
        return cls(*parts)

    def traverse(
        self,
        codes: FDAECodes,
        kind: CodeKind,
        concept: int,
        component: int = 0,
        values: Sequence[float] = (-2.0, -1.0, 0.0, 1.0, 2.0),
    ) -> FDAECodes:
        """Move one code along one of its principal components (FDAE paper, supplement, fig. 6).

        Args:
            codes: Codes of one image.
            kind: ``"content"`` or ``"mask"``.
            concept: Which concept's code.
            component: Which component, 0 for the one of most variance.
            values: Where to go: V coordinates, in standard deviations from the mean of the data. They replace the
                code's own coordinate; the other coordinates stay.

        Returns:
            Codes of V images.

        Raises:
            FDAEError: If there is no such code or component, or the codes are another model's or of several images.
        """
        basis, code = self._select(codes, kind, concept)
        if not 0 <= component < basis.components.shape[1]:
            raise FDAEError(f"there is no component {component}: this basis has 0 to {basis.components.shape[1] - 1}")
        direction = basis.components[concept, component]  # (d,)
        if not isinstance(values, Iterable):
            raise FDAEError(f"values must be a list of coordinates, not {values!r}")
        coordinates = torch.as_tensor(tuple(values), dtype=torch.float32) * basis.deviations[concept, component]
        own_coordinate = (code - basis.mean[concept]) @ direction
        return _replace(codes, kind, concept, code + (coordinates - own_coordinate)[:, None] * direction)

    def to_cluster(self, codes: FDAECodes, kind: CodeKind, concept: int, cluster: int) -> FDAECodes:
        """Give one code of an image a typical value, the centre of a cluster.

        Args:
            codes: Codes of one image.
            kind: ``"content"`` or ``"mask"``.
            concept: Which concept's code.
            cluster: Which cluster, 0 to k - 1, in the order of the first principal component.

        Returns:
            Codes of one image.

        Raises:
            FDAEError: If there is no such code or cluster, or the codes are another model's or of several images.
        """
        basis, _ = self._select(codes, kind, concept)
        if not 0 <= cluster < basis.centers.shape[1]:
            raise FDAEError(f"there is no cluster {cluster}: this basis has 0 to {basis.centers.shape[1] - 1}")
        return _replace(codes, kind, concept, basis.centers[concept, cluster][None])

    def _select(self, codes: FDAECodes, kind: CodeKind, concept: int) -> tuple[KindBasis, torch.Tensor]:
        """The basis of a kind of codes, and the code (d,) of a concept of one image in float32."""
        if kind not in ("content", "mask"):
            raise FDAEError(f'the kind of a code is "content" or "mask", not {kind!r}')
        basis: KindBasis | None = getattr(self, kind)
        all_codes: torch.Tensor | None = getattr(codes, kind)
        if basis is None or all_codes is None:
            raise FDAEError(f"there are no {kind} codes to edit: the model has a single concept")
        if len(codes) != 1:
            raise FDAEError(f"an edit starts from the codes of one image, not of {len(codes)}: pick one, codes[0]")
        if all_codes.shape[1:] != basis.mean.shape:
            raise FDAEError(
                f"{kind} codes of shape {tuple(all_codes.shape[1:])} are another model's: this basis is for "
                f"{tuple(basis.mean.shape)}"
            )
        if not 0 <= concept < len(basis.mean):
            raise FDAEError(f"there is no concept {concept}: this model has concepts 0 to {len(basis.mean) - 1}")
        return basis, all_codes[0, concept].float().cpu()


def _fit_kind(codes: torch.Tensor, num_components: int, num_clusters: int, seed: int) -> KindBasis:
    """Fit the codes (n, N, d) of one kind, concept by concept."""
    from sklearn.cluster import KMeans  # only a fit needs scikit-learn: importing the package does not load it
    from sklearn.decomposition import PCA

    columns: list[tuple[np.ndarray, ...]] = []
    for code in codes.detach().cpu().double().numpy().swapaxes(0, 1):  # (n, d)
        pca = PCA(min(num_components, code.shape[1]), svd_solver="full").fit(code)
        centers = KMeans(num_clusters, n_init=1, random_state=seed).fit(code).cluster_centers_
        order = pca.transform(centers)[:, 0].argsort(kind="stable")
        columns.append((pca.mean_, pca.components_, np.sqrt(pca.explained_variance_), centers[order]))
    return KindBasis(*(torch.from_numpy(np.stack(column)).float() for column in zip(*columns, strict=True)))


def _replace(codes: FDAECodes, kind: CodeKind, concept: int, values: torch.Tensor) -> FDAECodes:
    """Copies of one image's codes with one code replaced by each of the values (V, d)."""
    copies = codes.repeat(len(values))
    edited: torch.Tensor = getattr(copies, kind)  # a copy: `repeat` shares no memory
    edited[:, concept] = values.to(edited)
    return copies


def basis_file(variant: str | None = None) -> str:
    """Return the name of the file with the basis of a variant of a model's weights."""
    return BASIS_FILE if variant is None else f"{Path(BASIS_FILE).stem}.{variant}{Path(BASIS_FILE).suffix}"


def _find_file(model: str | os.PathLike, revision: str | None, variant: str | None) -> Path:
    """The file in a folder or, downloaded, of a Hub repository."""
    check_folder(model)
    name = basis_file(variant)
    flags = f"--model {model}" if variant is None else f"--model {model} --variant {variant}"
    missing = (
        f"{model} has no {name}: make it with training/fit_basis.py {flags} --dataset ... "
        "(CodeBasis.fit on the codes of a data set, then save_pretrained)"
    )
    if Path(model).is_dir():
        if not (path := Path(model) / name).is_file():
            raise FDAEError(missing)
        return path
    try:
        return Path(hf_hub_download(str(model), name, revision=revision))
    except RemoteEntryNotFoundError as error:
        raise FDAEError(missing) from error
    except (OSError, ValueError, HTTPError) as error:
        reason = explain_loading_error(error, model, (), revision) or first_line(error)
        raise FDAEError(f"cannot load the basis of {model}: {reason}") from error
