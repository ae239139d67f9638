/* SPDX-License-Identifier: BSD-2-Clause */
/* Opens a file that exists, read-only, and closes it: openclose [options] FILE */
#include "load.h"

#include <fcntl.h>

int main(int argc, char **argv)
{
	struct load load = {.name = "openclose", .step = 64};

	load_begin(&load, argc, argv);
	if (optind >= argc)
		errx(2, "no file given");
	while (load_goes_on(&load)) {
		int fd = open(argv[optind], O_RDONLY);

		if (fd < 0)
			err(1, "%s", argv[optind]);
		close(fd);
	}
	return load_end(&load);
}
