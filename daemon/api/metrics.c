/* SPDX-License-Identifier: GPL-2.0-or-later */
/* GET /sandboxes/{id}/metrics: a bare array; one sample of now, or those kept between start and end. */
#include "api/api.h"
#include "core/metrics.h"
#include "util/clock.h"

struct metrics_call {
	struct http_request *req;
	struct sandbox *sb;
};

static void put_number(json_object *o, const char *key, double v)
{
	char text[32];

	snprintf(text, sizeof(text), "%.2f", v);
	json_put(o, key, json_object_new_double_s(v, text));
}

static void add_sample(void *userdata, const struct metrics_sample *s)
{
	json_object *list = userdata, *o = json_object_new_object();
	char text[CLOCK_TEXT_MAX];

	if (!o)
		return;
	clock_format(s->at_usec, text);
	json_put_string(o, "timestamp", text);
	put_number(o, "cpu_usage_percent", s->cpu_percent);
	put_number(o, "memory_usage_mb", s->memory_mb);
	put_number(o, "disk_usage_mb", s->disk_mb);
	json_object_array_add(list, o);
}

static void metrics_cancelled(void *userdata)
{
	struct metrics_call *c = userdata;

	metrics_forget(c->sb, c);
	sandbox_unref(c->sb);
	free(c);
}

static void metrics_answer(void *userdata, const struct metrics_sample *s)
{
	struct metrics_call *c = userdata;
	json_object *list = json_object_new_array();

	http_request_on_cancel(c->req, NULL, NULL);
	if (list)
		add_sample(list, s);
	api_reply(c->req, 200, list);
	sandbox_unref(c->sb);
	free(c);
}

static void reply_now(struct http_request *req, struct sandbox *sb)
{
	struct metrics_call *c = calloc(1, sizeof(*c));
	int r = c ? 0 : -ENOMEM;

	if (r == 0) {
		*c = (struct metrics_call){ .req = req, .sb = sandbox_ref(sb) };
		r = metrics_now(sb, metrics_answer, c);
		if (r < 0)
			sandbox_unref(sb);
	}
	if (r < 0) {
		free(c);
		api_fail(req, FAULT_INTERNAL, "no sample can be taken");
		return;
	}
	http_request_on_cancel(req, metrics_cancelled, c);
}

void metrics_get(struct http_request *req, void *userdata)
{
	struct sandbox *sb = api_sandbox(userdata, req);
	const char *start, *end;
	uint64_t from = 0, to = UINT64_MAX;
	json_object *list;

	if (!sb)
		return;
	start = http_request_query(req, "start", 0);
	end = http_request_query(req, "end", 0);
	if ((start && clock_parse(start, &from) < 0) || (end && clock_parse(end, &to) < 0)) {
		api_fail(req, FAULT_BAD_QUERY, "start and end must be times such as 2026-01-31T10:00:00Z");
		return;
	}
	if (!start && !end) {
		reply_now(req, sb);
		return;
	}
	list = json_object_new_array();
	if (list)
		metrics_each(sb, from, to, add_sample, list);
	api_reply(req, 200, list);
}
