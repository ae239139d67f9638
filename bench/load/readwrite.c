/* SPDX-License-Identifier: BSD-2-Clause */
/* Writes one byte and reads it back, an operation each: readwrite [options] FILE */
#include "load.h"

#include <fcntl.h>

int main(int argc, char **argv)
{
	struct load load = {.name = "readwrite", .step = 64};
	char byte = 'e';
	int fd;

	load_begin(&load, argc, argv);
	if (optind >= argc)
		errx(2, "no file given");
	fd = open(argv[optind], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		err(1, "%s", argv[optind]);
	while (load_goes_on(&load)) {
		ssize_t moved = load.done & 1 ? pwrite(fd, &byte, 1, 0) : pread(fd, &byte, 1, 0);

		if (moved != 1)
			err(1, "%s", argv[optind]);
	}
	return load_end(&load);
}
