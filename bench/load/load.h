/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every load has: when to stop, how fast to go, where to run, and one line of JSON at the end.
 *
 *	-n COUNT    operations, then stop
 *	-t SECONDS  seconds, then stop (with neither: until SIGTERM)
 *	-r RATE     operations a second at most
 *	-c CPU      the only CPU to run on
 *	-w          wait for a line on stdin before the first operation
 */
#ifndef LOAD_H
#define LOAD_H

#define _GNU_SOURCE
#include <err.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct load {
	const char *name;
	long count;
	double seconds, rate;
	long step; /* operations between two looks at the clock, a power of two */
	long done;
	long long began_wall, began_cpu;
	int whose; /* RUSAGE_SELF, or also RUSAGE_CHILDREN */
};

static volatile sig_atomic_t load_stopped;

static void load_stop(int signo)
{
	(void)signo;
	load_stopped = 1;
}

static inline long long load_wall(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static long long load_spent(int who)
{
	struct rusage use;

	getrusage(who, &use);
	return (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000000LL +
	       (use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1000LL;
}

static long long load_cpu(const struct load *load)
{
	return load_spent(RUSAGE_SELF) + (load->whose == RUSAGE_CHILDREN ? load_spent(RUSAGE_CHILDREN) : 0);
}

/* Reads the options; what is left of argv starts at optind. */
static void load_begin(struct load *load, int argc, char **argv)
{
	struct sigaction stop = {.sa_handler = load_stop};
	bool wait = false;
	cpu_set_t cpus;
	int option;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGINT, &stop, NULL);
	while ((option = getopt(argc, argv, "n:t:r:c:w")) != -1) {
		switch (option) {
		case 'n':
			load->count = atol(optarg);
			break;
		case 't':
			load->seconds = atof(optarg);
			break;
		case 'r':
			load->rate = atof(optarg);
			break;
		case 'c':
			CPU_ZERO(&cpus);
			CPU_SET(atoi(optarg), &cpus);
			if (sched_setaffinity(0, sizeof(cpus), &cpus))
				err(1, "cpu %s", optarg);
			break;
		case 'w':
			wait = true;
			break;
		default:
			errx(2, "usage: %s [-n COUNT] [-t SECONDS] [-r RATE] [-c CPU] [-w]", argv[0]);
		}
	}
	if (load->rate && load->rate < 100000)
		load->step = 1;
	if (wait && getchar() == EOF)
		exit(1);
	load->began_wall = load_wall();
	load->began_cpu = load_cpu(load);
}

static bool load_check(struct load *load)
{
	long long now = load_wall();

	if (load_stopped || (load->seconds && now - load->began_wall >= load->seconds * 1e9))
		return false;
	if (load->rate) {
		long long due = load->began_wall + (long long)(load->done / load->rate * 1e9);

		/* far ahead: sleep; close: spin, for no sleep is that short */
		while (now < due && !load_stopped) {
			long long ahead = due - now - 100000;
			struct timespec rest = {ahead / 1000000000, ahead % 1000000000};

			if (ahead > 0)
				nanosleep(&rest, NULL);
			now = load_wall();
		}
	}
	return true;
}

/* Whether to do one more operation. */
static inline bool load_goes_on(struct load *load)
{
	if (load->count && load->done >= load->count)
		return false;
	if ((load->done & (load->step - 1)) == 0 && !load_check(load))
		return false;
	load->done++;
	return true;
}

static int load_end(struct load *load)
{
	long long cpu = load_cpu(load) - load->began_cpu;
	long long wall = load_wall() - load->began_wall;
	double ops = load->done ? load->done : 1;

	printf("{\"load\": \"%s\", \"ops\": %ld, \"wall_ns\": %lld, \"wall_ns_per_op\": %.1f, "
	       "\"cpu_ns_per_op\": %.1f}\n",
	       load->name, load->done, wall, wall / ops, cpu / ops);
	return 0;
}

#endif
