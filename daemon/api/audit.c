/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GET /sandboxes/{id}/audit: verdicts on the sandbox's egress, a page at a time or, with format=jsonl, all of them as
 * lines of JSON. Events have numbers that grow; a page begins behind `after` (or, newest first, before `before`) and
 * its `next` is what to give there for the following one.
 */
#include <arpa/inet.h>
#include <string.h>

#include "api/api.h"
#include "egress/audit.h"
#include "util/clock.h"

#define LIMIT_DEFAULT 100u
#define LIMIT_MAX 1000u
#define SCAN_MAX 65536u		/* records looked at for one page */
#define LINES_AT_ONCE 64u
#define LINE_MAX_BYTES 1024u

struct question {
	struct audit_filter filter;
	uint64_t from, limit;
	bool down, lines;
};

static json_object *event_object(const char *id, const struct audit_event *e)
{
	json_object *o = json_object_new_object();
	char at[CLOCK_TEXT_MAX], addr[INET_ADDRSTRLEN];
	bool named = *e->a.name, blocked = e->a.verdict == CHAN_BLOCK;

	if (!o)
		return NULL;
	clock_format(e->at_usec, at);
	inet_ntop(AF_INET, &e->a.addr, addr, sizeof(addr));
	json_put_int(o, "seq", (int64_t)e->seq);
	json_put_string(o, "timestamp", at);
	json_put_string(o, "sandbox_id", id);
	json_put_string(o, "event", blocked ? "egress_blocked" : "egress_allowed");
	json_put_string(o, "verdict", chan_verdict_name(e->a.verdict));
	json_put_string(o, "protocol", chan_proto_name(e->a.proto));
	json_put_string(o, "domain", named ? e->a.name : NULL);
	json_put_string(o, "destination_ip", e->a.addr.s_addr ? addr : NULL);
	json_put(o, "destination_port", e->a.port ? json_object_new_int(e->a.port) : NULL);
	json_put_string(o, "rule", e->a.rule);
	json_put_string(o, "detail", *e->a.detail ? e->a.detail : NULL);
	json_put_string(o, "source", audit_source_name(e->source));
	return o;
}

/* --- what was asked --- */

static const char *parse_numbers(struct http_request *req, struct question *q)
{
	const char *limit = http_request_query(req, "limit", 0), *after = http_request_query(req, "after", 0);
	const char *before = http_request_query(req, "before", 0), *order = http_request_query(req, "order", 0);
	uint64_t n;

	q->limit = LIMIT_DEFAULT;
	if (limit && str_to_u64(limit, 1, LIMIT_MAX, &q->limit) < 0)
		return "limit must be a number from 1 to 1000";
	if (order && !str_eq(order, "asc") && !str_eq(order, "desc"))
		return "order must be asc or desc";
	q->down = order && str_eq(order, "desc");
	q->from = q->down ? UINT64_MAX : 1;
	if (q->down ? after : before)
		return "after goes with order=asc, before with order=desc";
	if (after || before) {
		if (str_to_u64(after ?: before, q->down ? 1 : 0, INT64_MAX, &n) < 0)
			return "after and before must be the number of an event";
		q->from = q->down ? n - 1 : n + 1;
	}
	return NULL;
}

static const char *parse_question(struct http_request *req, struct question *q)
{
	const char *verdict = http_request_query(req, "verdict", 0), *proto = http_request_query(req, "protocol", 0);
	const char *since = http_request_query(req, "since", 0), *until = http_request_query(req, "until", 0);
	const char *format = http_request_query(req, "format", 0);

	*q = (struct question){ .filter = AUDIT_FILTER_ALL };
	q->filter.name = http_request_query(req, "domain", 0);
	q->filter.rule = http_request_query(req, "rule", 0);
	if (verdict) {
		q->filter.verdict = chan_verdict_from_name(verdict);
		if (q->filter.verdict < 0)
			return "verdict must be allow or block";
	}
	if (proto) {
		q->filter.proto = chan_proto_from_name(proto);
		if (q->filter.proto < 0)
			return "protocol must be dns, tls, http, tcp, udp, icmp or other";
	}
	if ((since && clock_parse(since, &q->filter.since_usec) < 0) ||
	    (until && clock_parse(until, &q->filter.until_usec) < 0))
		return "since and until must be times such as 2026-01-31T10:00:00Z";
	if (format && !str_eq(format, "json") && !str_eq(format, "jsonl"))
		return "format must be json or jsonl";
	q->lines = format && str_eq(format, "jsonl");
	return parse_numbers(req, q);
}

