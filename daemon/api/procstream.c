/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Output of a process as events, see procstream.h. */
#include "api/procstream.h"

static void procstream_free(struct procstream *ps)
{
	proc_reader_remove(ps->p, &ps->reader);
	if (ps->style->kill)
		proc_kill(ps->p);
	proc_unref(ps->p);
	free(ps);
}

static void procstream_end(struct procstream *ps, int r)
{
	if (r < 0)
		sse_abort(ps->sse);
	else
		sse_end(ps->sse);
	procstream_free(ps);
}

/* 1: go on, 0: wait for notify() or room, or this was the end and ps is gone */
static int step(struct procstream *ps)
{
	static uint8_t data[SPOOL_ENTRY_MAX];	/* of the loop's thread; used up before this returns */
	struct spool_entry e;
	int r = proc_read(ps->p, &ps->reader, &e, data);

	if (r > 0) {
		r = ps->style->entry(ps, &e, data);
		if (r == 0 && ps->style->marks)
			spool_set_mark(ps->p->spool, &ps->reader.cursor);
		if (r == 0)
			return 1;
	} else if (r == 0) {
		if (proc_alive(ps->p))
			return 0;
		r = ps->style->end(ps);
		if (r > 0)
			return 1;
	}
	procstream_end(ps, r);
	return 0;
}

static void pump(void *userdata)
{
	struct procstream *ps = userdata;

	while (sse_ready(ps->sse) && step(ps) > 0)
		;
}

static void gone(void *userdata)
{
	procstream_free(userdata);
}

void procstream_run(struct http_request *req, struct manager *m, struct proc *p, const struct spool_cursor *from,
		    double limit, const struct procstream_style *style, double timeout)
{
	static const struct sse_ops ops = { .pump = pump, .gone = gone };
	struct procstream *ps = calloc(1, sizeof(*ps));

	if (!ps) {
		if (style->kill)
			proc_kill(p);
		api_fail(req, FAULT_INTERNAL, "out of memory");
		return;
	}
	*ps = (struct procstream){ .p = proc_ref(p), .style = style, .timeout = timeout };
	ps->reader = (struct proc_reader){ .cursor = *from, .follows = true, .notify = pump, .userdata = ps };
	list_init(&ps->reader.link);
	proc_reader_add(p, &ps->reader);
	if (sse_begin(req, m->event, limit, &ops, ps, &ps->sse) < 0) {
		procstream_free(ps);
		return;
	}
	pump(ps);
}

int procstream_exit_code(const struct proc *p)
{
	return p->signalled || p->killed || p->fault != FAULT_NONE ? -1 : p->exit_code;
}
