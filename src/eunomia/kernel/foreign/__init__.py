# SPDX-License-Identifier: BSD-2-Clause
"""What serves objects of other projects alone: choosing their programs, finding what their buffers carry."""
