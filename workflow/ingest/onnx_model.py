"""Vectors of images by a model in an ONNX file; what the file does not say is in a YAML file beside it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import yaml
from pydantic import Field, ValidationError

from workflow.config.fields import Section
from workflow.errors import ConfigError, ImagesError, one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A batch of inputs stays below this, in the type of the model.
BATCH_BYTES, MOST_BATCH_ROWS = 16 * 2**20, 64
#: ONNX Runtime's names of the types that a model may take.
INPUT_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
}
#: Providers that are used where ONNX Runtime has them, the first first.
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
#: Numbers of channels by which the layout of an input is recognised.
CHANNELS = (1, 3, 4)


class ModelSettings(Section):
    """How images become the input of a model, and which output is the vector."""

    output: str | None = None
    """Name of the output; needed where there are several."""
    layout: Literal["nchw", "nhwc"] | None = None
    """Order of the dimensions of the input; by default told by where the channels are."""
    scale: float | None = None
    """What values are multiplied by; by default 1/255 for uint8, 1/65535 for uint16, else 1."""
    mean: float | tuple[float, ...] = 0.0
    """Subtracted after scaling: a number, or one for each channel."""
    std: float | tuple[float, ...] = 1.0
    """What is divided by then: a number, or one for each channel."""
    batch: int | None = Field(default=None, ge=1, le=4096)
    """Images of a batch; by default as many as 16 MiB hold, at most 64."""
    dtype: Literal["float16", "float32"] = "float32"
    """Type of the vectors."""


@dataclass(frozen=True)
class OnnxModel:
    """A model in a file; see `workflow.ingest.embedding.Embedder`.

    Each process opens it once, with one thread: the bits of a vector then
    depend on the kind of processor alone.
    """

    path: Path
    digest: str
    settings: ModelSettings
    input_name: str
    input_shape: tuple[int | None, ...]
    input_dtype: str
    output: str
    layout: str | None
    batch_rows: int

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return self.path.name

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Shape of the images that it takes, height, width and channels; None where some are open."""
        lengths = self._lengths
        return None if None in lengths else lengths  # type: ignore[return-value]

    @property
    def _lengths(self) -> tuple[int | None, ...]:
        """Lengths of the dimensions of an image, None where any will do."""
        lengths = self.input_shape[1:]
        return (*lengths[1:], lengths[0]) if self.layout == "nchw" else lengths

    def identity(self) -> dict[str, Any]:
        """Return the digest of the files of the model, and its settings."""
        return {"onnx": digest_of(self.path), "settings": self.settings.model_dump(mode="json")}

    def stored(self, folder: Path) -> OnnxModel:
        """Return itself: workers read the file."""
        del folder
        return self

    def embed(self, images: NDArray[Any]) -> NDArray[Any]:
        """Return the output of the model for a batch of images, of shape (n_images, ...)."""
        n_images, fixed = len(images), self.input_shape[0]
        batch = self._input(images)
        if fixed is not None and n_images < fixed:
            batch = np.concatenate([batch, np.repeat(batch[-1:], fixed - n_images, axis=0)])
        (found,) = _session(self.path, self.digest).run([self.output], {self.input_name: batch})
        with np.errstate(over="ignore"):
            vectors: NDArray[Any] = np.asarray(found)[:n_images].astype(self.settings.dtype)
        return vectors

    def _input(self, images: NDArray[Any]) -> NDArray[Any]:
        """Return images as the model takes them."""
        lengths = self._lengths
        if len(lengths) == 1:
            images = images.reshape(len(images), -1)
        elif len(lengths) == images.ndim and lengths[-1] == 1:
            images = images[..., None]
        shape = images.shape[1:]
        if len(shape) != len(lengths) or any(
            known not in (None, n) for known, n in zip(lengths, shape, strict=True)
        ):
            wanted = " x ".join("any" if n is None else str(n) for n in lengths)
            msg = f"{self.name} must be given images of {wanted}; got {' x '.join(map(str, shape))}. Bring the images to that shape, or give another model."
            raise ImagesError(msg)
        if self.input_dtype == "uint8":
            return self._in_layout(images).astype(np.uint8)
        if (scale := self.settings.scale) is None:
            scale = 1 / np.iinfo(images.dtype).max if images.dtype.kind == "u" else 1.0
        mean, std = (np.asarray(v, np.float32) for v in (self.settings.mean, self.settings.std))
        for key, value in (("mean", mean), ("std", std)):
            if value.ndim and value.shape != shape[-1:]:
                msg = f"`{key}` of {self.name} must be one number or {shape[-1]}, one for each channel; got {len(value)} in {settings_file(self.path)}. Correct it."
                raise ConfigError(msg)
        values = (images.astype(np.float32) * np.float32(scale) - mean) / std
        return self._in_layout(values.astype(self.input_dtype))

    def _in_layout(self, images: NDArray[Any]) -> NDArray[Any]:
        """Return images in the order of dimensions of the model."""
        return np.ascontiguousarray(np.moveaxis(images, -1, 1) if self.layout == "nchw" else images)


