/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Process records, see procstore.h. */
#include "core/procstore.h"

#include <dirent.h>
#include <signal.h>
#include <string.h>

#include "core/manager.h"
#include "core/procin.h"
#include "util/clock.h"
#include "util/fileio.h"
#include "util/log.h"

#define RECORD_MAX (1u << 20)

char *procstore_path(const struct sandbox *sb, uint64_t token, const char *suffix)
{
	return str_format("%s/sandboxes/%s/proc/%016llx.%s", sb->manager->settings.state_dir, sb->id,
			  (unsigned long long)token, suffix);
}

int procstore_dir(const struct sandbox *sb)
{
	_cleanup_free_ char *dir = sandbox_path(sb, "proc");

	return dir ? dir_make(dir, 0700) : -ENOMEM;
}

void procstore_remove(const struct proc *p)
{
	_cleanup_free_ char *path = procstore_path(p->sandbox, p->token, "json");

	if (path && p->kind != PROC_FOREGROUND)
		unlink(path);
}

static int record_write(const struct proc *p, const char *path)
{
	_cleanup_json_ json_object *o = json_object_new_object();
	const char *text = NULL;
	size_t len = 0;

	if (path && o && json_put_int(o, "kind", p->kind) == 0 && json_put_int(o, "state", p->state) == 0 &&
	    json_put_int(o, "fault", p->fault) == 0 && json_put_int(o, "pid", p->pid) == 0 &&
	    json_put_string(o, "cmd", p->cmd) == 0 && json_put(o, "envs", json_object_get(p->envs)) == 0 &&
	    json_put_int(o, "started", (int64_t)p->started_usec) == 0 &&
	    json_put_int(o, "deadline", (int64_t)p->deadline_usec) == 0 &&
	    json_put_bool(o, "killed", p->killed) == 0 && json_put_bool(o, "signalled", p->signalled) == 0 &&
	    json_put_int(o, "exit_code", p->exit_code) == 0 && json_put_bool(o, "in_closed", p->in_closing) == 0 &&
	    json_put_int(o, "in", p->in ? agent_stream_id(p->in) : 0) == 0 &&
	    json_put_int(o, "out", p->out ? agent_stream_id(p->out) : 0) == 0 &&
	    json_put_int(o, "err", p->err ? agent_stream_id(p->err) : 0) == 0)
		text = json_text(o, &len);
	return text ? file_write_atomic(path, text, len, 0600, false) : -ENOMEM;
}

void procstore_save(const struct proc *p)
{
	_cleanup_free_ char *path = NULL;
	int r;

	if (!p->sandbox || p->kind == PROC_FOREGROUND)
		return;
	path = procstore_path(p->sandbox, p->token, "json");
	r = record_write(p, path);
	if (r < 0)
		log_sandbox(LOG_WARNING, p->sandbox->id, NULL, r, "The record of process %u cannot be written: %m", p->pid);
}

int procstore_copy(const struct sandbox *sb, const char *dir)
{
	const struct proc *p;
	int r = dir_make(dir, 0700);

	list_foreach((struct list *)(uintptr_t)&sb->procs, p, struct proc, link) {
		_cleanup_free_ char *record = NULL, *spool = NULL;

		if (p->state == PROC_ENDED || p->kind == PROC_FOREGROUND)
			continue;
		record = str_format("%s/%016llx.json", dir, (unsigned long long)p->token);
		spool = str_format("%s/%016llx.spool", dir, (unsigned long long)p->token);
		if (r == 0)
			r = record && spool ? spool_write_continuation(p->spool, spool) : -ENOMEM;
		if (r == 0)
			r = record_write(p, record);
	}
	return r;
}

static int64_t number(json_object *o, const char *key)
{
	int64_t v = 0;

	json_get_int(o, key, INT64_MIN, INT64_MAX, &v);
	return v;
}

/* Numbers that become enums, and thereby places in tables */
static bool record_valid(json_object *o)
{
	int64_t kind = number(o, "kind"), state = number(o, "state"), fault = number(o, "fault");

	return json_object_is_type(o, json_type_object) && kind > PROC_FOREGROUND && kind <= PROC_PTY &&
	       state >= PROC_STARTING && state <= PROC_ENDED && fault >= FAULT_NONE && fault < FAULT_MAX;
}

