"""A pretend accelerator: tensors with values on the CPU that behave as if they were on a device called ``gpu:0``.

    with SimulatedAccelerator() as gpu:
        pipeline.to("gpu")
        gpu.forget()
        pipeline(images)
        gpu.events  # Counter of (kind, place): each transfer and each wait, with the line that caused it

As on a real accelerator, an operation on tensors of both devices raises, and so does a draw on the device from a CPU
generator. Recorded are

- ``wait``: the host reads a value of the device: `.item()`, `bool()`, a mask as an index, `nonzero`;
- ``copy to device, blocking``, ``copy to device`` (``non_blocking=True``) and ``copy to host``.

Kernels, streams and their order are not simulated. The device is torch's third-party backend ("privateuse1"), which a
process can set up only once, and some functions of torch are replaced: use it in a process of its own.
"""

import contextlib
import traceback
from collections import Counter
from collections.abc import Iterator

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "gpu"
WAIT, BLOCKING, COPY, TO_HOST = "wait", "copy to device, blocking", "copy to device", "copy to host"
# Operations whose result the host needs, or whose size depends on values.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "is_nonzero"}


class DeviceMismatchError(RuntimeError):
    """An operation got tensors of both devices, or a generator of the other one."""


class SimulatedTensor(torch.Tensor):
    """A tensor that says ``gpu:0``; `value` is the tensor on the CPU that holds its values."""

    value: torch.Tensor

    @staticmethod
    def __new__(cls, value: torch.Tensor, requires_grad: bool = False):
        value = _value(value)
        layout = {"strides": value.stride(), "storage_offset": value.storage_offset(), "dtype": value.dtype}
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, value.shape, **layout, device=torch.device(NAME, 0), requires_grad=requires_grad
        )
        tensor.value = value
        return tensor

    def __init__(self, value: torch.Tensor, requires_grad: bool = False):
        pass

    def __repr__(self, *, tensor_contents=None):
        return f"SimulatedTensor({self.value})"

    def __deepcopy__(self, memo):
        copy = SimulatedTensor(self.value.detach().clone())
        return torch.nn.Parameter(copy, self.requires_grad) if isinstance(self, torch.nn.Parameter) else copy

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def tolist(self):
        _record(WAIT)
        return self.value.tolist()


class SimulatedAccelerator(TorchDispatchMode):
    """Context in which the device exists, with what was recorded since it was entered or since `forget`."""

    def __init__(self):
        super().__init__()
        self.events: Counter[tuple[str, str]] = Counter()

    def __enter__(self):
        global _active
        _set_up()
        _active = self
        return super().__enter__()

    def __exit__(self, *error):
        global _active
        _active = None
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        is_ours = any(isinstance(leaf, SimulatedTensor) for leaf in tree_leaves((args, kwargs)))
        return _run(func, args, kwargs) if is_ours or _is_ours(kwargs.get("device")) else func(*args, **kwargs)

    def forget(self) -> None:
        self.events.clear()

    def count(self, *kinds: str) -> int:
        """How often these kinds were recorded; all of them if none is named."""
        return sum(number for (kind, _), number in self.events.items() if not kinds or kind in kinds)


_active: SimulatedAccelerator | None = None


def _record(kind: str) -> None:
    if _active is not None:
        _active.events[kind, _place()] += 1


def _place() -> str:
    """The innermost line of the package, and that of another library below it, which caused an event."""
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_stack(None)]  # innermost first
    ours = [f"{name.split('/fdae_diffusers/')[-1]}:{line}" for name, line in frames if "/fdae_diffusers/" in name]
    libraries = [
        f"{name.split('site-packages/')[-1]}:{line}"
        for name, line in frames
        if "site-packages" in name and "/site-packages/torch/" not in name and "pytest" not in name
    ]
    return " via ".join([*ours[:1], *libraries[:1]]) or "?"


def _is_ours(device) -> bool:
    return device is not None and torch.device(device).type == NAME


def _value(tensor):
    return tensor.value if isinstance(tensor, SimulatedTensor) else tensor


def _run(func, args, kwargs):
    """Check the devices of an operation, record what it transfers or waits for, and compute it on the CPU."""
    name, device = func.overloadpacket.__name__, kwargs.get("device")
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    ours = [leaf for leaf in leaves if isinstance(leaf, SimulatedTensor)]
    others = [leaf for leaf in leaves if not isinstance(leaf, SimulatedTensor)]
    to_ours = bool(ours) if device is None else _is_ours(device)
    generators = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Generator)]
    if to_ours and any(generator.device.type == "cpu" for generator in generators):
        raise DeviceMismatchError(f"{name} on {NAME} got a CPU generator at {_place()}")
    _record_events(name, args, kwargs, ours, others, to_ours)

    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    kwargs = {key: value for key, value in kwargs.items() if key != "pin_memory"}
    with torch.no_grad():
        output = func(*tree_map(_value, args), **tree_map(_value, kwargs))
    if name == "_local_scalar_dense" or not to_ours:
        return output
    wrapped = tree_map(lambda x: SimulatedTensor(x) if isinstance(x, torch.Tensor) else x, output)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if ours and name != "_to_copy" else wrapped


