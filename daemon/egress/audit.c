/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rings of audit records, see audit.h. */
#include "egress/audit.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "util/fileio.h"
#include "util/list.h"
#include "util/log.h"
#include "util/map.h"
#include "wire/crc32c.h"

#define RECORD_SIZE 512u
#define RECORD_MAGIC 0x64417564u
#define HEAD_MAGIC 0x64417548u
#define READ_RECORDS 64u

/* Host order: the file does not leave the machine. */
struct record {
	uint32_t magic, crc;		/* of everything behind it */
	uint64_t seq, at_usec;
	uint32_t addr;			/* network order */
	uint16_t port;
	uint8_t verdict, proto, source, pad[3];
	char name[CHAN_NAME_MAX], rule[CHAN_RULE_MAX], detail[CHAN_DETAIL_MAX];
	char rest[RECORD_SIZE - 36 - CHAN_NAME_MAX - CHAN_RULE_MAX - CHAN_DETAIL_MAX];
};

struct head {
	uint32_t magic, crc;
	uint64_t slots, lost;
	char rest[RECORD_SIZE - 24];
};

_Static_assert(sizeof(struct record) == RECORD_SIZE, "records are found by multiplication");
_Static_assert(sizeof(struct head) == RECORD_SIZE, "the head has the place of a record");

struct ring {
	struct list link;		/* audit.rings: last written first */
	char id[SANDBOX_ID_MAX];
	int fd;				/* -EBADF: not looked at yet */
	uint64_t slots, next, lost, bytes;
};

struct audit {
	char *dir;
	uint64_t slots, total_max, total;
	struct map *by_id;
	struct list rings;
	bool complained;
};

static const char *const source_names[] = {
	[AUDIT_KERNEL] = "kernel", [AUDIT_RESOLVER] = "resolver", [AUDIT_PROXY] = "proxy",
};
_Static_assert(ELEMENTSOF(source_names) == AUDIT_SOURCE_MAX, "every source has a name");

const char *audit_source_name(enum audit_source s)
{
	return s < AUDIT_SOURCE_MAX ? source_names[s] : "?";
}

static uint32_t checksum(const void *block)
{
	return crc32c((const char *)block + 8, RECORD_SIZE - 8);
}

/* --- one ring --- */

static char *ring_path(const struct audit *a, const char *id)
{
	return str_format("%s/%s.ring", a->dir, id);
}

static int write_block(int fd, const void *block, uint64_t index)
{
	ssize_t n = pwrite(fd, block, RECORD_SIZE, (off_t)(index * RECORD_SIZE));

	return n < 0 ? -errno : n < (ssize_t)RECORD_SIZE ? -ENOSPC : 0;
}

static int write_head(const struct ring *r)
{
	struct head h = { .magic = HEAD_MAGIC, .slots = r->slots, .lost = r->lost };

	h.crc = checksum(&h);
	return write_block(r->fd, &h, 0);
}

static bool record_good(const struct record *rec, const struct ring *r, uint64_t slot)
{
	return rec->magic == RECORD_MAGIC && rec->crc == checksum(rec) && rec->seq > 0 &&
	       (rec->seq - 1) % r->slots == slot && rec->verdict < CHAN_VERDICT_MAX && rec->proto < CHAN_PROTO_MAX &&
	       rec->source < AUDIT_SOURCE_MAX && !rec->name[sizeof(rec->name) - 1] && !rec->rule[sizeof(rec->rule) - 1] &&
	       !rec->detail[sizeof(rec->detail) - 1];
}

static void find_end(struct ring *r)
{
	struct record rec[READ_RECORDS];

	r->next = 1;
	for (uint64_t slot = 0; slot < r->slots; slot += READ_RECORDS) {
		ssize_t n = pread(r->fd, rec, sizeof(rec), (off_t)((slot + 1) * RECORD_SIZE));

		if (n < (ssize_t)RECORD_SIZE)
			break;
		for (size_t i = 0; i < (size_t)n / RECORD_SIZE && slot + i < r->slots; i++)
			if (record_good(&rec[i], r, slot + i) && rec[i].seq >= r->next)
				r->next = rec[i].seq + 1;
	}
}

