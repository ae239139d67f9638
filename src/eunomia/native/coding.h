/* SPDX-License-Identifier: BSD-2-Clause */
/* The few distinct numbers of a column, found as its rows are copied: they are in the cache then. */
#ifndef EUNOMIA_CODING_H
#define EUNOMIA_CODING_H

#include "columns.h"

enum { CODES = 256, CODE_SLOTS = 1024 };

struct coding {
	uint64_t values[CODES];
	uint16_t slots[CODE_SLOTS];	/* of the value + 1, 0 for an empty slot */
	uint64_t seed;
	uint32_t *index;	/* of each row; not written where there is one value */
	uint32_t found, last;
	int has_more;		/* than CODES: then there is no index */
};

static inline void coding_start(struct coding *coding, uint32_t *index)
{
	memset(coding->slots, 0, sizeof(coding->slots));
	coding->seed = hash_seed();
	coding->index = index;
	coding->found = coding->last = 0;
	coding->has_more = 0;
}

/* Takes a number that is not that of the row before. */
static inline void coding_change(struct coding *coding, uint64_t value, size_t row)
{
	size_t at = mixed(coding->seed, value) & (CODE_SLOTS - 1);

	for (; coding->slots[at]; at = (at + 1) & (CODE_SLOTS - 1))
		if (coding->values[coding->slots[at] - 1] == value)
			break;
	if (!coding->slots[at]) {
		if (coding->found == CODES) {
			coding->has_more = 1;
			return;
		}
		if (coding->found == 1)
			memset(coding->index, 0, row * sizeof(*coding->index));
		coding->values[coding->found++] = value;
		coding->slots[at] = coding->found;
	}
	coding->last = coding->slots[at] - 1;
	coding->index[row] = coding->last;
}

static inline void coding_take(struct coding *coding, uint64_t value, size_t row)
{
	if (coding->has_more)
		return;
	if (!coding->found || value != coding->values[coding->last])
		coding_change(coding, value, row);
	else if (coding->found > 1)
		coding->index[row] = coding->last;
}

#endif
