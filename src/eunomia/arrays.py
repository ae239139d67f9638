# SPDX-License-Identifier: BSD-2-Clause
"""Batches as numpy arrays, pyarrow tables and pandas data frames, for notebooks."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from itertools import repeat

from eunomia import meaning
from eunomia.columns.meanings import MEANINGS, is_plain
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas
    import pyarrow

    from eunomia.batch import Batch


def column(batch: Batch, name: str) -> np.ndarray[Any, Any]:
    """Return a column as a numpy array: numbers as they are, all else as :meth:`values` in objects.

    Times are integer nanoseconds since the epoch.
    """
    how = batch.schema.faces.get(name)
    if how is None:
        how = batch.schema.faces[name] = _face(batch, name)
    if how == "plain":
        return _array(batch)[name]
    return _WAYS[how](batch, name)


def _face(batch: Batch, name: str) -> str:
    """Return which of the functions below makes a column."""
    field = batch.schema.fields.get(name)
    if name == "time" or (field is not None and field.meaning == "time"):
        return "times" if field or batch.schema.time else "taken_times"
    if field is not None and field.bits is not None:
        return "numbers"
    plain = field is not None and field.code[-1] != "s" and not field.show
    if plain and field is not None and not MEANINGS[field.meaning].variable:
        return "plain"
    return "objects"


def _times(batch: Batch, name: str) -> np.ndarray[Any, Any]:
    field = batch.schema.fields.get(name) or batch.schema.time
    assert field is not None
    return _array(batch)[field.name].view("i8") + batch.clock


def _taken_times(batch: Batch, _name: str) -> np.ndarray[Any, Any]:
    import numpy as np

    return np.full(batch.count, batch.taken, np.int64)


def _numbers(batch: Batch, name: str) -> np.ndarray[Any, Any]:
    import numpy as np

    return np.asarray(batch.raw(name))


def _objects(batch: Batch, name: str) -> np.ndarray[Any, Any]:
    import numpy as np

    array = np.empty(batch.count, object)
    array[:] = batch.values(name)
    return array


def _array(batch: Batch) -> np.ndarray[Any, Any]:
    if batch.records is None:
        import numpy as np

        batch.records = np.frombuffer(batch.data, batch.schema.dtype())
    return batch.records


_WAYS = {"times": _times, "taken_times": _taken_times, "numbers": _numbers, "objects": _objects}


def to_arrow(batch: Batch) -> pyarrow.Table:
    """Return a pyarrow table of all columns; times are nanoseconds since the epoch.

    Raises :class:`ImportError` where the extra ``eunomia[arrow]`` is not installed.
    """
    pa = _extra("pyarrow", "arrow")
    return pa.table({name: _arrow(batch, pa, name) for name in batch.schema.columns})


def _arrow(batch: Batch, pa: Any, name: str) -> Any:
    field = batch.schema.fields.get(name)
    if name == "time" or (field is not None and field.bits is None and is_plain(field)):
        return pa.array(column(batch, name).copy())
    if batch.schema.column(name).is_named:
        values, index = batch.coded(name)
        texts = pa.array([None if v is None else str(meaning.valid(v)) for v in values], pa.string())
        places = pa.array(index if index is not None else [0] * batch.count, pa.int32())
        return pa.DictionaryArray.from_arrays(places, texts)
    values = [meaning.valid(value) for value in _plain(batch, name)]
    try:
        return pa.array(values, None if field is not None else pa.string())
    except (pa.ArrowException, OverflowError):  # names and numbers, or members of a union, side by side
        return pa.array(list(map(str, values)))


def to_pandas(batch: Batch) -> pandas.DataFrame:
    """Return a pandas data frame of all columns; times are nanoseconds since the epoch.

    Raises :class:`ImportError` where the extra ``eunomia[pandas]`` is not installed.
    """
    pd = _extra("pandas", "pandas")
    return pd.DataFrame({name: list(map(meaning.valid, _plain(batch, name))) for name in batch.schema.columns})


def _plain(batch: Batch, name: str) -> Iterable[Any]:
    if name == "time":
        return [int(t) for t in column(batch, "time")]
    if name in {"tracker", "stream"}:
        return repeat(getattr(batch, name), batch.count)
    return batch.values(name)


def _extra(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise ImportError(f"this needs {module}: pip install 'eunomia[{extra}]'") from None
