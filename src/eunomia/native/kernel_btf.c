// SPDX-License-Identifier: BSD-2-Clause
/*
 * The part of the running kernel's BTF that an object's relocations can ask for. libbpf 1.1 parses all of it
 * for each object, and for each struct that an object names looks through all of its 100,000 types: a
 * millisecond each time. Here the file is mapped (Linux 6.16) or read, gone through once, and the few types
 * that an object names are copied, with all that they hold by value. Types keep their names, sizes and
 * members, but pointers lead nowhere, and ids are others: not for objects that ask for the ids of kernel types.
 */
#define _GNU_SOURCE
#include "native.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char vmlinux[] = "/sys/kernel/btf/vmlinux";

struct kernel_btf {
	char *data;
	size_t size;
	bool is_mapped;
	const char *types, *strings;
	__u32 types_size, strings_size;
	__u32 count;		/* of types, with void, whose id is 0 */
	__u32 *offsets;		/* by id, in `types` */
};

static struct kernel_btf kernel;

void eu_forget_kernel_btf(void)
{
	if (kernel.is_mapped)
		munmap(kernel.data, kernel.size);
	else
		free(kernel.data);
	free(kernel.offsets);
	memset(&kernel, 0, sizeof(kernel));
}

static const struct btf_type *type_of(const struct kernel_btf *btf, __u32 id)
{
	return (const struct btf_type *)(btf->types + btf->offsets[id]);
}

static const char *name_of(const struct kernel_btf *btf, __u32 offset)
{
	return offset < btf->strings_size ? btf->strings + offset : "";
}

/* The bytes of a type's record; 0 for a kind that is not known. */
static size_t record_size(const struct btf_type *type)
{
	size_t count = btf_vlen(type), size = sizeof(*type);

	switch (btf_kind(type)) {
	case BTF_KIND_INT:
	case BTF_KIND_VAR:
	case BTF_KIND_DECL_TAG:
		return size + sizeof(__u32);
	case BTF_KIND_ARRAY:
		return size + sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return size + count * sizeof(struct btf_member);
	case BTF_KIND_ENUM:
		return size + count * sizeof(struct btf_enum);
	case BTF_KIND_ENUM64:
		return size + count * sizeof(struct btf_enum64);
	case BTF_KIND_FUNC_PROTO:
		return size + count * sizeof(struct btf_param);
	case BTF_KIND_DATASEC:
		return size + count * sizeof(struct btf_var_secinfo);
	case BTF_KIND_PTR:
	case BTF_KIND_FWD:
	case BTF_KIND_TYPEDEF:
	case BTF_KIND_VOLATILE:
	case BTF_KIND_CONST:
	case BTF_KIND_RESTRICT:
	case BTF_KIND_FUNC:
	case BTF_KIND_FLOAT:
	case BTF_KIND_TYPE_TAG:
		return size;
	default:
		return 0;
	}
}

static bool read_file(struct kernel_btf *btf, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t done = 0;
	ssize_t got = 1;
	struct stat about;

	if (fd < 0)
		return false;
	if (fstat(fd, &about) || about.st_size <= 0) {
		close(fd);
		return false;
	}
	btf->size = about.st_size;
	btf->data = mmap(NULL, btf->size, PROT_READ, MAP_PRIVATE, fd, 0);
	btf->is_mapped = btf->data != MAP_FAILED;
	if (!btf->is_mapped) {
		btf->data = malloc(btf->size);
		while (btf->data && done < btf->size && (got = read(fd, btf->data + done, btf->size - done)) > 0)
			done += got;
	}
	close(fd);
	return btf->is_mapped || (btf->data && done == btf->size);
}

