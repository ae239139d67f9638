// SPDX-License-Identifier: BSD-2-Clause
/* acts WORD ARGUMENTS: things that processes do, for tests to look for. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static char **words;

static void check(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(99);
	}
}

static void in_thread(void *(*act)(void *))
{
	pthread_t thread;

	check(!pthread_create(&thread, NULL, act, NULL), "pthread_create");
	pthread_join(thread, NULL);
}

/* A ring of io_uring, by the system calls themselves. */
static struct io_uring_params ring;
static struct io_uring_sqe *requests;
static char *ring_memory;
static int ring_fd;

static void make_ring(void)
{
	int none = -1;

	ring_fd = syscall(SYS_io_uring_setup, 4, &ring);
	check(ring_fd >= 0, "io_uring_setup");
	ring_memory = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, IORING_OFF_SQ_RING);
	requests = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, IORING_OFF_SQES);
	check(ring_memory != MAP_FAILED && (void *)requests != MAP_FAILED, "mmap of a ring");
	check(!syscall(SYS_io_uring_register, ring_fd, IORING_REGISTER_FILES, &none, 1), "io_uring_register");
}

/* Hands one request in and waits for its result. */
static int by_ring(struct io_uring_sqe request)
{
	unsigned *tail = (void *)(ring_memory + ring.sq_off.tail), *head = (void *)(ring_memory + ring.cq_off.head);
	struct io_uring_cqe *results = (void *)(ring_memory + ring.cq_off.cqes);
	unsigned at = *tail & (ring.sq_entries - 1);
	int result;

	requests[at] = request;
	((unsigned *)(ring_memory + ring.sq_off.array))[at] = at;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	check(syscall(SYS_io_uring_enter, ring_fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1, "io_uring_enter");
	result = results[*head & (ring.cq_entries - 1)].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return result;
}

static void open_by_ring(const char *path)
{
	struct open_how how = { .flags = O_RDWR, .resolve = RESOLVE_IN_ROOT };
	struct io_uring_sqe request = { .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (unsigned long)path };
	struct io_uring_sqe second = { .opcode = IORING_OP_OPENAT2, .addr = (unsigned long)path, .len = sizeof(how),
				       .off = (unsigned long)&how };

	make_ring();
	by_ring(request);
	request.flags = IOSQE_ASYNC;	/* by a thread of the kernel's */
	request.open_flags = O_WRONLY | O_APPEND;
	by_ring(request);
	request.flags = 0;
	request.file_index = 1;		/* into the ring's own table */
	request.open_flags = O_RDONLY | O_NOFOLLOW;
	by_ring(request);
	second.fd = open("/", O_PATH);
	by_ring(second);
	request.file_index = 0;
	request.addr = (unsigned long)"/no/such";
	by_ring(request);
}

#ifdef __x86_64__
/* By the 32-bit ABI, whose pointers have to be short. */
static long ia32(long number, long a, long b, long c, long d)
{
	long ret;

	__asm__ volatile("int $0x80" : "=a"(ret) : "0"(number), "b"(a), "c"(b), "d"(c), "S"(d)
			 : "memory", "r8", "r9", "r10", "r11");
	return ret;
}

static long short_copy(const void *from, size_t size)
{
	void *to = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	check(to != MAP_FAILED, "mmap");
	memcpy(to, from, size);
	return (long)to;
}

static void open_by_ia32(const char *path)
{
	unsigned long how[3] = { O_RDONLY | O_DIRECTORY };
	long name = short_copy(path, strlen(path) + 1), file;

	ia32(5, name, O_RDONLY, 0, 0);
	ia32(8, name, 0600, 0, 0);
	ia32(295, AT_FDCWD, name, O_RDWR | O_EXCL, 0);
	ia32(437, AT_FDCWD, name, short_copy(how, sizeof(how)), sizeof(how));
	file = ia32(5, short_copy("/", 2), O_PATH, 0, 0);
	ia32(295, file, short_copy("no/such", 8), O_WRONLY, 0);
}
#endif

#ifdef __x86_64__
static void exec_by_ia32(const char *path)
{
	__u32 argv[3] = { short_copy("one", 4), short_copy("two", 4) };

	ia32(11, short_copy(path, strlen(path) + 1), short_copy(argv, sizeof(argv)), 0, 0);
}
#endif

static void *exec_words(void *unused)
{
	(void)unused;
	execv(words[0], words);
	return NULL;
}

static void *exit_group_7(void *unused)
{
	(void)unused;
	_exit(7);
}

static void *end_later_with_5(void *unused)
{
	(void)unused;
	usleep(50000);
	syscall(SYS_exit, 5);
	return NULL;
}

static void *sleep_on(void *unused)
{
	(void)unused;
	while (pause())
		;
	return NULL;
}

static volatile int go;

static void *end_when_told(void *unused)
{
	(void)unused;
	while (!go)
		;
	syscall(SYS_exit, 0);
	return NULL;
}

static void *getppids(void *count)
{
	for (long i = 0; i < (long)count; i++)
		syscall(SYS_getppid);
	return NULL;
}

/* Refuses one system call with EPERM from here on. */
static void refuse(int number)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(*code), code };

	check(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	check(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), "seccomp");
}

