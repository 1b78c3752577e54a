/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes in a sandbox, see proc.h: start, output, end. Standard input is in procin.c. */
#include "core/proc.h"

#include <assert.h>
#include <signal.h>
#include <string.h>

#include "core/manager.h"
#include "core/procin.h"
#include "core/procstore.h"
#include "util/clock.h"
#include "util/log.h"

#define PROCS_KEPT 256u		/* ended ones that stay readable per sandbox */

static void proc_notify(struct proc *p)
{
	struct proc_reader *r;

	list_foreach(&p->readers, r, struct proc_reader, link)
		r->notify(r->userdata);
}

/* --- credit --- */

static bool readers_keep_up(const struct proc *p)
{
	struct proc_reader *r;

	list_foreach(&p->readers, r, struct proc_reader, link)
		if (r->follows && spool_lag(p->spool, &r->cursor) > READER_LAG)
			return false;
	return true;
}

static void credit_return(struct proc *p)
{
	struct agent_stream *streams[2] = { p->out, p->err };

	/* A killed process must come to its end, whoever is reading; what is left of its output is not much */
	if (!p->killed && !readers_keep_up(p))
		return;
	for (size_t i = 0; i < 2; i++) {
		if (streams[i] && p->owed[i])
			agent_stream_consumed(streams[i], p->owed[i]);
		p->owed[i] = 0;
	}
}

/* --- output --- */

static void output(struct proc *p, enum spool_stream stream, const uint8_t *data, size_t len)
{
	size_t done = 0;
	int r = 0;

	while (done < len && r == 0) {
		size_t n = MIN_OF(len - done, (size_t)SPOOL_ENTRY_MAX);

		r = spool_append(p->spool, stream, data + done, n);
		done += n;
	}
	if (r < 0 && p->fault == FAULT_NONE) {
		/* The disk is full: better a clear end than silently missing output */
		p->fault = r == -ENOSPC || r == -EDQUOT ? FAULT_NO_SPACE : FAULT_INTERNAL;
		log_sandbox(LOG_ERR, p->sandbox->id, NULL, r, "Output of process %u cannot be kept: %m", p->pid);
		proc_kill(p);
	}
	p->owed[stream - 1] += len;
	credit_return(p);
	proc_notify(p);
}

static void out_data(void *userdata, uint64_t offset _unused_, const uint8_t *data, size_t len)
{
	output(userdata, SPOOL_STDOUT, data, len);
}

static void err_data(void *userdata, uint64_t offset _unused_, const uint8_t *data, size_t len)
{
	output(userdata, SPOOL_STDERR, data, len);
}

static void stream_gap(void *userdata, uint64_t from, uint64_t to)
{
	struct proc *p = userdata;

	log_sandbox(LOG_WARNING, p->sandbox->id, NULL, 0, "Process %u lost output bytes %llu to %llu", p->pid,
		    (unsigned long long)from, (unsigned long long)to);
}

static void stream_end(void *userdata _unused_, int error _unused_)
{
	/* The exit event follows; a lost channel ends the sandbox's processes by proc_fail_all() */
}

static const struct agent_stream_ops out_ops = { .data = out_data, .gap = stream_gap, .end = stream_end };
static const struct agent_stream_ops err_ops = { .data = err_data, .gap = stream_gap, .end = stream_end };

int proc_open_streams(struct proc *p, struct agent *a)
{
	int r = agent_stream_open(a, AGENT_STREAM_IN, STREAM_WINDOW, &out_ops, p, &p->out);

	if (r == 0 && p->kind != PROC_PTY)
		r = agent_stream_open(a, AGENT_STREAM_IN, STREAM_WINDOW, &err_ops, p, &p->err);
	if (r == 0 && p->kind != PROC_FOREGROUND)
		r = procin_open(p, a);
	return r;
}

int proc_adopt_streams(struct proc *p, struct agent *a, uint32_t out, uint32_t err, uint32_t in)
{
	int r = agent_stream_adopt(a, out, AGENT_STREAM_IN, spool_stream_size(p->spool, SPOOL_STDOUT), STREAM_WINDOW,
				   &out_ops, p, &p->out);

	if (r == 0 && err)
		r = agent_stream_adopt(a, err, AGENT_STREAM_IN, spool_stream_size(p->spool, SPOOL_STDERR),
				       STREAM_WINDOW, &err_ops, p, &p->err);
	if (r == 0 && in)
		r = procin_adopt(p, a, in);
	return r;
}

