# SPDX-License-Identifier: BSD-2-Clause
"""One struct with every shape that C has, and how C itself reads each part of it."""

STRUCT = r"""
#include <eunomia/types.h>

enum colour { RED, GREEN = 5, BLUE = 1000000 };
enum result { FAILED = -1, FINE = 0, BETTER = 7 };
enum __attribute__((packed)) tiny { NEITHER = -3, BOTH = 100 };
enum wide { SMALL = 3, LARGE = 0x100000001ll };
typedef const volatile unsigned short constant_t;
typedef constant_t again_t;
typedef again_t more_t;

struct point { __s16 x, y; };
struct __attribute__((packed)) tight { __u8 a; __u32 b; __u16 c; };
struct wide_aligned { __u8 a; } __attribute__((aligned(32)));

struct shapes {
	__u8 u8; __s8 s8; __u16 u16; __s16 s16; __u32 u32; __s32 s32; __u64 u64; __s64 s64;
	unsigned long ulong_; long long_; short short_; char letter; signed char signed_char; unsigned char uchar;
	_Bool flag;
	float f; double d;
	enum colour colour; enum result result; enum tiny tiny; enum wide wide;
	char comm[16];
	unsigned char raw[6];
	__s8 deltas[4];
	_Bool flags[3];
	__u16 list[3];
	double doubles[2];
	__s16 grid[2][3];
	__u32 cube[2][2][2];
	char names[2][4];
	enum colour colours[2];
	struct point points[3];
	struct point point;
	struct { struct point inner; __u64 deep; } nested;
	struct { __u32 anonymous_a; union { __u32 anonymous_b; __u16 half; }; };
	union { __u32 word; __u8 bytes[4]; } either;
	unsigned one : 1; unsigned two : 2; int five : 5; unsigned : 3; unsigned twenty : 20;
	__u64 b33 : 33; __s64 b31 : 31;
	__u8 lone : 3;
	__u16 plain_between;
	__s8 signed_bit : 1;
	_Bool truth : 1;
	enum colour painted : 4;
	struct {
		__u8 start : 3; unsigned crossing : 30; int signed_crossing : 17; __u64 long_one : 47; __u64 nine : 62; int crosser : 31; __s64 long_crosser : 60; __s16 spill : 13;
	} __attribute__((packed)) bits;
	void *pointer;
	const char *text_pointer;
	struct shapes *self;
	more_t chain;
	struct tight tight;
	struct wide_aligned aligned;
	unsigned __int128 huge;
	time_ns_t other_time;
	duration_ns_t duration;
	cgroup_id_t cgroup_id;
	errno_t err; signal_t sig; syscall_t call; capability_t cap; open_flags_t oflags; device_t dev;
	ipv4_t v4; port_be_t port; hex32_t h32; hex64_t h64; kstack_id_t kstack; ustack_id_t ustack;
	ipv6_t v6; ip_t ip;
	pid_t pid; uid_t uid; gid_t gid; umode_t mode;
	ipv4_t v4s[2];
	__u32 stream; __u32 container; __u32 tracker;
	__u32 secret hidden doc("not for all");
	__u8 tail[];
} doc("every shape");
"""

