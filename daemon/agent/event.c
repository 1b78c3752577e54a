/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events of the guest, and the promise that an exit is told after the output.
 *
 * The guest sends PROC_EXIT behind the FIN of the process's streams. After a cut it may have to
 * give up waiting for our RESUME, so the order is made sure here too: an exit is held as long as an
 * output stream of that process is open on this side.
 */
#include "agent/internal.h"

static struct known_proc *find_proc(struct agent *a, uint64_t token)
{
	struct known_proc *p;

	list_foreach(&a->procs, p, struct known_proc, link)
		if (p->token == token)
			return p;
	return NULL;
}

static struct held_exit *find_exit(struct agent *a, uint64_t token)
{
	struct held_exit *h;

	list_foreach(&a->exits, h, struct held_exit, link)
		if (h->exit.token == token)
			return h;
	return NULL;
}

static void drop_proc(struct agent *a, struct known_proc *p)
{
	list_unlink(&p->link);
	a->n_procs--;
	free(p);
}

int event_expect_exit(struct agent *a, uint64_t token, uint32_t out, uint32_t err)
{
	struct known_proc *p = find_proc(a, token);

	if (!p) {
		if (a->n_procs >= 2 * DCLW_PROCS_MAX)
			return -ENOBUFS;
		p = calloc(1, sizeof(*p));
		if (!p)
			return -ENOMEM;
		list_append(&a->procs, &p->link);
		a->n_procs++;
	}
	p->token = token;
	p->streams[0] = out;
	p->streams[1] = err;
	return 0;
}

void event_unexpect_exit(struct agent *a, uint64_t token)
{
	struct known_proc *p = find_proc(a, token);

	if (p)
		drop_proc(a, p);
}

static bool is_open(const struct agent *a, uint32_t id)
{
	const struct agent_stream *s = id ? stream_find(a, id) : NULL;

	return s && !s->over && !s->zombie;
}

static void deliver(struct agent *a, const struct agent_exit *ex)
{
	event_unexpect_exit(a, ex->token);
	if (a->ops.proc_exit)
		a->ops.proc_exit(a->userdata, ex);
}

void event_release_exits(struct agent *a)
{
	bool again = true;

	/* From the front each time: the callback may do anything. */
	while (again && agent_is_talking(a)) {
		struct held_exit *h;

		again = false;
		list_foreach(&a->exits, h, struct held_exit, link) {
			struct agent_exit ex = h->exit;

			if (is_open(a, h->streams[0]) || is_open(a, h->streams[1]))
				continue;
			list_unlink(&h->link);
			a->n_exits--;
			free(h);
			deliver(a, &ex);
			again = true;
			break;
		}
	}
}

void event_drop_all(struct agent *a)
{
	struct held_exit *h;
	struct known_proc *p;

	list_foreach(&a->exits, h, struct held_exit, link)
		free(h);
	list_foreach(&a->procs, p, struct known_proc, link)
		free(p);
	list_init(&a->exits);
	list_init(&a->procs);
	a->n_exits = a->n_procs = 0;
}

struct parsed_exit {
	struct agent_exit exit;
	uint32_t streams[2];
	bool token, pid, status;
};

static int parse_tag(struct parsed_exit *x, uint16_t tag, const uint8_t *data, size_t len)
{
	switch (tag) {
	case DCLW_TAG_TOKEN:
		x->token = true;
		return wire_get_u64(data, len, &x->exit.token);
	case DCLW_TAG_PID:
		x->pid = true;
		return wire_get_u32(data, len, &x->exit.pid);
	case DCLW_TAG_SIGNAL:
		x->exit.signalled = true;
		/* fall through */
	case DCLW_TAG_EXIT_CODE:
		x->status = true;
		return wire_get_u32(data, len, &x->exit.status);
	case DCLW_TAG_STREAM_OUT:
		return wire_get_u32(data, len, &x->streams[0]);
	case DCLW_TAG_STREAM_ERR:
		return wire_get_u32(data, len, &x->streams[1]);
	default:
		return 0;
	}
}

static int parse_exit(const struct wire_frame *f, struct parsed_exit *ret)
{
	struct parsed_exit x = { 0 };
	struct wire_reader rd;
	const uint8_t *data;
	uint16_t tag;
	size_t len;
	int r;

	wire_reader_init(&rd, f->payload, f->header.length);
	while ((r = wire_next(&rd, &tag, &data, &len)) > 0) {
		r = parse_tag(&x, tag, data, len);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	if (!x.token || !x.pid || !x.status || x.exit.token == 0 || x.exit.pid == 0)
		return -EBADMSG;
	if (x.exit.status > (x.exit.signalled ? 127u : 255u))
		return -EBADMSG;
	*ret = x;
	return 0;
}

static int hold(struct agent *a, const struct parsed_exit *x)
{
	struct held_exit *h;

	if (find_exit(a, x->exit.token))
		return 0;
	if (a->n_exits >= DCLW_PROCS_MAX)
		return -EBADMSG;
	h = malloc(sizeof(*h));
	if (!h)
		return -ENOMEM;
	*h = (struct held_exit) {
		.exit = x->exit, .streams = { x->streams[0], x->streams[1] },
	};
	list_append(&a->exits, &h->link);
	a->n_exits++;
	return 0;
}

static void on_exit_event(struct agent *a, const struct wire_frame *f)
{
	const struct known_proc *p;
	struct parsed_exit x;
	int r;

	if (parse_exit(f, &x) < 0)
		return agent_violation(a, "malformed PROC_EXIT");
	p = find_proc(a, x.exit.token);
	if (p) {
		x.streams[0] = p->streams[0];
		x.streams[1] = p->streams[1];
	} else {
		agent_noise(a);	/* a repetition, or of an earlier daemon */
	}
	if (!agent_is_talking(a))
		return;
	if (!is_open(a, x.streams[0]) && !is_open(a, x.streams[1]))
		return deliver(a, &x.exit);
	r = hold(a, &x);
	if (r == -EBADMSG)
		agent_violation(a, "more exits than processes");
	else if (r < 0)
		agent_lose(a, r);
}

void event_frame(struct agent *a, const struct wire_frame *f)
{
	switch (f->header.arg) {
	case DCLW_EVENT_PROC_EXIT:
		on_exit_event(a, f);
		return;
	case DCLW_EVENT_OOM:
		agent_noise(a);
		if (agent_is_talking(a) && a->ops.oom)
			a->ops.oom(a->userdata);
		return;
	default:
		agent_noise(a);
	}
}
