/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guests, see fake-agent.h. */
#include "lib/fake-agent.h"

#include <criterion/criterion.h>
#include <string.h>

struct fake_guest guest;
static struct list agents = LIST_INIT(agents);

/* --- the channel --- */

/* As the real one: freed within a callback it is gone behind it */
static void leave(struct agent *a)
{
	if (--a->depth > 0 || !a->dead)
		return;
	a->dead = false;
	agent_free(a);
}

static void up_answer(struct fake_call *c, int error)
{
	struct agent *a = c->agent;

	if (error < 0)
		fake_lose(a, -ETIMEDOUT);
	else
		fake_up(a, guest.agent_id ?: 77);
}

void fake_up(struct agent *a, uint64_t agent_id)
{
	struct agent_peer peer = { .agent_id = agent_id, .same_agent = !a->expected || a->expected == agent_id };

	cr_assert(a->started && !a->lost);
	a->up = true;
	a->expected = agent_id;
	a->depth++;
	a->ops->up(a->userdata, &peer);
	leave(a);
}

void fake_lose(struct agent *a, int reason)
{
	agent_abort(a, reason);
}

static void say_hello(struct agent *a)
{
	struct fake_call *c;

	if (!a->started || a->up || a->lost)
		return;
	list_foreach(&fake.calls, c, struct fake_call, link)
		if (c->agent == a && c->op == FAKE_AGENT_UP)
			return;
	c = fake_call_new(FAKE_AGENT, FAKE_AGENT_UP, "(hello)", NULL);
	c->agent = a;
	c->answer = up_answer;
}

void fake_agent_boot(const char *id)
{
	struct agent *a;

	list_foreach(&agents, a, struct agent, link)
		if (str_eq(a->id, id))
			say_hello(a);
}

void fake_agent_forget_all(void)
{
	memset(&guest, 0, sizeof(guest));
	list_init(&agents);
}

int agent_new(sd_event *event _unused_, const char *path, const struct agent_config *config _unused_,
	      const struct agent_ops *ops, void *userdata, struct agent **ret)
{
	const char *id = strstr(path, "/vm/");
	struct agent *a = calloc(1, sizeof(*a));

	cr_assert(a && id);
	*a = (struct agent){ .magic = FAKE_MAGIC, .ops = ops, .userdata = userdata, .fd = -EBADF };
	snprintf(a->id, sizeof(a->id), "%.*s", (int)strcspn(id + 4, "/"), id + 4);
	list_init(&a->streams);
	list_append(&agents, &a->link);
	guest.n_agents++;
	*ret = a;
	return 0;
}

/* After this no callback of the object is made */
struct agent *agent_free(struct agent *a)
{
	struct fake_call *c;
	struct agent_stream *s;

	if (!a)
		return NULL;
	cr_assert(a->magic == FAKE_MAGIC && !a->dead);
	if (a->depth > 0) {
		a->dead = true;
		return NULL;
	}
	list_foreach(&fake.calls, c, struct fake_call, link)
		if (c->agent == a)
			fake_call_free(c);
	list_foreach(&a->streams, s, struct agent_stream, link) {
		list_unlink(&s->link);
		s->agent = NULL;
	}
	list_unlink(&a->link);
	fd_close(a->fd);
	a->magic = 0;
	guest.n_agents--;
	free(a);
	return NULL;
}

void agent_abort(struct agent *a, int reason)
{
	struct agent_stream *s;

	if (!a || a->lost)
		return;
	cr_assert_lt(reason, 0);
	a->depth++;
	a->lost = true;
	a->up = false;
	fake_cancel(FAKE_AGENT, a, reason);
	list_foreach(&a->streams, s, struct agent_stream, link)
		if (!s->broken && !a->dead) {
			s->broken = true;
			if (s->ops->end)
				s->ops->end(s->userdata, reason);
		}
	if (!a->dead)
		a->ops->lost(a->userdata, reason);
	leave(a);
}

int agent_start(struct agent *a)
{
	const struct fake_thing *d = fake_find(FAKE_DOMAIN, a->id);

	cr_assert_not(a->lost);
	a->started = true;
	a->detached = false;
	if (d && d->running)
		say_hello(a);
	return 0;
}

int agent_start_fd(struct agent *a, int fd)
{
	a->fd = fd;
	return agent_start(a);
}