static void act(const char *word)
{
	pid_t child = 0;
	int fd;

	if (!strcmp(word, "exec-from-thread")) {
		in_thread(exec_words);
	} else if (!strcmp(word, "exit-group-from-thread")) {
		in_thread(exit_group_7);
	} else if (!strcmp(word, "leader-ends-first")) {
		pthread_t thread;

		check(!pthread_create(&thread, NULL, end_later_with_5, NULL), "pthread_create");
		syscall(SYS_exit, 3);
	} else if (!strcmp(word, "threads-end-together")) {
		pthread_t thread;

		for (int i = 0; i < 8; i++)
			check(!pthread_create(&thread, NULL, i % 2 ? sleep_on : end_when_told, NULL), "pthread_create");
		go = 1;
		_exit(0);
	} else if (!strcmp(word, "vfork")) {
		child = vfork();
		if (!child) {
			execv(words[0], words);
			_exit(98);
		}
	} else if (!strcmp(word, "posix-spawn")) {
		check(!posix_spawn(&child, words[0], NULL, NULL, words, environ), "posix_spawn");
	} else if (!strcmp(word, "memfd")) {
		char copy[65536];
		ssize_t got;
		int from = open(words[0], O_RDONLY);

		fd = memfd_create("nowhere", MFD_CLOEXEC);
		while ((got = read(from, copy, sizeof(copy))) > 0)
			check(write(fd, copy, got) == got, "write");
		fexecve(fd, words, environ);
	} else if (!strcmp(word, "execveat")) {	/* DIRECTORY FILE ARGV... */
		fd = open(words[0], O_PATH | O_DIRECTORY);
		syscall(SYS_execveat, fd, words[1], words + 2, environ, 0);
		_exit(97);
	} else if (!strcmp(word, "fexecve")) {
		fd = open(words[0], O_RDONLY);
		syscall(SYS_execveat, fd, "", words, environ, AT_EMPTY_PATH);
		_exit(97);
	} else if (!strcmp(word, "no-argv")) {
		syscall(SYS_execve, words[0], NULL, environ);
		_exit(97);
	} else if (!strcmp(word, "bad-pointers")) {
		syscall(SYS_execve, (char *)1, (char **)1, NULL);
		syscall(SYS_openat, AT_FDCWD, (char *)1, O_RDONLY);
	} else if (!strcmp(word, "getppid")) {	/* COUNT THREADS */
		pthread_t threads[64];
		int count = atoi(words[1]);

		for (int i = 0; i < count; i++)
			check(!pthread_create(&threads[i], NULL, getppids, (void *)atol(words[0])), "pthread_create");
		for (int i = 0; i < count; i++)
			pthread_join(threads[i], NULL);
	} else if (!strcmp(word, "close-nothing")) {	/* COUNT */
		for (long i = atol(words[0]); i; i--)
			syscall(SYS_close, -1);
	} else if (!strcmp(word, "refused")) {	/* COUNT */
		refuse(SYS_getuid);
		for (long i = atol(words[0]); i; i--)
			syscall(SYS_getuid);
	} else if (!strcmp(word, "ring-opens")) {	/* PATH: by io_uring, in five ways, the last of which fails */
		open_by_ring(words[0]);
	} else if (!strcmp(word, "refused-opens")) {	/* PATH: opened once, and three times refused */
		close(open(words[0], O_RDONLY));
		refuse(SYS_openat);
		for (int i = 0; i < 3; i++)
			close(open(words[0], O_RDONLY));
#ifdef __x86_64__
	} else if (!strcmp(word, "ia32")) {	/* COUNT: its getppid and its open are 64-bit's semget and fstat */
		for (long i = atol(words[0]); i; i--) {
			long getppid = 64, open = 5;

			__asm__ volatile("int $0x80" : "+a"(getppid) : : "memory");
			__asm__ volatile("int $0x80" : "+a"(open) : "b"(0), "c"(0) : "memory");
		}
		/* its fork is 64-bit's open: in the child, nothing but the end */
		__asm__ volatile("int $0x80" : "=a"(fd) : "a"(2) : "memory");
		if (!fd)
			_exit(0);
	} else if (!strcmp(word, "ia32-opens")) {	/* PATH: open, creat, openat, openat2 of it, openat of no/such in / */
		open_by_ia32(words[0]);
	} else if (!strcmp(word, "ia32-exec")) {	/* PATH: with the arguments one and two */
		exec_by_ia32(words[0]);
	} else if (!strcmp(word, "x32-opens")) {	/* PATH: open and openat, by numbers that not every kernel has */
		syscall(0x40000000 + 2, words[0], O_RDONLY | O_NOFOLLOW, 0);
		syscall(0x40000000 + 257, AT_FDCWD, words[0], O_WRONLY, 0);
	} else if (!strcmp(word, "x32")) {	/* COUNT: getppid, and rt_sigpending, by the x32 ABI */
		for (long i = atol(words[0]); i; i--) {
			syscall(0x40000000 + 110);
			syscall(0x40000000 + 522, 0, 0);
		}
#endif
	} else {
		fprintf(stderr, "acts: no word %s\n", word);
		exit(96);
	}
	if (child)
		waitpid(child, NULL, 0);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 95;
	words = argv + 2;
	act(argv[1]);
	return 0;
}