/* --- end --- */

static void streams_free(struct proc *p)
{
	p->in = agent_stream_free(p->in);
	p->out = agent_stream_free(p->out);
	p->err = agent_stream_free(p->err);
}

static void start_answer(struct proc *p, enum fault fault, const char *detail)
{
	proc_done_fn fn = p->start_fn;

	p->start_fn = NULL;
	if (fn)
		fn(p->start_userdata, fault, detail);
}

/* Old ended processes make room for new ones */
static void trim_ended(struct sandbox *sb)
{
	unsigned int n = 0;
	struct proc *p;

	list_foreach(&sb->procs, p, struct proc, link)
		if (p->state == PROC_ENDED && ++n > PROCS_KEPT)
			proc_drop(p);
}

static void proc_end(struct proc *p, enum fault fault)
{
	struct sandbox *sb = p->sandbox;

	if (p->state == PROC_ENDED)
		return;
	proc_ref(p);
	p->state = PROC_ENDED;
	if (fault != FAULT_NONE)
		p->fault = fault;
	p->timeout = sd_event_source_disable_unref(p->timeout);
	streams_free(p);
	procin_fail(p, FAULT_PROC_ENDED);
	start_answer(p, fault, NULL);
	procstore_save(p);
	proc_notify(p);
	if (sb && p->kind == PROC_FOREGROUND)
		proc_drop(p);
	else if (sb)
		trim_ended(sb);
	proc_unref(p);
}

void proc_exited(struct sandbox *sb, const struct agent_exit *ex)
{
	struct proc *p;

	list_foreach(&sb->procs, p, struct proc, link)
		if (p->token == ex->token && p->state != PROC_ENDED) {
			p->pid = ex->pid;
			p->signalled = ex->signalled;
			p->exit_code = (int)ex->status;
			proc_end(p, FAULT_NONE);
			break;
		}
	/* Also for one nobody knows any more */
	if (sb->agent)
		agent_proc_forget(sb->agent, ex->pid);
}

/* Each end may drop others from the list: begin again after one. which NULL = all. */
static void end_all(struct sandbox *sb, enum fault fault, bool (*which)(const struct proc *p))
{
	struct proc *p;
	bool found;

	do {
		found = false;
		list_foreach(&sb->procs, p, struct proc, link)
			if (p->state != PROC_ENDED && (!which || which(p))) {
				proc_end(p, fault);
				found = true;
				break;
			}
	} while (found);
}

void proc_fail_all(struct sandbox *sb, enum fault fault)
{
	end_all(sb, fault, NULL);
}

static bool is_lost(const struct proc *p)
{
	return p->recovered && !p->seen;
}

void proc_lost_all(struct sandbox *sb)
{
	end_all(sb, FAULT_AGENT_LOST, is_lost);
}

void proc_agent_restarted(struct sandbox *sb)
{
	log_sandbox(LOG_WARNING, sb->id, NULL, 0, "The agent of %s is a new one: its processes are gone", sb->id);
	proc_fail_all(sb, FAULT_AGENT_LOST);
}

void proc_drop_all(struct sandbox *sb)
{
	struct proc *p;

	list_foreach(&sb->procs, p, struct proc, link)
		proc_drop(p);
}

void proc_abandon_all(struct sandbox *sb)
{
	struct proc *p;

	list_foreach(&sb->procs, p, struct proc, link) {
		procstore_remove(p);
		spool_disown(p->spool);
		proc_drop(p);
	}
}

int proc_shell_code(const struct proc *p)
{
	return p->signalled ? 128 + p->exit_code : p->exit_code;
}

/* --- kill, timeout --- */

static void kill_done(void *userdata, int error)
{
	struct proc *p = userdata;

	if (error > 0 && error != ESRCH && p->sandbox)
		log_sandbox(LOG_WARNING, p->sandbox->id, NULL, -error, "Killing process %u: %m", p->pid);
	proc_unref(p);
}

bool proc_alive(const struct proc *p)
{
	return p->state != PROC_ENDED;
}

bool proc_kill(struct proc *p)
{
	if (p->state == PROC_ENDED || p->killed)
		return false;
	p->killed = true;
	credit_return(p);
	if (p->state == PROC_STARTING)
		return true;	/* start_reply() sends the signal */
	proc_ref(p);
	if (agent_proc_signal(p->sandbox->agent, p->pid, SIGKILL, true, kill_done, p) < 0)
		proc_unref(p);
	return true;
}