int agent_fd(const struct agent *a)
{
	return a->fd;
}

bool agent_is_up(const struct agent *a)
{
	return a->up;
}

void agent_detach(struct agent *a)
{
	a->up = a->started = false;
	a->detached = true;
}

void agent_hold(struct agent *a, bool held)
{
	a->held = held;
}

void agent_expect(struct agent *a, uint64_t agent_id)
{
	a->expected = agent_id;
}

const char *agent_message(const struct agent *a)
{
	cr_assert_eq(a->magic, FAKE_MAGIC);
	return guest.message;
}

/* --- streams --- */

static int stream_new(struct agent *a, enum agent_stream_dir dir, uint32_t window, const struct agent_stream_ops *ops,
		      void *userdata, struct agent_stream **ret)
{
	struct agent_stream *s = calloc(1, sizeof(*s));

	cr_assert_not_null(s);
	*s = (struct agent_stream){
		.magic = FAKE_MAGIC, .agent = a, .dir = dir, .window = window, .ops = ops, .userdata = userdata,
		.room = guest.room,
	};
	list_append(&a->streams, &s->link);
	guest.n_streams++;
	*ret = s;
	return 0;
}

int agent_stream_open(struct agent *a, enum agent_stream_dir dir, uint32_t window, const struct agent_stream_ops *ops,
		      void *userdata, struct agent_stream **ret)
{
	int r = a->lost ? -ENOTCONN : stream_new(a, dir, window, ops, userdata, ret);

	if (r == 0)
		(*ret)->id = ++guest.next_stream;
	return r;
}

int agent_stream_adopt(struct agent *a, uint32_t id, enum agent_stream_dir dir, uint64_t offset, uint32_t window,
		       const struct agent_stream_ops *ops, void *userdata, struct agent_stream **ret)
{
	int r = stream_new(a, dir, window, ops, userdata, ret);

	if (r == 0) {
		(*ret)->id = id;
		(*ret)->next = offset;
		(*ret)->adopted = true;
	}
	return r;
}

uint32_t agent_stream_id(const struct agent_stream *s)
{
	return s->id;
}

ssize_t agent_stream_write(struct agent_stream *s, const void *data, size_t len)
{
	size_t n = MIN_OF(len, s->room);

	cr_assert(s->magic == FAKE_MAGIC && s->dir == AGENT_STREAM_OUT && !s->finished);
	if (s->broken)
		return -EPIPE;
	if (!s->written)
		s->written = malloc(FAKE_WRITTEN_MAX);
	cr_assert(s->written && s->n_written + n <= FAKE_WRITTEN_MAX);
	memcpy(s->written + s->n_written, data, n);
	s->n_written += n;
	s->room -= n;
	return (ssize_t)n;
}

uint64_t agent_stream_offset(const struct agent_stream *s)
{
	return s->base + s->n_written;
}

int agent_stream_finish(struct agent_stream *s)
{
	cr_assert(s->magic == FAKE_MAGIC && !s->finished);
	s->finished = true;
	return 0;
}

void agent_stream_consumed(struct agent_stream *s, size_t n)
{
	cr_assert(s->magic == FAKE_MAGIC && s->dir == AGENT_STREAM_IN);
	s->consumed += n;
	cr_assert_leq(s->consumed, s->next, "credit for bytes that never came");
}

void agent_stream_reset(struct agent_stream *s, int error)
{
	cr_assert_gt(error, 0);
	s->broken = true;
}

struct agent_stream *agent_stream_free(struct agent_stream *s)
{
	if (!s)
		return NULL;
	cr_assert_eq(s->magic, FAKE_MAGIC);
	if (s->agent && !s->agent->detached && !s->broken)
		guest.n_resets++;
	list_unlink(&s->link);
	free(s->written);
	s->magic = 0;
	guest.n_streams--;
	free(s);
	return NULL;
}

void fake_feed(struct agent_stream *s, const void *data, size_t len)
{
	uint64_t at = s->next;

	cr_assert_leq(s->next - s->consumed + len, s->window, "no credit for %zu bytes", len);
	s->next += len;
	s->ops->data(s->userdata, at, data, len);
}

void fake_ack(struct agent_stream *s, uint64_t offset)
{
	s->ops->acked(s->userdata, offset);
}

