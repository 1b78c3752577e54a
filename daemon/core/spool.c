/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Output spool, see spool.h. On disk an entry is a 16 byte header (u32 length, u32 stream, u64 id, host order: the file
 * never leaves the machine) and its bytes. Positions are logical file offsets; what lies before `base` has been punched
 * out, so the file's size keeps growing while its blocks do not.
 */
#include "core/spool.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "core/limits.h"
#include "util/macro.h"

struct entry_header {
	uint32_t len, stream;
	uint64_t id;
};

/* First bytes of the file: where the entries begin, so that a cut spool can be opened again */
struct file_header {
	uint64_t magic, base, base_id;
	uint64_t size[2];	/* bytes per stream before base */
};
#define SPOOL_MAGIC 0x314c4f4f50534344ull
#define HEAD sizeof(struct file_header)

struct spool {
	char *path;
	int fd;			/* -EBADF while in memory */
	uint8_t *memory;	/* [HEAD, end) when in memory, at the same positions */
	size_t memory_size;
	uint64_t base, end, cap;
	uint64_t base_id;	/* id of the entry before base */
	uint64_t last_id;
	uint64_t size[2];
	uint64_t base_size[2];
};

static int write_all(int fd, struct iovec *v, int n, uint64_t pos)
{
	while (n > 0) {
		ssize_t k = pwritev(fd, v, n, (off_t)pos);

		if (k < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		pos += (uint64_t)k;
		while (n > 0 && (size_t)k >= v->iov_len) {
			k -= (ssize_t)v->iov_len;
			v++;
			n--;
		}
		if (n > 0) {
			v->iov_base = (uint8_t *)v->iov_base + k;
			v->iov_len -= (size_t)k;
		}
	}
	return 0;
}

static int head_write(struct spool *s)
{
	struct file_header h = { SPOOL_MAGIC, s->base, s->base_id, { s->base_size[0], s->base_size[1] } };
	struct iovec v = { &h, sizeof(h) };

	return write_all(s->fd, &v, 1, 0);
}

static int spool_to_file(struct spool *s)
{
	struct iovec v = { s->memory + HEAD, s->end - HEAD };
	int r;

	s->fd = open(s->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->fd < 0)
		return -errno;
	r = head_write(s);
	if (r == 0 && s->end > HEAD)
		r = write_all(s->fd, &v, 1, HEAD);
	if (r < 0) {
		s->fd = fd_close(s->fd);
		unlink(s->path);
		return r;
	}
	free(s->memory);
	s->memory = NULL;
	s->memory_size = 0;
	return 0;
}

static struct spool *spool_alloc(const char *path, uint64_t cap)
{
	struct spool *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->fd = -EBADF;
	s->base = s->end = HEAD;
	s->cap = cap;
	s->path = strdup(path);
	return s->path ? s : spool_free(s, false);
}

int spool_new(const char *path, uint64_t cap, bool durable, struct spool **ret)
{
	struct spool *s = spool_alloc(path, cap);
	int r = s ? 0 : -ENOMEM;

	if (r == 0 && durable)
		r = spool_to_file(s);
	if (r < 0) {
		spool_free(s, false);
		return r;
	}
	*ret = s;
	return 0;
}

struct spool *spool_free(struct spool *s, bool remove_file)
{
	if (!s)
		return NULL;
	if (s->fd >= 0 && remove_file)
		unlink(s->path);
	fd_close(s->fd);
	free(s->memory);
	free(s->path);
	free(s);
	return NULL;
}

static int read_all(struct spool *s, void *buf, size_t len, uint64_t pos)
{
	if (s->fd < 0) {
		memcpy(buf, s->memory + pos, len);
		return 0;
	}
	while (len > 0) {
		ssize_t n = pread(s->fd, buf, len, (off_t)pos);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENODATA;
		buf = (uint8_t *)buf + n;
		len -= (size_t)n;
		pos += (uint64_t)n;
	}
	return 0;
}

int spool_open(const char *path, uint64_t cap, struct spool **ret)
{
	struct spool *s = spool_alloc(path, cap);
	struct file_header h;
	struct entry_header e;
	struct stat st;
	int r = s ? 0 : -ENOMEM;

	if (r == 0) {
		s->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
		r = s->fd < 0 || fstat(s->fd, &st) < 0 ? -errno : 0;
	}
	if (r == 0)
		r = read_all(s, &h, sizeof(h), 0);
	if (r == 0 && (h.magic != SPOOL_MAGIC || h.base < HEAD || h.base > (uint64_t)st.st_size))
		r = -EBADMSG;
	if (r < 0) {
		spool_free(s, false);
		return r;
	}
	s->base = s->end = h.base;
	s->base_id = s->last_id = h.base_id;
	memcpy(s->base_size, h.size, sizeof(s->base_size));
	memcpy(s->size, h.size, sizeof(s->size));
	while (s->end + sizeof(e) <= (uint64_t)st.st_size && read_all(s, &e, sizeof(e), s->end) == 0) {
		if (e.id != s->last_id + 1 || e.len > SPOOL_ENTRY_MAX || e.stream < 1 || e.stream > 2 ||
		    s->end + sizeof(e) + e.len > (uint64_t)st.st_size)
			break;
		s->end += sizeof(e) + e.len;
		s->last_id = e.id;
		s->size[e.stream - 1] += e.len;
	}
	if (ftruncate(s->fd, (off_t)s->end) < 0) {
		r = -errno;
		spool_free(s, false);
		return r;
	}
	*ret = s;
	return 0;
}

/* Give the oldest quarter back once the cap is passed */
static int spool_trim(struct spool *s)
{
	uint64_t target = s->end - s->cap + s->cap / 4, from = s->base;
	struct entry_header e;
	int r = 0;

	while (s->base < target && s->base < s->end) {
		r = read_all(s, &e, sizeof(e), s->base);
		if (r < 0)
			return r;
		s->base += sizeof(e) + e.len;
		s->base_id = e.id;
		s->base_size[e.stream - 1] += e.len;
	}
	/* Whole pages only, and never the header's */
	from = (from + 4095) & ~4095ull;
	if ((s->base & ~4095ull) > from)
		fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
			  (off_t)((s->base & ~4095ull) - from));
	return head_write(s);
}

