/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Output spool, see spool.h. On disk an entry is a 16 byte header (u32 length, u32 stream, u64 id, host order: the file
 * never leaves the machine) and its bytes. Positions are logical file offsets; what lies before `base` has been punched
 * out, so the file's size keeps growing while its blocks do not.
 *
 * Every INDEX_STEP-th entry's place is kept in memory, so that a reader that resumes late does not cost a walk over
 * millions of small entries. The index is made again when a file is opened.
 */
#include "core/spool.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "core/limits.h"
#include "util/fileio.h"
#include "util/macro.h"

struct entry_header {
	uint32_t len, stream;
	uint64_t id;
};

/* First bytes of the file: where the entries begin, so that a cut spool can be opened again */
struct file_header {
	uint64_t magic, base, base_id;
	uint64_t size[2];	/* bytes per stream before base */
	uint64_t mark, mark_id;
};
#define SPOOL_MAGIC 0x324c4f4f50534344ull
#define HEAD sizeof(struct file_header)

#define INDEX_STEP 1024u
#define WINDOW 65536u		/* read at once when a file is opened */

struct spool {
	char *path;
	bool disowned;
	int fd;			/* -EBADF while in memory */
	uint8_t *memory;	/* [HEAD, end) when in memory, at the same positions */
	size_t memory_size;
	uint64_t base, end, cap;
	uint64_t base_id;	/* id of the entry before base */
	uint64_t last_id;
	uint64_t size[2];
	uint64_t base_size[2];
	struct spool_cursor mark;
	struct place {
		struct spool_cursor at;
		uint64_t size[2];	/* bytes per stream before it */
	} *index;			/* behind each entry whose id is a multiple of INDEX_STEP */
	size_t n_index, index_size;
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
	struct file_header h = {
		SPOOL_MAGIC, s->base, s->base_id, { s->base_size[0], s->base_size[1] }, s->mark.pos, s->mark.id,
	};
	struct iovec v = { &h, sizeof(h) };

	return write_all(s->fd, &v, 1, 0);
}