static int proc_load(struct sandbox *sb, uint64_t token, json_object *o)
{
	_cleanup_free_ char *spool = procstore_path(sb, token, "spool");
	json_object *envs = NULL;
	const char *cmd = "";
	struct proc *p;
	int r;

	if (!record_valid(o))
		return -EBADMSG;
	json_get_string(o, "cmd", &cmd);
	p = proc_new(sb, (enum proc_kind)number(o, "kind"), token);
	if (!p)
		return -ENOMEM;
	p->cmd = strdup(cmd);
	p->envs = json_get_object(o, "envs", &envs) == 0 ? json_object_get(envs) : json_object_new_object();
	p->state = (enum proc_state)number(o, "state");
	p->fault = (enum fault)number(o, "fault");
	p->pid = (uint32_t)number(o, "pid");
	p->started_usec = (uint64_t)number(o, "started");
	p->deadline_usec = (uint64_t)number(o, "deadline");
	p->exit_code = (int)number(o, "exit_code");
	json_get_bool(o, "killed", &p->killed);
	json_get_bool(o, "signalled", &p->signalled);
	json_get_bool(o, "in_closed", &p->in_closing);
	p->resume = (struct proc_streams){
		.in = (uint32_t)number(o, "in"), .out = (uint32_t)number(o, "out"), .err = (uint32_t)number(o, "err"),
	};
	r = spool ? spool_open(spool, sb->manager->settings.spool_max, &p->spool) : -ENOMEM;
	if (r < 0 || !p->cmd || !p->envs) {
		p->sandbox = NULL;
		proc_unref(p);
		return r < 0 ? r : -ENOMEM;
	}
	p->recovered = true;
	list_append(&sb->procs, &p->link);
	return 0;
}

static void load_name(struct sandbox *sb, const char *name)
{
	_cleanup_buf_ struct buf text = BUF_INIT(RECORD_MAX);
	_cleanup_json_ json_object *o = NULL;
	_cleanup_free_ char *path = NULL;
	const char *error;
	uint64_t token;
	uint8_t bytes[8];
	char hex[17];
	int r;

	if (strlen(name) != 21 || !str_ends(name, ".json"))
		return;
	snprintf(hex, sizeof(hex), "%.16s", name);
	if (hex_decode(hex, bytes, sizeof(bytes)) < 0)
		return;
	token = strtoull(hex, NULL, 16);
	path = procstore_path(sb, token, "json");
	r = path ? file_read(path, RECORD_MAX, &text) : -ENOMEM;
	if (r == 0)
		r = json_parse(text.data ?: "", text.len, &o, &error);
	if (r == 0)
		r = proc_load(sb, token, o);
	if (r != 0)
		log_sandbox(LOG_WARNING, sb->id, NULL, r < 0 ? r : -EBADMSG, "Process record %s is left out: %m", name);
}

/* Adoption needs the agent object but not its answer: resuming is part of its HELLO */
void proc_resume_streams(struct sandbox *sb)
{
	struct proc *p;

	list_foreach(&sb->procs, p, struct proc, link) {
		if (p->state == PROC_ENDED || !p->resume.out)
			continue;
		if (proc_adopt_streams(p, sb->agent, p->resume.out, p->resume.err, p->resume.in) < 0)
			log_sandbox(LOG_ERR, sb->id, NULL, 0, "The output of process %u cannot be resumed", p->pid);
		memset(&p->resume, 0, sizeof(p->resume));
		proc_arm_timeout(p);
	}
}

void proc_recover(struct sandbox *sb)
{
	_cleanup_free_ char *dir = sandbox_path(sb, "proc");
	DIR *d = dir ? opendir(dir) : NULL;
	const struct dirent *e;

	while (d && (e = readdir(d)))
		load_name(sb, e->d_name);
	if (d)
		closedir(d);
}

/* --- the guest's list after a restart --- */

static struct proc *find_token(struct sandbox *sb, uint64_t token)
{
	struct proc *p;

	list_foreach(&sb->procs, p, struct proc, link)
		if (p->token == token)
			return p;
	return NULL;
}

static void killed_stray(void *userdata _unused_, int error _unused_)
{
}

/* What was under way when the last daemon ended */
static void catch_up(struct proc *p, uint32_t pid)
{
	bool unknown = p->state == PROC_STARTING;

	p->seen = true;
	if (unknown) {
		p->pid = pid;
		p->state = PROC_RUNNING;
		procstore_save(p);
	}
	/* Its client never learned the id, and no list tells it */
	if (p->killed || (unknown && p->kind == PROC_STDIO)) {
		p->killed = false;
		proc_kill(p);
	}
}

static void on_guest_proc(void *userdata, int error, const struct agent_proc *ap)
{
	struct sandbox *sb = userdata;
	struct proc *p;

	if (ap && sb->agent) {
		p = find_token(sb, ap->token);
		if (p && proc_alive(p))
			catch_up(p, ap->pid);
		else if (p)
			p->seen = true;
		else if (ap->exited)
			agent_proc_forget(sb->agent, ap->pid);
		else
			agent_proc_signal(sb->agent, ap->pid, SIGKILL, true, killed_stray, NULL);
		return;
	}
	if (error == 0)
		proc_lost_all(sb);
	sandbox_unref(sb);
}

void proc_reconcile(struct sandbox *sb)
{
	sandbox_ref(sb);
	if (agent_proc_list(sb->agent, on_guest_proc, sb) < 0)
		sandbox_unref(sb);
}