def _record_events(name, args, kwargs, ours, others, to_ours) -> None:
    if ours and name in WAITING:
        _record(WAIT)
    if name == "_to_copy":
        if ours and not to_ours:
            _record(TO_HOST)
        elif not ours and to_ours:
            _record(COPY if kwargs.get("non_blocking") else BLOCKING)
    elif name in ("copy_", "_foreach_copy_") and ours and others:
        target = args[0] if name == "copy_" else args[0][0]
        blocking = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
        _record(TO_HOST if not isinstance(target, SimulatedTensor) else BLOCKING if blocking else COPY)
    elif ours and name in ("index", "index_put", "index_put_", "_index_put_impl_"):
        indices = [index for index in args[1] if isinstance(index, torch.Tensor)]
        if any(index.dtype == torch.bool for index in indices):
            _record(WAIT)
        if any(not isinstance(index, SimulatedTensor) for index in indices):
            _record(BLOCKING)
    elif ours and any(other.ndim for other in others) and not name.startswith("_foreach"):
        shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (ours, others)]
        raise DeviceMismatchError(f"{name} got {NAME} tensors {shapes[0]} and CPU tensors {shapes[1]} at {_place()}")


_is_set_up = False
_library = torch.library.Library("_", "IMPL")  # of rules for all operations; they hold as long as it lives


def _set_up() -> None:
    """Register the device and complete what torch's Python backend lacks; once in a process."""
    global _is_set_up
    if _is_set_up:
        return
    _is_set_up = True
    _setup_privateuseone_for_python_backend(NAME)
    torch.autograd.set_multithreading_enabled(False)  # the backward pass where the dispatch mode is
    torch.__future__.set_swap_module_params_on_conversion(True)  # a parameter cannot change its device in place
    torch.inference_mode = torch.no_grad  # whose tensors have no version counter to keep
    # Autocast may be entered, but changes no type there: CUDA's rules are its own.
    _library.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    _replace_constructors()
    _replace_indexing()
    for name, function in {
        "get_amp_supported_dtype": lambda: [torch.bfloat16, torch.float16],
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "set_rng_state": lambda state, *_: torch.set_rng_state(state),
        "device": lambda *_: contextlib.nullcontext(),
        "current_device": lambda: 0,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "_is_in_bad_fork": lambda: False,
        "manual_seed_all": lambda seed: None,
        "synchronize": lambda *_: None,
        "empty_cache": lambda: None,
        "is_initialized": lambda: True,
    }.items():
        setattr(torch.gpu, name, function)


def _replace_constructors() -> None:
    """Let torch.tensor and torch.as_tensor, which no dispatch mode sees, make tensors of the device."""
    make, convert = torch.tensor, torch.as_tensor

    def tensor(data, *args, device=None, **kwargs):
        if _is_ours(device):
            return make(data, *args, **kwargs).to(NAME)
        return make(data, *args, device=device, **kwargs)

    def as_tensor(data, dtype=None, device=None):
        if isinstance(data, torch.Tensor):
            return data.to(device=data.device if device is None else device, dtype=dtype or data.dtype)
        return convert(data, dtype=dtype).to(NAME) if _is_ours(device) else convert(data, dtype=dtype, device=device)

    torch.tensor, torch.as_tensor = tensor, as_tensor


def _replace_indexing() -> None:
    """Copy lists that index a tensor of the device to it, as torch does out of a dispatch mode's sight."""
    get, set_ = torch.Tensor.__getitem__, torch.Tensor.__setitem__

    def convert(index):
        if isinstance(index, list):
            return torch.tensor(index, dtype=None if index else torch.long, device=NAME)
        return tuple(map(convert, index)) if isinstance(index, tuple) else index

    torch.Tensor.__getitem__ = lambda self, index: get(
        self, convert(index) if isinstance(self, SimulatedTensor) else index
    )
    torch.Tensor.__setitem__ = lambda self, index, value: set_(
        self, convert(index) if isinstance(self, SimulatedTensor) else index, value
    )


@contextlib.contextmanager
def as_accelerate_device() -> Iterator[None]:
    """Let accelerate run a single process on the simulated device inside the context."""
    from accelerate.state import PartialState

    PartialState(cpu=True)
    PartialState._shared_state["device"] = torch.device(NAME, 0)
    try:
        yield
    finally:
        PartialState._shared_state["device"] = torch.device("cpu")