def open_model(path: str | Path) -> OnnxModel:
    """Open a model, and read what is said of it.

    Parameters
    ----------
    path : path
        An ONNX file; ``NAME.yaml`` beside ``NAME.onnx`` may say more, see `ModelSettings`.

    Returns
    -------
    OnnxModel
        The model.

    Raises
    ------
    ImagesError
        If there is no such file, or it is not a model with one input of images.
    ConfigError
        If what is said of it is wrong, or ONNX Runtime is not installed.
    """
    place = Path(path).absolute()
    if not place.is_file():
        msg = f"`--model` must be an ONNX file; {place} is not there. Give the path of NAME.onnx."
        raise ImagesError(msg)
    settings, digest = _read_settings(settings_file(place)), digest_of(place)
    session = _session(place, digest)
    inputs, outputs = session.get_inputs(), [output.name for output in session.get_outputs()]
    if (
        len(inputs) != 1
        or inputs[0].type not in INPUT_TYPES
        or len(inputs[0].shape) not in (2, 3, 4)
    ):
        has = ", ".join(f"{i.name} ({i.type} of shape {i.shape})" for i in inputs)
        msg = f"a model must have one input, of images as float or uint8; {place.name} has {has}. Export the part that takes images."
        raise ImagesError(msg)
    if settings.output is None and len(outputs) > 1:
        msg = f"the vector must be one output; {place.name} has {', '.join(outputs)}. Write for example `output: {outputs[0]}` into {settings_file(place)}."
        raise ConfigError(msg)
    if settings.output not in (None, *outputs):
        msg = f"`output` of {place.name} must be one of {', '.join(outputs)}; got {settings.output}. Correct {settings_file(place)}."
        raise ConfigError(msg)
    given = inputs[0]
    shape = tuple(n if isinstance(n, int) and n > 0 else None for n in given.shape)
    dtype = INPUT_TYPES[given.type]
    return OnnxModel(
        path=place,
        digest=digest,
        settings=settings,
        input_name=given.name,
        input_shape=shape,
        input_dtype=dtype,
        output=settings.output or outputs[0],
        layout=_layout(place, shape, settings),
        batch_rows=shape[0] or settings.batch or _batch_rows(shape, dtype),
    )


def settings_file(model: Path) -> Path:
    """Return the file that says more of a model."""
    return model.with_suffix(".yaml")


def digest_of(model: Path) -> str:
    """Return a digest of a model and of the files beside it that hold its weights, NAME.onnx*."""
    found = hashlib.blake2b(digest_size=16)
    for file in sorted(model.parent.glob(f"{model.name}*")):
        with file.open("rb") as opened:
            found.update(hashlib.file_digest(opened, "blake2b").digest())
    return found.hexdigest()


def _layout(
    place: Path, shape: tuple[int | None, ...], settings: ModelSettings
) -> Literal["nchw", "nhwc"] | None:
    """Return where the channels of an input are; None where it has no such dimension."""
    if len(shape) != 4 or settings.layout is not None:
        return settings.layout if len(shape) == 4 else None
    if shape[1] in CHANNELS:
        return "nchw"
    if shape[3] in CHANNELS:
        return "nhwc"
    msg = f"the input of a model must tell where its channels are; that of {place.name} has shape {shape}. Write `layout: nchw` or `layout: nhwc` into {settings_file(place)}."
    raise ConfigError(msg)


def _batch_rows(shape: tuple[int | None, ...], dtype: str) -> int:
    """Return the images of a batch: a power of two that depends on the model alone."""
    values = np.prod([n or 256 for n in shape[1:]])
    fitting = max(1, int(BATCH_BYTES // (values * np.dtype(dtype).itemsize)))
    return min(1 << (fitting.bit_length() - 1), MOST_BATCH_ROWS)


def _read_settings(place: Path) -> ModelSettings:
    """Read what is said of a model; defaults where there is no file."""
    if not place.exists():
        return ModelSettings()
    try:
        return ModelSettings.model_validate(yaml.safe_load(place.read_text(encoding="utf-8")) or {})
    except ValidationError as err:
        first = err.errors()[0]
        what = f"`{'.'.join(map(str, first['loc']))}`: {first['msg']}"
    except (OSError, ValueError, yaml.YAMLError) as err:
        what = one_line(err)
    known = ", ".join(ModelSettings.model_fields)
    msg = f"{place} must hold settings of a model ({known}); {what}. Correct it."
    raise ConfigError(msg)


@lru_cache(maxsize=2)
def _session(path: Path, digest: str) -> Any:
    """Open a model, once in each process."""
    del digest
    try:
        import onnxruntime
    except ImportError:
        msg = "`--model` must find ONNX Runtime, which reads ONNX files; it is not installed. Install it with: pip install overcluster[models]"
        raise ConfigError(msg) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Its warnings are about the speed of a model.
    options.log_severity_level = 3
    there = onnxruntime.get_available_providers()
    providers = [name for name in PROVIDERS if name in there]
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    # Its errors have no base of their own.
    except Exception as err:
        msg = f"`--model` must be an ONNX file that ONNX Runtime {onnxruntime.__version__} reads; {path} is not ({one_line(err)[:200]}). Export the model again."
        raise ImagesError(msg) from err