static int spool_to_file(struct spool *s)
{
	struct iovec v = { NULL, 0 };
	int r;

	s->fd = open(s->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->fd < 0)
		return -errno;
	r = head_write(s);
	if (s->memory)
		v = (struct iovec){ s->memory + HEAD, s->end - HEAD };
	if (r == 0)
		r = write_all(s->fd, &v, s->memory ? 1 : 0, HEAD);
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

int spool_write_continuation(const struct spool *s, const char *path)
{
	const struct file_header h = {
		SPOOL_MAGIC, HEAD, s->last_id, { s->size[0], s->size[1] }, HEAD, s->last_id,
	};

	return file_write_atomic(path, &h, sizeof(h), 0600, false);
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

void spool_disown(struct spool *s)
{
	/* In memory it has no name yet, and may get one of its own */
	if (s->fd < 0 || s->disowned)
		return;
	unlink(s->path);
	s->disowned = true;
}

struct spool *spool_free(struct spool *s, bool remove_file)
{
	if (!s)
		return NULL;
	if (s->fd >= 0 && remove_file && !s->disowned)
		unlink(s->path);
	fd_close(s->fd);
	free(s->index);
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

/* Without memory for it a seek takes longer, no more */
static void index_add(struct spool *s)
{
	if (s->last_id % INDEX_STEP != 0)
		return;
	if (s->n_index == s->index_size) {
		size_t n = MAX_OF(s->index_size * 2, (size_t)16);
		struct place *p = reallocarray(s->index, n, sizeof(*p));

		if (!p)
			return;
		s->index = p;
		s->index_size = n;
	}
	s->index[s->n_index++] = (struct place){ { s->end, s->last_id }, { s->size[0], s->size[1] } };
}

static void index_trim(struct spool *s)
{
	size_t n = 0;

	while (n < s->n_index && s->index[n].at.pos < s->base)
		n++;
	s->n_index -= n;
	if (n > 0)
		memmove(s->index, s->index + n, s->n_index * sizeof(*s->index));
}

/* How many places are not behind the entry id */
static size_t index_before(const struct spool *s, uint64_t id)
{
	size_t low = 0, high = s->n_index;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (s->index[mid].at.id <= id)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Moves base forward to the last place known before target; what is left to walk is INDEX_STEP entries at most. */
static void base_jump(struct spool *s, uint64_t target)
{
	size_t n = 0;

	while (n < s->n_index && s->index[n].at.pos <= target)
		n++;
	if (n == 0 || s->index[n - 1].at.pos < s->base)
		return;
	s->base = s->index[n - 1].at.pos;
	s->base_id = s->index[n - 1].at.id;
	memcpy(s->base_size, s->index[n - 1].size, sizeof(s->base_size));
}

static int head_load(struct spool *s, uint64_t file_size)
{
	struct file_header h;
	int r = read_all(s, &h, sizeof(h), 0);

	if (r < 0)
		return r;
	if (h.magic != SPOOL_MAGIC || h.base < HEAD || h.base > file_size)
		return -EBADMSG;
	s->base = s->end = h.base;
	s->base_id = s->last_id = h.base_id;
	memcpy(s->base_size, h.size, sizeof(s->base_size));
	memcpy(s->size, h.size, sizeof(s->size));
	s->mark = (struct spool_cursor){ .pos = h.mark, .id = h.mark_id };
	return 0;
}

/* Walks the entries from base; the first that is not whole ends it. */
static int entries_load(struct spool *s, uint64_t file_size)
{
	_cleanup_free_ uint8_t *window = malloc(WINDOW);
	uint64_t at = 0;
	size_t have = 0;
	struct entry_header e;

	if (!window)
		return -ENOMEM;
	while (s->end + sizeof(e) <= file_size) {
		if (s->end < at || s->end + sizeof(e) > at + have) {
			at = s->end;
			have = (size_t)MIN_OF((uint64_t)WINDOW, file_size - at);
			if (read_all(s, window, have, at) < 0)
				return -EIO;
		}
		memcpy(&e, window + (s->end - at), sizeof(e));
		if (e.id != s->last_id + 1 || e.len > SPOOL_ENTRY_MAX || e.stream < 1 || e.stream > 2 ||
		    s->end + sizeof(e) + e.len > file_size)
			break;
		s->end += sizeof(e) + e.len;
		s->last_id++;
		s->size[e.stream - 1] += e.len;
		index_add(s);
	}
	return 0;
}

int spool_open(const char *path, uint64_t cap, struct spool **ret)
{
	struct spool *s = spool_alloc(path, cap);
	struct stat st;
	int r = s ? 0 : -ENOMEM;

	if (r == 0) {
		s->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
		r = s->fd < 0 || fstat(s->fd, &st) < 0 ? -errno : 0;
	}
	if (r == 0)
		r = head_load(s, (uint64_t)st.st_size);
	if (r == 0)
		r = entries_load(s, (uint64_t)st.st_size);
	if (r == 0 && ftruncate(s->fd, (off_t)s->end) < 0)
		r = -errno;
	if (r < 0) {
		spool_free(s, false);
		return r;
	}
	/* A mark from a later moment than the end it was kept with */
	if (s->mark.pos > s->end || s->mark.id > s->last_id)
		s->mark = (struct spool_cursor){ .pos = s->end, .id = s->last_id };
	*ret = s;
	return 0;
}

/* Give the oldest quarter back once the cap is passed */
static int spool_trim(struct spool *s)
{
	uint64_t target = s->end - s->cap + s->cap / 4, from = s->base;
	struct entry_header e;
	int r = 0;

	base_jump(s, target);
	while (s->base < target && s->base < s->end) {
		r = read_all(s, &e, sizeof(e), s->base);
		if (r < 0)
			return r;
		s->base += sizeof(e) + e.len;
		s->base_id = e.id;
		s->base_size[e.stream - 1] += e.len;
	}
	index_trim(s);
	/* Before the blocks go: a daemon that dies in between finds entries there, not zeros */
	r = head_write(s);
	if (r < 0)
		return r;
	/* Whole pages only, and never the header's; the one the old base is in was left the last time */
	from = MAX_OF(from & ~4095ull, (uint64_t)4096);
	if ((s->base & ~4095ull) > from)
		fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
			  (off_t)((s->base & ~4095ull) - from));
	return 0;
}

/* A failed append may have written a part: the guest's bytes, which a later spool_open() must not take for entries */
static int file_append(struct spool *s, struct iovec *v)
{
	int r = write_all(s->fd, v, 2, s->end);

	if (r < 0 && ftruncate(s->fd, (off_t)s->end) < 0)
		return -errno;
	return r;
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
		r = s->fd < 0 ? memory_append(s, v, sizeof(e) + len) : file_append(s, v);
	if (r < 0)
		return r;
	s->end += sizeof(e) + len;
	s->last_id++;
	s->size[stream - 1] += len;
	index_add(s);
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
	size_t n;
	int r;

	if (id < s->base_id) {
		/* spool_read() tells of the gap */
		*c = (struct spool_cursor){ .id = id };
		return 0;
	}
	n = index_before(s, id);
	*c = n > 0 ? s->index[n - 1].at : (struct spool_cursor){ .pos = s->base, .id = s->base_id };
	while (c->id < id && c->pos < s->end) {
		r = read_all(s, &h, sizeof(h), c->pos);
		if (r < 0)
			return r;
		c->pos += sizeof(h) + h.len;
		c->id = h.id;
	}
	return 0;
}

void spool_set_mark(struct spool *s, const struct spool_cursor *c)
{
	if (c->id <= s->mark.id)
		return;
	s->mark = *c;
	/* Only a reader that comes after a crash would see that this failed: as output shown twice */
	if (s->fd >= 0)
		head_write(s);
}

void spool_get_mark(const struct spool *s, struct spool_cursor *ret)
{
	*ret = s->mark;
}
