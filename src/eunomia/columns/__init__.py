# SPDX-License-Identifier: BSD-2-Clause
"""The catalogue of columns: everything that a row can show.

- :mod:`eunomia.columns.meanings`: the meanings of fields' values, one record each;
- :mod:`eunomia.columns.joined`: columns of a row's container, pod and process, one record each;
- :mod:`eunomia.columns.column`: :class:`~eunomia.columns.column.Column`, the common interface of fields, joined
  columns, times and names. :meth:`eunomia.stream_schema.Schema.column` finds it.
"""
