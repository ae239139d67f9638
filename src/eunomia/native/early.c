// SPDX-License-Identifier: BSD-2-Clause
/*
 * Reads files about new cgroups immediately, in its own thread without the GIL.
 *
 * A runtime may delete its files soon after the container ends, and on an overloaded machine Python may be
 * seconds late. The thread only opens, reads and keeps files at places that Python has named; Python parses them.
 */
#define _GNU_SOURCE
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEPT 1024		/* files */
#define KEPT_BYTES (16 << 20)	/* of all of them */
#define FILE_BYTES (1 << 20)	/* of one */
#define FRESH 64		/* files read while the loop holds the lock */
#define RETRY 1			/* ms until the lock is tried again */
#define ID_LENGTH 64
#define PRIORITY -10		/* of the thread, which has next to nothing to do and must not wait for it */

struct kept {
	char *path;
	char *data;
	size_t size;
	int64_t written;	/* ns since the epoch */
};

struct eu_early {
	pthread_t thread;
	pthread_mutex_t lock;
	struct ring_buffer *ring;
	int epoll, stop;
	char *places;		/* what comes before an id and what behind it, a NUL behind each */
	size_t places_size;
	char *mine;		/* the thread's own copy */
	size_t mine_size;
	struct kept kept[KEPT];	/* a ring: `next` is the oldest */
	unsigned int next;
	size_t bytes;
	struct kept fresh[FRESH];	/* the thread's own: read, and not among `kept` yet */
	unsigned int fresh_count;
};

static void forget(struct eu_early *early, struct kept *kept)
{
	early->bytes -= kept->size;
	free(kept->path);
	free(kept->data);
	memset(kept, 0, sizeof(*kept));
}

/* Files are found by their paths: an older text of the same one is over, and so is one that is gone by now. */
static void forget_older(struct eu_early *early, const char *path)
{
	unsigned int i;

	for (i = 0; i < KEPT; i++)
		if (early->kept[i].path && !strcmp(early->kept[i].path, path))
			forget(early, &early->kept[i]);
}

static void keep(struct eu_early *early, struct kept *fresh)
{
	struct kept *kept;
	unsigned int i;

	forget_older(early, fresh->path);
	if (!fresh->data) {
		free(fresh->path);
		return;
	}
	for (i = 0; i < KEPT && early->bytes + fresh->size > KEPT_BYTES; i++)
		forget(early, &early->kept[(early->next + i) % KEPT]);
	kept = &early->kept[early->next];
	early->next = (early->next + 1) % KEPT;
	forget(early, kept);
	*kept = *fresh;
	early->bytes += fresh->size;
}

/* Hands over what was read. Waits for the lock only when there is no room for more. */
static void hand_over(struct eu_early *early)
{
	unsigned int i;

	if (!early->fresh_count)
		return;
	if (early->fresh_count == FRESH)
		pthread_mutex_lock(&early->lock);
	else if (pthread_mutex_trylock(&early->lock))
		return;
	for (i = 0; i < early->fresh_count; i++)
		keep(early, &early->fresh[i]);
	early->fresh_count = 0;
	pthread_mutex_unlock(&early->lock);
}

/* Takes over path and data; no data: there is no such file. */
static void add_fresh(struct eu_early *early, char *path, char *data, size_t size, int64_t written)
{
	early->fresh[early->fresh_count++] = (struct kept){ path, data, size, written };
	if (early->fresh_count == FRESH)
		hand_over(early);
}

static void read_early(struct eu_early *early, char *path)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	char *data = NULL;
	struct stat about;
	ssize_t got = 0;
	size_t size = 0;

	if (fd < 0 || fstat(fd, &about) || !S_ISREG(about.st_mode) || about.st_size > FILE_BYTES)
		goto out;
	data = malloc(about.st_size + 1);
	if (!data)
		goto out;
	while (size < (size_t)about.st_size && (got = read(fd, data + size, about.st_size - size)) > 0)
		size += got;
	if (got < 0 || !size)
		goto out;
	add_fresh(early, path, data, size, about.st_mtim.tv_sec * 1000000000LL + about.st_mtim.tv_nsec);
	close(fd);
	return;
out:
	if (fd >= 0)
		close(fd);
	free(data);
	/* What an earlier container of the same name left is not this one's. */
	add_fresh(early, path, NULL, 0, 0);
}

/*
 * Never waits for the lock once it has a copy: its holder may wait for a processor for longer than a file exists.
 */
static void copy_places(struct eu_early *early)
{
	char *places;

	if (!early->mine)
		pthread_mutex_lock(&early->lock);
	else if (pthread_mutex_trylock(&early->lock))
		return;
	places = early->places ? malloc(early->places_size) : NULL;
	if (places) {
		free(early->mine);
		early->mine = memcpy(places, early->places, early->places_size);
		early->mine_size = early->places_size;
	}
	pthread_mutex_unlock(&early->lock);
}