/* Finds the sections and each type's record. */
static bool find_types(struct kernel_btf *btf)
{
	const struct btf_header *header = (const struct btf_header *)btf->data;
	__u32 room = 1 << 17;
	size_t at = 0, length;

	if (btf->size < sizeof(*header) || header->magic != BTF_MAGIC || header->hdr_len < sizeof(*header) ||
	    (__u64)header->hdr_len + header->type_off + header->type_len > btf->size ||
	    (__u64)header->hdr_len + header->str_off + header->str_len > btf->size || !header->str_len)
		return false;
	btf->types = btf->data + header->hdr_len + header->type_off;
	btf->types_size = header->type_len;
	btf->strings = btf->data + header->hdr_len + header->str_off;
	btf->strings_size = header->str_len;
	if (btf->strings[btf->strings_size - 1])
		return false;
	btf->offsets = malloc(room * sizeof(*btf->offsets));
	for (btf->count = 1; btf->offsets && at + sizeof(struct btf_type) <= btf->types_size; btf->count++) {
		if (btf->count == room) {
			__u32 *more = realloc(btf->offsets, (room *= 2) * sizeof(*more));

			if (!more)
				return false;
			btf->offsets = more;
		}
		length = record_size((const struct btf_type *)(btf->types + at));
		if (!length || at + length > btf->types_size)
			return false;
		btf->offsets[btf->count] = at;
		at += length;
	}
	return btf->offsets && at == btf->types_size;
}

static bool have_kernel_btf(void)
{
	if (kernel.offsets)
		return true;
	if (read_file(&kernel, vmlinux) && find_types(&kernel))
		return true;
	eu_forget_kernel_btf();
	return false;
}

/* What a name of one of the kernel's enumerations stands for; -1 where it has no such name. */
int eu_kernel_enum(const char *type, const char *name)
{
	if (!have_kernel_btf())
		return -1;
	for (__u32 id = 1; id < kernel.count; id++) {
		const struct btf_type *found = type_of(&kernel, id);

		if (btf_kind(found) != BTF_KIND_ENUM || strcmp(name_of(&kernel, found->name_off), type))
			continue;
		for (int i = 0; i < btf_vlen(found); i++)
			if (!strcmp(name_of(&kernel, btf_enum(found)[i].name_off), name))
				return btf_enum(found)[i].val;
	}
	return -1;
}

/* The id of one of the kernel's types, by its name and enum BTF_KIND_*; negative where there is none. */
int eu_kernel_type(const char *name, uint32_t kind)
{
	if (!have_kernel_btf())
		return -1;
	for (__u32 id = 1; id < kernel.count; id++) {
		const struct btf_type *type = type_of(&kernel, id);

		if (btf_kind(type) == kind && !strcmp(name_of(&kernel, type->name_off), name))
			return id;
	}
	return -1;
}

/* Where a member stands in one of the kernel's structs, in bytes; negative where there is none. */
int eu_kernel_member(const char *type, const char *name)
{
	int id = eu_kernel_type(type, BTF_KIND_STRUCT);
	const struct btf_type *found;

	if (id < 0)
		return -1;
	found = type_of(&kernel, id);
	for (int i = 0; i < btf_vlen(found); i++)
		if (!strcmp(name_of(&kernel, btf_members(found)[i].name_off), name))
			return btf_member_bit_offset(found, i) / 8;
	return -1;
}

/*
 * The ids of functions of the kernel's, whose names stand one after another, each with its NUL, and of their
 * prototypes; 0 for those that it has not. Returns 0, or -1 where the kernel has no BTF.
 */
int eu_kernel_functions(const char *names, size_t count, uint32_t *ids, uint32_t *prototypes)
{
	if (!have_kernel_btf())
		return -1;
	memset(ids, 0, count * sizeof(*ids));
	for (__u32 id = 1; id < kernel.count; id++) {
		const struct btf_type *type = type_of(&kernel, id);
		const char *found = name_of(&kernel, type->name_off), *name = names;

		if (btf_kind(type) != BTF_KIND_FUNC || found[0] != '_' || found[1] != '_')
			continue;
		for (size_t i = 0; i < count; i++, name += strlen(name) + 1)
			if (!strcmp(found, name)) {
				ids[i] = id;
				prototypes[i] = type->type;
			}
	}
	return 0;
}

/* A set of names, of which most that are asked for are not in it. */
struct names {
	char **slots;
	__u32 mask;
};

