/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory of streams. Rings are mapped, so an untouched one costs nothing and a large one goes back to the
 * kernel; rings of the initial window are kept in a short stack, because every command opens three and
 * faulting pages in is slow under TCG. The sum of all rings is bounded by an eighth of the guest's memory.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#include "stream.h"

#define KEEP_MAX 16
#define SUM_MIN (16u << 20)
#define SUM_MAX (192u << 20)

static uint8_t *kept[KEEP_MAX];
static unsigned int nkept;
static size_t sum;

static size_t sum_limit(void)
{
	static size_t limit;
	struct sysinfo si;

	if (limit == 0) {
		uint64_t part = sysinfo(&si) == 0 ? (uint64_t)si.totalram * si.mem_unit / 8 : 0;

		limit = part < SUM_MIN ? SUM_MIN : part > SUM_MAX ? SUM_MAX : (size_t)part;
	}
	return limit;
}

int ring_alloc(struct ring *r, size_t size)
{
	void *p;

	if (sum + size > sum_limit())
		return -ENOMEM;
	if (size == DCLW_WINDOW_INITIAL && nkept > 0) {
		p = kept[--nkept];
	} else {
		p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			return -ENOMEM;
	}
	sum += size;
	*r = (struct ring) { .buf = p, .size = size };
	return 0;
}

void ring_free(struct ring *r)
{
	if (!r->buf)
		return;
	sum -= r->size;
	if (r->size == DCLW_WINDOW_INITIAL && nkept < KEEP_MAX)
		kept[nkept++] = r->buf;
	else
		munmap(r->buf, r->size);
	*r = (struct ring) { 0 };
}

int ring_slices(const struct ring *r, uint64_t from, uint64_t to, struct iovec iov[static 2])
{
	size_t at = from & (r->size - 1), len = (size_t)(to - from), first = r->size - at;

	if (len == 0)
		return 0;
	if (first > len)
		first = len;
	iov[0] = (struct iovec) { .iov_base = r->buf + at, .iov_len = first };
	iov[1] = (struct iovec) { .iov_base = r->buf, .iov_len = len - first };
	return len > first ? 2 : 1;
}

void ring_copy_out(const struct ring *r, uint64_t from, void *to, size_t len)
{
	struct iovec iov[2];
	int n = ring_slices(r, from, from + len, iov);

	for (int i = 0; i < n; i++) {
		memcpy(to, iov[i].iov_base, iov[i].iov_len);
		to = (uint8_t *)to + iov[i].iov_len;
	}
}

void ring_copy_in(const struct ring *r, uint64_t at, const void *from, size_t len)
{
	struct iovec iov[2];
	int n = ring_slices(r, at, at + len, iov);

	for (int i = 0; i < n; i++) {
		memcpy(iov[i].iov_base, from, iov[i].iov_len);
		from = (const uint8_t *)from + iov[i].iov_len;
	}
}

int ring_grow(struct ring *r, size_t size, uint64_t head, uint64_t tail)
{
	struct ring bigger;
	struct iovec iov[2];
	int n, ret;

	if (size <= r->size)
		return 0;
	ret = ring_alloc(&bigger, size);
	if (ret < 0)
		return ret;
	n = ring_slices(r, head, tail, iov);
	for (int i = 0; i < n; i++) {
		ring_copy_in(&bigger, head, iov[i].iov_base, iov[i].iov_len);
		head += iov[i].iov_len;
	}
	ring_free(r);
	*r = bigger;
	return 0;
}
