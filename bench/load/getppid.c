/* SPDX-License-Identifier: BSD-2-Clause */
/* The cheapest system call there is: getppid [options] */
#include "load.h"

#include <sys/syscall.h>

int main(int argc, char **argv)
{
	struct load load = {.name = "getppid", .step = 64};

	load_begin(&load, argc, argv);
	while (load_goes_on(&load))
		syscall(SYS_getppid);
	return load_end(&load);
}