/* What is no ring of ours, or of another size, begins anew. */
static int ring_open(struct audit *a, struct ring *r)
{
	_cleanup_free_ char *path = ring_path(a, r->id);
	_cleanup_close_ int fd = -EBADF;
	struct head h;
	int e;

	if (r->fd >= 0)
		return 0;
	if (!path)
		return -ENOMEM;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r->fd = fd;
	r->slots = a->slots;
	r->next = 1;
	if (pread(fd, &h, sizeof(h), 0) == (ssize_t)sizeof(h) && h.magic == HEAD_MAGIC && h.crc == checksum(&h) &&
	    h.slots > 0 && h.slots <= UINT32_MAX) {
		r->slots = h.slots;
		r->lost = h.lost;
		find_end(r);
	} else {
		e = ftruncate(fd, 0) < 0 ? -errno : write_head(r);
		if (e < 0) {
			r->fd = -EBADF;
			return e;
		}
		a->total += RECORD_SIZE - r->bytes;
		r->bytes = RECORD_SIZE;
	}
	TAKE_FD(fd);
	return 0;
}

static void ring_free(struct audit *a, struct ring *r)
{
	map_remove(a->by_id, r->id);
	list_unlink(&r->link);
	a->total -= r->bytes;
	fd_close(r->fd);
	free(r);
}

static void ring_remove(struct audit *a, struct ring *r)
{
	_cleanup_free_ char *path = ring_path(a, r->id);

	if (path)
		unlink(path);
	ring_free(a, r);
}

static struct ring *ring_new(struct audit *a, const char *id)
{
	struct ring *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	memcpy(r->id, id, SANDBOX_ID_MAX);
	r->fd = -EBADF;
	if (map_put(a->by_id, r->id, r) < 0) {
		free(r);
		return NULL;
	}
	list_prepend(&a->rings, &r->link);
	return r;
}

static struct ring *ring_get(struct audit *a, const char *id, bool make)
{
	struct ring *r = ident_sandbox_valid(id) ? map_get(a->by_id, id) : NULL;

	if (!r && make && ident_sandbox_valid(id))
		r = ring_new(a, id);
	return r && ring_open(a, r) == 0 ? r : NULL;
}

/* --- writing --- */

/* Whether the ring may take another block; the one nobody wrote to for longest makes room. */
static bool make_room(struct audit *a, const struct ring *r)
{
	while (a->total + RECORD_SIZE > a->total_max) {
		struct ring *oldest = list_entry(a->rings.prev, struct ring, link);

		if (oldest == r)
			return false;
		ring_remove(a, oldest);
	}
	return true;
}

static int append(struct audit *a, struct ring *r, struct record *rec)
{
	uint64_t slot = (r->next - 1) % r->slots, end = (slot + 2) * RECORD_SIZE;
	int e;

	list_unlink(&r->link);
	list_prepend(&a->rings, &r->link);
	if (end > r->bytes && !make_room(a, r))
		return -ENOSPC;
	rec->seq = r->next;
	rec->crc = checksum(rec);
	e = write_block(r->fd, rec, slot + 1);
	if (e < 0)
		return e;
	r->next++;
	if (end > r->bytes) {
		a->total += end - r->bytes;
		r->bytes = end;
	}
	return 0;
}

void audit_lose(struct audit *a, const char *id, uint64_t n)
{
	struct ring *r = ring_get(a, id, true);

	if (!r)
		return;
	r->lost += n;
	write_head(r);
}

int audit_add(struct audit *a, const char *id, uint64_t at_usec, enum audit_source source, const struct chan_audit *e)
{
	struct record rec = {
		.magic = RECORD_MAGIC, .at_usec = at_usec, .addr = e->addr.s_addr, .port = e->port,
		.verdict = (uint8_t)e->verdict, .proto = (uint8_t)e->proto, .source = (uint8_t)source,
	};
	struct ring *r = ring_get(a, id, true);
	int error;

	chan_text(rec.name, sizeof(rec.name), e->name);
	chan_text(rec.rule, sizeof(rec.rule), e->rule);
	chan_text(rec.detail, sizeof(rec.detail), e->detail);
	error = r ? append(a, r, &rec) : -EIO;
	if (error < 0) {
		if (r)
			r->lost++;
		if (!a->complained)
			log_error_errno(error, "Verdicts on egress cannot be kept in %s: %m", a->dir);
		a->complained = true;
	} else {
		a->complained = false;
	}
	return error;
}

void audit_remove(struct audit *a, const char *id)
{
	struct ring *r = ident_sandbox_valid(id) ? map_get(a->by_id, id) : NULL;

	if (r)
		ring_remove(a, r);
}

/* --- reading --- */

void audit_span(struct audit *a, const char *id, struct audit_span *ret)
{
	struct ring *r = ring_get(a, id, false);

	*ret = (struct audit_span){ 1, 1, 0 };
	if (r)
		*ret = (struct audit_span){ r->next > r->slots ? r->next - r->slots : 1, r->next, r->lost };
}

static bool name_matches(const char *want, const char *name)
{
	if (str_starts(want, "*."))
		return strlen(name) > strlen(want + 1) && str_ends(name, want + 1);
	return str_eq(want, name);
}