static __u32 hash_of(const char *name)
{
	__u32 hash = 2166136261u;	/* FNV-1a */

	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * 16777619;
	return hash;
}

/* Where a name is, or may be put. */
static char **slot_of(const struct names *names, const char *name)
{
	__u32 i = hash_of(name) & names->mask;

	while (names->slots[i] && strcmp(names->slots[i], name))
		i = (i + 1) & names->mask;
	return &names->slots[i];
}

static void free_names(struct names *names)
{
	for (__u32 i = 0; names->slots && i <= names->mask; i++)
		free(names->slots[i]);
	free(names->slots);
}

static bool is_wanted(const struct btf_type *type)
{
	return btf_is_composite(type) || btf_is_any_enum(type);
}

/* Puts together the names of the structs, unions and enumerations that an object knows. */
static bool local_names(const struct btf *btf, struct names *ret)
{
	__u32 count = btf__type_cnt(btf), room = 64;

	while (room < 2 * count)
		room *= 2;
	ret->mask = room - 1;
	ret->slots = calloc(room, sizeof(*ret->slots));
	if (!ret->slots)
		return false;
	for (__u32 id = 1; id < count; id++) {
		const struct btf_type *type = btf__type_by_id(btf, id);
		const char *name = btf__name_by_offset(btf, type->name_off), *flavour;
		char *bare, **slot;

		if (!*name || !is_wanted(type))
			continue;
		flavour = strstr(name, "___");	/* of one kernel's struct: libbpf leaves it off, too */
		bare = strndup(name, flavour ? (size_t)(flavour - name) : strlen(name));
		if (!bare)
			return false;
		slot = slot_of(ret, bare);
		if (*slot)
			free(bare);
		else
			*slot = bare;
	}
	return true;
}

struct buffer {
	char *data;
	size_t size, room;
};

static void *extend(struct buffer *buffer, size_t size)
{
	void *added;

	if (buffer->size + size > buffer->room) {
		size_t room = 2 * (buffer->size + size) + 4096;
		char *more = realloc(buffer->data, room);

		if (!more)
			return NULL;
		buffer->data = more;
		buffer->room = room;
	}
	added = buffer->data + buffer->size;
	buffer->size += size;
	return added;
}

struct part {
	const struct kernel_btf *from;
	__u32 *taken;		/* id in `from` -> id in the part, 0 where it is not in it */
	struct buffer order;	/* ids in `from`, in the order of the part */
	struct buffer types, strings;
};

static __u32 taken_count(const struct part *part)
{
	return part->order.size / sizeof(__u32);
}

/* Has a type be in the part. */
static bool take(struct part *part, __u32 id)
{
	__u32 *place;

	if (!id || part->taken[id])
		return true;
	if (id >= part->from->count || !(place = extend(&part->order, sizeof(*place))))
		return false;
	*place = id;
	part->taken[id] = taken_count(part);
	return true;
}

/* Has all be in the part that a type in it holds by value. */
static bool take_held(struct part *part, const struct btf_type *type)
{
	switch (btf_kind(type)) {
	case BTF_KIND_ARRAY:
		return take(part, btf_array(type)->type) && take(part, btf_array(type)->index_type);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		for (int i = 0; i < btf_vlen(type); i++)
			if (!take(part, btf_members(type)[i].type))
				return false;
		return true;
	case BTF_KIND_TYPEDEF:
	case BTF_KIND_CONST:
	case BTF_KIND_VOLATILE:
	case BTF_KIND_RESTRICT:
	case BTF_KIND_TYPE_TAG:
		return take(part, type->type);
	default:
		return true;
	}
}

static bool put_name(struct part *part, __u32 *offset)
{
	const char *name = name_of(part->from, *offset);
	size_t size = strlen(name) + 1;
	char *copy;

	if (size == 1) {
		*offset = 0;
		return true;
	}
	*offset = part->strings.size;
	copy = extend(&part->strings, size);
	if (copy)
		memcpy(copy, name, size);
	return copy;
}