/* A record is where the text begins and its length (u32 each), and the cgroup's path. */
static int on_new(void *context, void *data, size_t size)
{
	struct eu_early *early = context;
	char name[256], *path;
	const char *text, *slash, *at, *id = name;
	size_t length;

	if (size <= 2 * sizeof(uint32_t))
		return 0;
	text = (const char *)data + 2 * sizeof(uint32_t);
	size -= 2 * sizeof(uint32_t);
	slash = memrchr(text, '/', size);
	if (!slash)
		return 0;
	length = text + size - (slash + 1);
	if (!length || length >= sizeof(name))
		return 0;
	memcpy(name, slash + 1, length);
	name[length] = 0;
	if (length > 6 && !strcmp(name + length - 6, ".scope"))
		name[length -= 6] = 0;
	if (length > ID_LENGTH && strspn(name + length - ID_LENGTH, "0123456789abcdef") == ID_LENGTH)
		id = name + length - ID_LENGTH;
	if (!strcmp(id, ".") || !strcmp(id, ".."))
		return 0;

	copy_places(early);
	for (at = early->mine; at < early->mine + early->mine_size;) {
		const char *before = at, *after = at + strlen(at) + 1;

		if (after >= early->mine + early->mine_size)
			break;
		at = after + strlen(after) + 1;
		if (asprintf(&path, "%s%s%s", before, id, after) >= 0)
			read_early(early, path);
	}
	hand_over(early);
	return 0;
}

static void *run(void *context)
{
	struct eu_early *early = context;
	struct epoll_event event;

	setpriority(PRIO_PROCESS, 0, PRIORITY);	/* on Linux: of this thread */
	for (;;) {
		int count = epoll_wait(early->epoll, &event, 1, early->fresh_count ? RETRY : -1);

		if (count < 0 && errno != EINTR)
			break;
		if (count > 0 && event.data.fd == early->stop)
			break;
		ring_buffer__consume(early->ring);
		hand_over(early);
	}
	return NULL;
}

static bool start(struct eu_early *early)
{
	sigset_t all, before;
	int err;

	/* Signals are the main thread's, whose sleep they end. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&early->thread, NULL, run, early);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return !err;
}

static void early_free(struct eu_early *early)
{
	unsigned int i;

	for (i = 0; i < KEPT; i++)
		forget(early, &early->kept[i]);
	for (i = 0; i < early->fresh_count; i++) {
		free(early->fresh[i].path);
		free(early->fresh[i].data);
	}
	free(early->places);
	free(early->mine);
	ring_buffer__free(early->ring);
	if (early->epoll >= 0)
		close(early->epoll);
	if (early->stop >= 0)
		close(early->stop);
	free(early);
}

/* Starts the thread; NULL where there can be none. The ring stays the caller's. */
struct eu_early *eu_early_open(int ring_fd)
{
	struct eu_early *early = calloc(1, sizeof(*early));
	struct epoll_event event = { .events = EPOLLIN };

	if (!early)
		return NULL;
	pthread_mutex_init(&early->lock, NULL);
	early->epoll = epoll_create1(EPOLL_CLOEXEC);
	early->stop = eventfd(0, EFD_CLOEXEC);
	early->ring = ring_buffer__new(ring_fd, on_new, early, NULL);
	if (early->epoll < 0 || early->stop < 0 || !early->ring)
		goto fail;
	event.data.fd = early->stop;
	if (epoll_ctl(early->epoll, EPOLL_CTL_ADD, early->stop, &event))
		goto fail;
	event.data.fd = ring_fd;
	if (epoll_ctl(early->epoll, EPOLL_CTL_ADD, ring_fd, &event) || !start(early))
		goto fail;
	return early;
fail:
	early_free(early);
	return NULL;
}

void eu_early_close(struct eu_early *early)
{
	uint64_t one = 1;

	while (write(early->stop, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	pthread_join(early->thread, NULL);
	early_free(early);
}

/* Sets where files are: pairs of what comes before an id and what behind it, a NUL behind each. */
int eu_early_places(struct eu_early *early, const char *pairs, size_t size)
{
	char *places = malloc(size + 1), *old;

	if (!places)
		return -ENOMEM;
	memcpy(places, pairs, size);
	pthread_mutex_lock(&early->lock);
	old = early->places;
	early->places = places;
	early->places_size = size;
	pthread_mutex_unlock(&early->lock);
	free(old);
	return 0;
}

/* Returns the size of what was kept of a file, -1 where nothing was; copies it where `room` suffices. */
long eu_early_find(struct eu_early *early, const char *path, char *out, size_t room, int64_t *ret)
{
	long size = -1;
	unsigned int i;

	pthread_mutex_lock(&early->lock);
	for (i = 1; i <= KEPT; i++) {
		struct kept *kept = &early->kept[(early->next + KEPT - i) % KEPT];

		if (kept->path && !strcmp(kept->path, path)) {
			size = kept->size;
			*ret = kept->written;
			if (kept->size <= room)
				memcpy(out, kept->data, kept->size);
			break;
		}
	}
	pthread_mutex_unlock(&early->lock);
	return size;
}