static int on_timeout(sd_event_source *s _unused_, uint64_t usec _unused_, void *userdata)
{
	struct proc *p = userdata;

	p->timed_out = true;
	proc_kill(p);
	return 0;
}

int proc_arm_timeout(struct proc *p)
{
	uint64_t now = clock_realtime();

	if (!p->deadline_usec || p->timeout || p->sandbox->state == SANDBOX_PAUSED)
		return 0;
	return sd_event_add_time_relative(p->sandbox->manager->event, &p->timeout, CLOCK_MONOTONIC,
					  p->deadline_usec > now ? p->deadline_usec - now : 1, USEC_PER_MSEC, on_timeout, p);
}

void proc_hold_timeouts(struct sandbox *sb)
{
	struct proc *p;

	list_foreach(&sb->procs, p, struct proc, link)
		p->timeout = sd_event_source_disable_unref(p->timeout);
}

void proc_release_timeouts(struct sandbox *sb, uint64_t paused_usec)
{
	struct proc *p;

	list_foreach(&sb->procs, p, struct proc, link) {
		if (p->state == PROC_ENDED || !p->deadline_usec)
			continue;
		p->deadline_usec += paused_usec;
		procstore_save(p);
		if (proc_arm_timeout(p) < 0)
			log_sandbox(LOG_ERR, sb->id, NULL, 0, "Process %u has lost its timeout", p->pid);
	}
}

/* --- start --- */

static void start_reply(void *userdata, int error, uint32_t pid)
{
	struct proc *p = userdata;

	if (p->state != PROC_STARTING) {
		proc_unref(p);
		return;
	}
	if (error) {
		const char *said = error > 0 && p->sandbox && p->sandbox->agent ? agent_message(p->sandbox->agent) : "";

		start_answer(p, error < 0 ? FAULT_AGENT_LOST : FAULT_PROC_START, *said ? said : strerror(abs(error)));
		proc_end(p, error < 0 ? FAULT_AGENT_LOST : FAULT_PROC_START);
		if (p->sandbox)
			proc_drop(p);
		proc_unref(p);
		return;
	}
	p->pid = pid;
	p->state = PROC_RUNNING;
	procstore_save(p);
	if (p->killed) {
		p->killed = false;
		proc_kill(p);
	}
	start_answer(p, FAULT_NONE, NULL);
	proc_unref(p);
}

struct proc *proc_new(struct sandbox *sb, enum proc_kind kind, uint64_t token)
{
	struct proc *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->refs = 1;
	p->sandbox = sb;
	p->kind = kind;
	p->token = token;
	p->started_usec = clock_realtime();
	snprintf(p->id, sizeof(p->id), "cmd-%016llx", (unsigned long long)token);
	list_init(&p->link);
	list_init(&p->readers);
	list_init(&p->stdin_writes);
	return p;
}

static int proc_prepare(struct sandbox *sb, struct proc *p, const struct proc_spec *spec)
{
	_cleanup_free_ char *path = NULL;
	int r;

	p->cmd = strdup(spec->cmd ?: "/bin/bash -l");
	p->envs = spec->envs ? json_object_get(spec->envs) : json_object_new_object();
	path = procstore_path(sb, p->token, "spool");
	if (!p->cmd || !p->envs || !path)
		return -ENOMEM;
	r = procstore_dir(sb);
	if (r == 0)
		r = spool_new(path, sb->manager->settings.spool_max, spec->kind != PROC_FOREGROUND, &p->spool);
	if (r == 0)
		r = proc_open_streams(p, sb->agent);
	if (r == 0 && spec->timeout_usec)
		p->deadline_usec = p->started_usec + spec->timeout_usec;
	if (r == 0)
		r = proc_arm_timeout(p);
	return r < 0 ? r : 0;
}