void fake_room(struct agent_stream *s, size_t room)
{
	s->room = room;
	s->ops->writable(s->userdata);
}

void fake_end(struct agent_stream *s, int error)
{
	s->broken = true;
	s->ops->end(s->userdata, error);
}

/* --- operations --- */

static struct fake_call *agent_call(struct agent *a, enum fake_op op, const char *name, void *userdata)
{
	struct fake_call *c = fake_call_new(FAKE_AGENT, op, name, userdata);

	c->agent = a;
	return c;
}

static void done_answer(struct fake_call *c, int error)
{
	if (c->fn.agent_done)
		c->fn.agent_done(c->userdata, error);
}

static void identity_answer(struct fake_call *c, int error)
{
	c->fn.agent_done(c->userdata, error ?: guest.identity_error);
}

int agent_set_identity(struct agent *a, const struct agent_identity *id, agent_done_fn fn, void *userdata)
{
	struct fake_call *c;

	if (a->lost)
		return -ENOTCONN;
	/* Whoever has all of it already is still made somebody else: new entropy, and the time */
	cr_assert(!id->hostname || (str_eq(id->hostname, a->id) && strlen(id->machine_id) == 32));
	cr_assert(id->entropy_len >= 32 && id->time_nsec && !a->held);
	c = agent_call(a, FAKE_IDENTITY, "(identity)", userdata);
	c->answer = identity_answer;
	c->fn.agent_done = fn;
	return 0;
}

static void started_answer(struct fake_call *c, int error)
{
	c->fn.agent_pid(c->userdata, error, error ? 0 : ++guest.next_pid);
}

static void join(char *ret, size_t size, const char *const *v)
{
	size_t n = 0;

	ret[0] = '\0';
	for (; v && *v && n < size; v++)
		n += (size_t)snprintf(ret + n, size - n, "%s\n", *v);
	cr_assert_lt(n, size);
}

int agent_proc_start(struct agent *a, const struct agent_proc_spec *spec, agent_pid_fn fn, void *userdata)
{
	struct fake_call *c;

	if (a->lost)
		return -ENOTCONN;
	cr_assert_neq(spec->token, 0);
	join(guest.argv, sizeof(guest.argv), spec->argv);
	join(guest.env, sizeof(guest.env), spec->env);
	snprintf(guest.user, sizeof(guest.user), "%s", spec->user ?: "");
	snprintf(guest.cwd, sizeof(guest.cwd), "%s", spec->cwd ?: "");
	guest.token = spec->token;
	c = agent_call(a, FAKE_PROC_START, "(start)", userdata);
	c->answer = started_answer;
	c->fn.agent_pid = fn;
	return 0;
}

int agent_proc_signal(struct agent *a, uint32_t pid, int signal, bool group, agent_done_fn fn, void *userdata)
{
	struct fake_call *c;

	if (a->lost)
		return -ENOTCONN;
	cr_assert(group && pid > 0);
	guest.n_signals++;
	guest.signal_pid = pid;
	guest.signal = signal;
	c = agent_call(a, FAKE_PROC_SIGNAL, "(signal)", userdata);
	c->answer = done_answer;
	c->fn.agent_done = fn;
	return 0;
}

int agent_proc_forget(struct agent *a, uint32_t pid)
{
	guest.n_forgets++;
	guest.forget_pid = pid;
	return a->lost ? -ENOTCONN : 0;
}

static void list_answer(struct fake_call *c, int error)
{
	for (size_t i = 0; error == 0 && i < guest.n_procs; i++)
		c->fn.agent_proc(c->userdata, 0, &guest.procs[i]);
	c->fn.agent_proc(c->userdata, error, NULL);
}

int agent_proc_list(struct agent *a, agent_proc_fn fn, void *userdata)
{
	struct fake_call *c;

	if (a->lost)
		return -ENOTCONN;
	c = agent_call(a, FAKE_PROC_LIST, "(procs)", userdata);
	c->answer = list_answer;
	c->fn.agent_proc = fn;
	return 0;
}

void fake_exit(struct agent *a, uint64_t token, uint32_t pid, bool signalled, uint32_t status)
{
	const struct agent_exit ex = { .token = token, .pid = pid, .signalled = signalled, .status = status };

	a->depth++;
	a->ops->proc_exit(a->userdata, &ex);
	leave(a);
}