/* Copies a type's record, with ids and names of the part. */
static bool put(struct part *part, const struct btf_type *type)
{
	size_t size = record_size(type);
	struct btf_type *copy = extend(&part->types, size);
	bool done;

	if (!copy)
		return false;
	memcpy(copy, type, size);
	done = put_name(part, &copy->name_off);
	switch (btf_kind(type)) {
	case BTF_KIND_INT:
	case BTF_KIND_FLOAT:
		break;
	case BTF_KIND_PTR:
		copy->type = 0;
		break;
	case BTF_KIND_ARRAY:
		btf_array(copy)->type = part->taken[btf_array(type)->type];
		btf_array(copy)->index_type = part->taken[btf_array(type)->index_type];
		break;
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		for (int i = 0; done && i < btf_vlen(type); i++) {
			btf_members(copy)[i].type = part->taken[btf_members(type)[i].type];
			done = put_name(part, &btf_members(copy)[i].name_off);
		}
		break;
	case BTF_KIND_ENUM:
		for (int i = 0; done && i < btf_vlen(type); i++)
			done = put_name(part, &btf_enum(copy)[i].name_off);
		break;
	case BTF_KIND_ENUM64:
		for (int i = 0; done && i < btf_vlen(type); i++)
			done = put_name(part, &btf_enum64(copy)[i].name_off);
		break;
	case BTF_KIND_TYPEDEF:
	case BTF_KIND_CONST:
	case BTF_KIND_VOLATILE:
	case BTF_KIND_RESTRICT:
	case BTF_KIND_TYPE_TAG:
		copy->type = part->taken[type->type];
		break;
	default:	/* nothing else is held by value */
		part->types.size -= size - sizeof(*copy);
		copy->info = BTF_KIND_FWD << 24;
		copy->type = 0;
	}
	return done;
}

static bool write_all(int fd, const void *data, size_t size, off_t at)
{
	return pwrite(fd, data, size, at) == (ssize_t)size;
}

static bool write_part(const struct part *part, int fd)
{
	const struct btf_header header = {
		.magic = BTF_MAGIC,
		.version = BTF_VERSION,
		.hdr_len = sizeof(header),
		.type_len = part->types.size,
		.str_off = part->types.size,
		.str_len = part->strings.size,
	};

	return !ftruncate(fd, 0) && write_all(fd, &header, sizeof(header), 0) &&
	       write_all(fd, part->types.data, part->types.size, sizeof(header)) &&
	       write_all(fd, part->strings.data, part->strings.size, sizeof(header) + part->types.size);
}

/* Writes to `fd` what an object needs of the running kernel's BTF. Returns 0, or -1 where it cannot be had. */
int eu_reduced_btf(const struct bpf_object *object, int fd)
{
	const struct btf *local = bpf_object__btf(object);
	struct part part = { .from = &kernel };
	struct names names = {};
	char *empty;
	int err = -1;

	if (!local || !have_kernel_btf())
		return -1;
	part.taken = calloc(kernel.count, sizeof(*part.taken));
	empty = extend(&part.strings, 1);	/* the name of what has none */
	if (!part.taken || !empty || !local_names(local, &names))
		goto out;
	*empty = 0;
	for (__u32 id = 1; id < kernel.count; id++) {
		const struct btf_type *type = type_of(&kernel, id);

		if (is_wanted(type) && type->name_off && *slot_of(&names, name_of(&kernel, type->name_off)) &&
		    !take(&part, id))
			goto out;
	}
	for (__u32 i = 0; i < taken_count(&part); i++)	/* what is taken meanwhile, too */
		if (!take_held(&part, type_of(&kernel, ((__u32 *)part.order.data)[i])))
			goto out;
	for (__u32 i = 0; i < taken_count(&part); i++)
		if (!put(&part, type_of(&kernel, ((__u32 *)part.order.data)[i])))
			goto out;
	if (write_part(&part, fd))
		err = 0;
out:
	free_names(&names);
	free(part.taken);
	free(part.order.data);
	free(part.types.data);
	free(part.strings.data);
	return err;
}
