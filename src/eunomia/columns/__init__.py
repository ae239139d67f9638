# SPDX-License-Identifier: BSD-2-Clause
"""What can be a column of a row, and all that faces need to know of it.

- :mod:`eunomia.columns.meanings`: what a field's values mean, a record a meaning;
- :mod:`eunomia.columns.joined`: what rows have of their container, pod and process, a record a column;
- :mod:`eunomia.columns.column`: :class:`~eunomia.columns.column.Column`, the one face of a field, a joined
  column, a time, a name. :meth:`eunomia.batch.Schema.column` finds it.
"""