static int proc_ask(struct sandbox *sb, struct proc *p, const struct proc_spec *spec)
{
	const char *const shell[] = { "/bin/bash", "-c", spec->cmd, NULL };
	const char *const login[] = { "/bin/bash", "-l", NULL };
	_cleanup_strv_ char **env = NULL;
	const struct agent_proc_spec ask = {
		.token = p->token,
		.argv = spec->cmd ? shell : login,
		.user = spec->user ?: "user",
		.cwd = spec->cwd,
		.in = p->in,
		.out = p->out,
		.err = p->err,
		.rows = spec->rows,
		.cols = spec->cols,
	};
	struct agent_proc_spec full = ask;
	int r = sandbox_env(sb, spec->envs, &env);

	if (r == 0 && spec->kind == PROC_PTY)
		r = strv_push(&env, "TERM=xterm-256color");
	if (r < 0)
		return r;
	full.env = (const char *const *)env;
	proc_ref(p);
	r = agent_proc_start(sb->agent, &full, start_reply, p);
	if (r < 0)
		proc_unref(p);
	return r;
}

static enum fault start_fault(int r)
{
	switch (-r) {
	case ENOSPC:
	case EDQUOT:
		return FAULT_NO_SPACE;
	case EMFILE:
	case ENOBUFS:
	case EAGAIN:
		return FAULT_PROC_LIMIT;
	case EMSGSIZE:
	case E2BIG:
		return FAULT_TOO_LARGE;
	default:
		return FAULT_INTERNAL;
	}
}

enum fault proc_start(struct sandbox *sb, const struct proc_spec *spec, proc_done_fn fn, void *userdata,
		      struct proc **ret, const char **ret_detail)
{
	struct proc *p;
	int r;

	*ret_detail = NULL;
	if (sb->state != SANDBOX_RUNNING || !sb->agent)
		return sb->state == SANDBOX_KILLED ? FAULT_SANDBOX_KILLED : FAULT_SANDBOX_STATE;
	p = proc_new(sb, spec->kind, random_u64());
	if (!p)
		return FAULT_INTERNAL;
	p->start_fn = fn;
	p->start_userdata = userdata;
	r = proc_prepare(sb, p, spec);
	if (r == 0)
		r = proc_ask(sb, p, spec);
	if (r < 0) {
		p->sandbox = NULL;
		p->start_fn = NULL;
		proc_unref(p);
		return start_fault(r);
	}
	list_prepend(&sb->procs, &p->link);	/* the list's reference */
	procstore_save(p);
	*ret = proc_ref(p);
	return FAULT_NONE;
}

void proc_start_forget(struct proc *p)
{
	p->start_fn = NULL;
}

/* --- references, look-up --- */

struct proc *proc_ref(struct proc *p)
{
	p->refs++;
	return p;
}

struct proc *proc_unref(struct proc *p)
{
	if (!p || --p->refs > 0)
		return NULL;
	assert(list_empty(&p->readers));
	sd_event_source_disable_unref(p->timeout);
	streams_free(p);
	procin_fail(p, FAULT_ENDED_MEANWHILE);
	spool_free(p->spool, !p->keep_files);
	cleanup_jsonp(&p->envs);
	free(p->cmd);
	free(p);
	return NULL;
}

void proc_drop(struct proc *p)
{
	if (!p->sandbox)
		return;
	/* A daemon that stops leaves what its successor needs */
	p->keep_files = p->sandbox->manager->stopping && p->kind != PROC_FOREGROUND;
	if (!p->keep_files)
		procstore_remove(p);
	list_unlink(&p->link);
	p->timeout = sd_event_source_disable_unref(p->timeout);
	streams_free(p);
	p->sandbox = NULL;
	proc_unref(p);
}

struct proc *proc_find_pid(struct sandbox *sb, uint32_t pid)
{
	struct proc *p, *ended = NULL;

	list_foreach(&sb->procs, p, struct proc, link) {
		if (p->pid != pid || p->state == PROC_STARTING)
			continue;
		if (p->state == PROC_RUNNING)
			return p;
		ended = ended ?: p;
	}
	return ended;
}

struct proc *proc_find_id(struct sandbox *sb, const char *id)
{
	struct proc *p;

	list_foreach(&sb->procs, p, struct proc, link)
		if (str_eq(p->id, id))
			return p;
	return NULL;
}

/* --- readers --- */

void proc_reader_add(struct proc *p, struct proc_reader *r)
{
	list_append(&p->readers, &r->link);
}

void proc_reader_remove(struct proc *p, struct proc_reader *r)
{
	list_unlink(&r->link);
	credit_return(p);
}

int proc_read(struct proc *p, struct proc_reader *r, struct spool_entry *e, void *buf)
{
	int n = spool_read(p->spool, &r->cursor, e, buf);

	if (n > 0)
		credit_return(p);
	return n;
}
