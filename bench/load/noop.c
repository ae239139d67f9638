/* SPDX-License-Identifier: BSD-2-Clause */
/* What execs starts: nothing at all, linked statically. */
int main(void)
{
	return 0;
}