static int memory_append(struct spool *s, const struct iovec *v, size_t len)
{
	if (s->end + len > s->memory_size) {
		size_t size = MAX_OF((size_t)4096, 2 * (s->end + len));
		uint8_t *p = realloc(s->memory, size);

		if (!p)
			return -ENOMEM;
		s->memory = p;
		s->memory_size = size;
	}
	memcpy(s->memory + s->end, v[0].iov_base, v[0].iov_len);
	memcpy(s->memory + s->end + v[0].iov_len, v[1].iov_base, v[1].iov_len);
	return 0;
}

int spool_append(struct spool *s, enum spool_stream stream, const void *data, size_t len)
{
	struct entry_header e = { .len = (uint32_t)len, .stream = stream, .id = s->last_id + 1 };
	struct iovec v[2] = { { &e, sizeof(e) }, { (void *)(uintptr_t)data, len } };
	int r = 0;

	if (len > SPOOL_ENTRY_MAX)
		return -EMSGSIZE;
	if (len == 0)
		return 0;
	if (s->fd < 0 && s->end + sizeof(e) + len > SPOOL_MEMORY)
		r = spool_to_file(s);
	if (r == 0)
		r = s->fd < 0 ? memory_append(s, v, sizeof(e) + len) : write_all(s->fd, v, 2, s->end);
	if (r < 0)
		return r;
	s->end += sizeof(e) + len;
	s->last_id++;
	s->size[stream - 1] += len;
	if (s->fd >= 0 && s->end - s->base > s->cap)
		spool_trim(s);
	return 0;
}

uint64_t spool_last_id(const struct spool *s)
{
	return s->last_id;
}

uint64_t spool_stream_size(const struct spool *s, enum spool_stream stream)
{
	return s->size[stream - 1];
}

uint64_t spool_lag(const struct spool *s, const struct spool_cursor *c)
{
	return s->end - MAX_OF(c->pos, s->base);
}

bool spool_has_gap(const struct spool *s)
{
	return s->base_id > 0;
}

int spool_read(struct spool *s, struct spool_cursor *c, struct spool_entry *e, void *buf)
{
	struct entry_header h;
	int r;

	e->lost = 0;
	if (c->pos < s->base) {
		e->lost = s->base_id > c->id ? s->base_id - c->id : 0;
		c->pos = s->base;
		c->id = MAX_OF(c->id, s->base_id);
	}
	if (c->pos >= s->end)
		return 0;
	r = read_all(s, &h, sizeof(h), c->pos);
	if (r == 0 && h.len > SPOOL_ENTRY_MAX)
		r = -EBADMSG;
	if (r == 0)
		r = read_all(s, buf, h.len, c->pos + sizeof(h));
	if (r < 0)
		return r;
	c->pos += sizeof(h) + h.len;
	c->id = h.id;
	e->id = h.id;
	e->stream = (enum spool_stream)h.stream;
	e->len = h.len;
	return 1;
}

int spool_seek(struct spool *s, struct spool_cursor *c, uint64_t id)
{
	struct entry_header h;
	int r;

	c->pos = s->base;
	c->id = MIN_OF(s->base_id, id);
	while (c->id < id && c->pos < s->end) {
		r = read_all(s, &h, sizeof(h), c->pos);
		if (r < 0)
			return r;
		if (h.id > id)
			break;
		c->pos += sizeof(h) + h.len;
		c->id = h.id;
	}
	return 0;
}
