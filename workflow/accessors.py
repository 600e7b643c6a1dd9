"""``import overcluster.accessors`` lets xarray run: ``images.overcluster.run(out="my-run")``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

from workflow.entry import run

if TYPE_CHECKING:
    from pathlib import Path

    from workflow.api import Run


@xr.register_dataset_accessor("overcluster")
@xr.register_dataarray_accessor("overcluster")
class Accessor:
    """Finds clusters of the images that an array, or the variable ``images`` of a dataset, holds.

    Parameters
    ----------
    data : xarray.DataArray or xarray.Dataset
        The images: the dimension ``sample``, or the first one, counts them.
    """

    def __init__(self, data: xr.DataArray | xr.Dataset) -> None:
        self._data = data

    def run(self, out: Path | str, **options: Any) -> Run:
        """Find the clusters of the images: `workflow.run` of them.

        Parameters
        ----------
        out : path
            The run folder.
        **options
            What `workflow.run` takes besides images and folder.

        Returns
        -------
        Run
            The run.

        Raises
        ------
        workflow.errors.WorkflowError
            As `workflow.run`.
        """
        return run(self._data, out, **options)