/* --- a page --- */

struct page {
	const char *id;
	json_object *list;
};

static void add_event(void *userdata, const struct audit_event *e)
{
	struct page *p = userdata;
	json_object *o = event_object(p->id, e);

	if (o)
		json_object_array_add(p->list, o);
}

static void reply_page(struct http_request *req, struct sandbox *sb, const struct question *q)
{
	json_object *o = json_object_new_object();
	struct page p = { sb->id, json_object_new_array() };
	struct audit_span span = { 1, 1, 0 };
	uint64_t next = 0;

	if (!o || !p.list) {
		json_object_put(o);
		json_object_put(p.list);
		api_reply(req, 200, NULL);
		return;
	}
	if (sb->manager->audit) {
		audit_span(sb->manager->audit, sb->id, &span);
		if (q->from > 0)
			next = audit_read(sb->manager->audit, sb->id, &q->filter, q->from, q->down, q->limit, SCAN_MAX, add_event, &p);
	}
	json_put(o, "events", p.list);
	/* Given back as after or before, which are not included */
	json_put(o, "next", next ? json_object_new_int64((int64_t)(q->down ? next + 1 : next - 1)) : NULL);
	json_put_int(o, "total", (int64_t)(span.next - 1));
	json_put_int(o, "kept", (int64_t)(span.next - span.first));
	json_put_int(o, "lost", (int64_t)span.lost);
	api_reply(req, 200, o);
}

/* --- lines --- */

struct export {
	struct http_request *req;
	struct sandbox *sb;
	struct question q;
	char *name, *rule;
	struct buf pending;
	size_t sent;
};

static void export_free(struct export *x)
{
	sandbox_unref(x->sb);
	buf_done(&x->pending);
	free(x->name);
	free(x->rule);
	free(x);
}

static void add_line(void *userdata, const struct audit_event *e)
{
	struct export *x = userdata;
	json_object *o = event_object(x->sb->id, e);
	size_t len = 0;
	const char *text = o ? json_text(o, &len) : NULL;

	if (text && buf_append(&x->pending, text, len) == 0)
		buf_append(&x->pending, "\n", 1);
	json_object_put(o);
}

static void export_pump(void *userdata)
{
	struct export *x = userdata;

	for (;;) {
		size_t n = MIN_OF(http_stream_room(x->req), x->pending.len - x->sent);

		if (n > 0)
			http_stream_write(x->req, x->pending.data + x->sent, n);
		x->sent += n;
		if (x->sent < x->pending.len)
			return;		/* room() will call again */
		x->pending.len = x->sent = 0;
		if (!x->q.from || !x->sb->manager->audit)
			break;
		x->q.from = audit_read(x->sb->manager->audit, x->sb->id, &x->q.filter, x->q.from, x->q.down, LINES_AT_ONCE,
				       SCAN_MAX, add_line, x);
	}
	http_request_on_cancel(x->req, NULL, NULL);
	http_stream_end(x->req);
	export_free(x);
}

static void export_gone(void *userdata)
{
	export_free(userdata);
}

static void reply_lines(struct http_request *req, struct sandbox *sb, const struct question *q)
{
	static const struct http_stream_ops ops = { .room = export_pump };
	struct export *x = calloc(1, sizeof(*x));

	if (!x) {
		api_fail(req, FAULT_INTERNAL, "out of memory");
		return;
	}
	*x = (struct export){ .req = req, .sb = sandbox_ref(sb), .q = *q, .pending.max = LINES_AT_ONCE * LINE_MAX_BYTES };
	x->name = q->filter.name ? strdup(q->filter.name) : NULL;
	x->rule = q->filter.rule ? strdup(q->filter.rule) : NULL;
	x->q.filter.name = x->name;
	x->q.filter.rule = x->rule;
	http_request_on_cancel(req, export_gone, x);
	http_stream_begin(req, 200, "application/x-ndjson", -1, &ops, x);
	export_pump(x);
}

void audit_get(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox(userdata, req);
	struct question q;
	const char *wrong;

	if (!sb)
		return;
	wrong = parse_question(req, &q);
	if (wrong)
		api_fail(req, FAULT_BAD_QUERY, wrong);
	else if (q.lines)
		reply_lines(req, sb, &q);
	else
		reply_page(req, sb, &q);
}