# column -> what C says its value is; kinds: d number, u unsigned, x hex of an integer, g float, s text,
# b bytes in hex. "[..]" kinds are lists.
VALUES = {
    "u8": "u:v.u8", "s8": "d:v.s8", "u16": "u:v.u16", "s16": "d:v.s16", "u32": "u:v.u32", "s32": "d:v.s32",
    "u64": "u:v.u64", "s64": "d:v.s64", "ulong_": "u:v.ulong_", "long_": "d:v.long_", "short_": "d:v.short_",
    "signed_char": "d:v.signed_char", "uchar": "u:v.uchar", "f": "g:v.f", "d": "g:v.d",
    "deltas": "[d]:v.deltas:4", "list": "[u]:v.list:3", "doubles": "[g]:v.doubles:2",
    "comm": "s:v.comm", "raw": "b:v.raw",
    "point.x": "d:v.point.x", "point.y": "d:v.point.y", "nested.inner.x": "d:v.nested.inner.x",
    "nested.inner.y": "d:v.nested.inner.y", "nested.deep": "u:v.nested.deep",
    "anonymous_a": "u:v.anonymous_a", "anonymous_b": "u:v.anonymous_b", "half": "u:v.half", "either": "b:v.either",
    "one": "u:v.one", "two": "u:v.two", "five": "d:v.five", "twenty": "u:v.twenty", "b33": "u:v.b33",
    "b31": "d:v.b31", "lone": "u:v.lone", "plain_between": "u:v.plain_between", "signed_bit": "d:v.signed_bit",
    "bits.start": "u:v.bits.start", "bits.crossing": "u:v.bits.crossing",
    "bits.signed_crossing": "d:v.bits.signed_crossing", "bits.long_one": "u:v.bits.long_one",
    "bits.nine": "u:v.bits.nine", "bits.crosser": "d:v.bits.crosser",
    "bits.long_crosser": "d:v.bits.long_crosser", "bits.spill": "d:v.bits.spill",
    "pointer": "x:(__u64)v.pointer", "text_pointer": "x:(__u64)v.text_pointer", "self": "x:(__u64)v.self",
    "chain": "u:v.chain", "tight.a": "u:v.tight.a", "tight.b": "u:v.tight.b", "tight.c": "u:v.tight.c",
    "aligned.a": "u:v.aligned.a", "huge": "b:v.huge", "duration": "u:v.duration", "cgroup_id": "u:v.cgroup_id",
    "h32": "x:v.h32", "h64": "x:v.h64", "kstack": "d:v.kstack", "ustack": "d:v.ustack",
    "pid": "u:v.pid", "uid": "u:v.uid", "gid": "u:v.gid",
    "port": "u:__builtin_bswap16(v.port)",
    "stream_": "u:v.stream", "container_": "u:v.container", "tracker_": "u:v.tracker", "secret": "u:v.secret",
}  # fmt: skip

_FORMAT = {"d": '"%lld", (long long)({})', "u": '"%llu", (unsigned long long)({})',
           "x": '"\\"0x%llx\\"", (unsigned long long)({})', "g": '"\\"%.17g\\"", (double)({})'}  # fmt: skip


def reader() -> str:
    """Return a C program that reads records and prints what C sees in them: one JSON object a record."""
    lines = []
    for name, how in VALUES.items():
        kind, expression, *count = how.split(":")
        lines.append(f'printf("\\"{name}\\": ");')
        if kind == "s":
            lines.append(f"hex({expression}, strnlen({expression}, sizeof({expression})));")
        elif kind == "b":
            lines.append(f"hex(&{expression}, sizeof({expression}));")
        elif kind.startswith("["):
            one = _FORMAT[kind[1]].format(f"{expression}[i]")
            loop = f'for (int i = 0; i < {count[0]}; i++) {{ if (i) printf(", "); printf({one}); }}'
            lines.append(f'printf("["); {loop} printf("]");')
        else:
            lines.append(f"printf({_FORMAT[kind].format(expression)});")
        lines.append('printf(", ");')
    body = "\n".join(lines)
    return f"""
{STRUCT}
#include <stdio.h>
#include <string.h>
static void hex(const volatile void *at, size_t size)
{{
	putchar('"');
	for (size_t i = 0; i < size; i++) printf("%02x", ((const unsigned char *)at)[i]);
	putchar('"');
}}
int main(void)
{{
	struct shapes v;
	while (fread(&v, sizeof(v), 1, stdin) == 1) {{
		printf("{{");
		{body}
		printf("\\"sizeof\\": %zu}}\\n", sizeof(v));
	}}
	return 0;
}}
"""
