/* SPDX-License-Identifier: BSD-2-Clause */
/* Starts a program and waits for its end, CPU of both counted: execs [options] PROGRAM [ARGUMENT]... */
#include "load.h"

#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

extern char **environ;

int main(int argc, char **argv)
{
	struct load load = {.name = "execs", .step = 1, .whose = RUSAGE_CHILDREN};

	load_begin(&load, argc, argv);
	if (optind >= argc)
		errx(2, "no program given");
	while (load_goes_on(&load)) {
		pid_t child;
		int error = posix_spawn(&child, argv[optind], NULL, NULL, argv + optind, environ);

		if (error)
			errx(1, "%s: %s", argv[optind], strerror(error));
		while (waitpid(child, NULL, 0) < 0)
			;
	}
	return load_end(&load);
}
