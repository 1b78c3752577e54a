/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every verdict on a sandbox's egress, on disk: <dir>/<sandbox id>.ring, one ring of records of one size for each
 * sandbox, so that who makes many verdicts overwrites only its own, and a record is found by its number.
 *
 * Numbers count from 1. A record is one write; it carries its number and a checksum, so after a crash the ring goes on
 * where it was. All rings together are bounded too: beyond that the ring nobody wrote to for longest goes.
 * Loop thread only; reads and writes are of the page cache and small.
 */
#ifndef DECLAW_EGRESS_AUDIT_H
#define DECLAW_EGRESS_AUDIT_H

#include "chan/msg.h"

struct audit;

enum audit_source { AUDIT_KERNEL, AUDIT_RESOLVER, AUDIT_PROXY, AUDIT_SOURCE_MAX };

struct audit_event {
	uint64_t seq, at_usec;		/* realtime */
	enum audit_source source;
	struct chan_audit a;		/* without its id */
};

/* What an event must be to be seen; a zeroed one with until_usec = UINT64_MAX, verdict = proto = -1 is everything. */
struct audit_filter {
	int verdict, proto;		/* -1 = any */
	const char *name;		/* NULL = any; "*.x" = below x */
	const char *rule;		/* NULL = any */
	uint64_t since_usec, until_usec;	/* both included */
};
#define AUDIT_FILTER_ALL { .verdict = -1, .proto = -1, .until_usec = UINT64_MAX }

const char *audit_source_name(enum audit_source s);

/* Makes dir when it is not there; keep() says which sandboxes' rings of an earlier daemon stay. */
int audit_open(const char *dir, uint64_t per_sandbox, uint64_t total_bytes,
	       bool (*keep)(void *userdata, const char *id), void *userdata, struct audit **ret);
struct audit *audit_close(struct audit *a);
/* at_usec is now. A failure is also counted as lost. */
int audit_add(struct audit *a, const char *id, uint64_t at_usec, enum audit_source source, const struct chan_audit *e);
/* n verdicts were too many to be told */
void audit_lose(struct audit *a, const char *id, uint64_t n);
void audit_remove(struct audit *a, const char *id);

struct audit_span {
	uint64_t first, next;	/* numbers of the oldest record kept and of the next one; equal: none */
	uint64_t lost;
};
void audit_span(struct audit *a, const char *id, struct audit_span *ret);
/*
 * Calls fn for up to limit matching events, from number `from` upwards (or downwards), looking at no more than scan_max
 * records. Returns the number to go on from, 0 when there are no more.
 */
uint64_t audit_read(struct audit *a, const char *id, const struct audit_filter *f, uint64_t from, bool down,
		    size_t limit, size_t scan_max, void (*fn)(void *userdata, const struct audit_event *e), void *userdata);

#endif