static bool matches(const struct audit_filter *f, const struct record *rec)
{
	if ((f->verdict >= 0 && f->verdict != rec->verdict) || (f->proto >= 0 && f->proto != rec->proto))
		return false;
	if (rec->at_usec < f->since_usec || rec->at_usec > f->until_usec)
		return false;
	return (!f->name || name_matches(f->name, rec->name)) && (!f->rule || str_eq(f->rule, rec->rule));
}

static void tell(const struct record *rec, void (*fn)(void *userdata, const struct audit_event *e), void *userdata)
{
	struct audit_event e = {
		.seq = rec->seq, .at_usec = rec->at_usec, .source = (enum audit_source)rec->source,
		.a = { .verdict = (enum chan_verdict)rec->verdict, .proto = (enum chan_proto)rec->proto,
		       .addr.s_addr = rec->addr, .port = rec->port },
	};

	memcpy(e.a.name, rec->name, sizeof(e.a.name));
	memcpy(e.a.rule, rec->rule, sizeof(e.a.rule));
	memcpy(e.a.detail, rec->detail, sizeof(e.a.detail));
	fn(userdata, &e);
}

/* A window of records around the one wanted, so that walking either way reads a few dozen at once. */
struct window {
	struct record rec[READ_RECORDS];
	uint64_t first;
	size_t n;
};

static const struct record *fetch(const struct ring *r, struct window *w, uint64_t seq)
{
	uint64_t slot = (seq - 1) % r->slots;

	if (slot < w->first || slot >= w->first + w->n) {
		ssize_t n;

		w->first = slot - slot % READ_RECORDS;
		n = pread(r->fd, w->rec, sizeof(w->rec), (off_t)((w->first + 1) * RECORD_SIZE));
		w->n = n < 0 ? 0 : (size_t)n / RECORD_SIZE;
		if (slot >= w->first + w->n)
			return NULL;
	}
	return record_good(&w->rec[slot - w->first], r, slot) && w->rec[slot - w->first].seq == seq ?
	       &w->rec[slot - w->first] : NULL;
}

uint64_t audit_read(struct audit *a, const char *id, const struct audit_filter *f, uint64_t from, bool down,
		    size_t limit, size_t scan_max, void (*fn)(void *userdata, const struct audit_event *e), void *userdata)
{
	struct ring *r = ring_get(a, id, false);
	struct window w = { .n = 0 };
	struct audit_span s;
	uint64_t seq;

	audit_span(a, id, &s);
	if (!r || s.first == s.next)
		return 0;
	seq = down ? MIN_OF(from, s.next - 1) : MAX_OF(from, s.first);
	while (seq >= s.first && seq < s.next && limit > 0 && scan_max > 0) {
		const struct record *rec = fetch(r, &w, seq);

		if (rec && matches(f, rec)) {
			tell(rec, fn, userdata);
			limit--;
		}
		scan_max--;
		seq = down ? seq - 1 : seq + 1;
	}
	return seq >= s.first && seq < s.next ? seq : 0;
}

/* --- life --- */

static int scan_dir(struct audit *a, bool (*keep)(void *userdata, const char *id), void *userdata)
{
	DIR *d = opendir(a->dir);
	struct dirent *e;

	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		char id[SANDBOX_ID_MAX];
		struct ring *r;
		struct stat st;

		snprintf(id, sizeof(id), "%.14s", e->d_name);
		if (!ident_sandbox_valid(id) || !str_eq(e->d_name + strlen(id), ".ring"))
			continue;
		r = ring_new(a, id);
		if (!r)
			continue;
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			r->bytes = (uint64_t)st.st_size;
		a->total += r->bytes;
		if (!keep(userdata, id))
			ring_remove(a, r);
	}
	closedir(d);
	return 0;
}

int audit_open(const char *dir, uint64_t per_sandbox, uint64_t total_bytes,
	       bool (*keep)(void *userdata, const char *id), void *userdata, struct audit **ret)
{
	struct audit *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	list_init(&a->rings);
	a->dir = strdup(dir);
	a->by_id = map_new();
	a->slots = MAX_OF(per_sandbox, 1u);
	a->total_max = total_bytes;
	r = a->dir && a->by_id ? dir_make(dir, 0700) : -ENOMEM;
	if (r == 0)
		r = scan_dir(a, keep, userdata);
	if (r < 0) {
		audit_close(a);
		return r;
	}
	*ret = a;
	return 0;
}

struct audit *audit_close(struct audit *a)
{
	struct ring *r;

	if (!a)
		return NULL;
	list_foreach(&a->rings, r, struct ring, link)
		ring_free(a, r);
	map_free(a->by_id);
	free(a->dir);
	free(a);
	return NULL;
}
