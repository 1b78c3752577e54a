/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A process started through the API: command, stdio session or PTY.
 *
 *	starting   the guest has been asked. -> running with a pid, -> ended (fault) when it could not be started.
 *	running    output goes to the spool, readers follow it. -> ended by exit, signal, or the sandbox's end.
 *	ended      all output is in the spool; kept for late readers, except foreground commands.
 *
 * Flow control: a stream's credit is given back when its bytes are in the spool and no following reader is more than
 * READER_LAG behind. So a reader that stalls stops its own process and nothing else, and a process that floods costs the
 * spool's cap on disk and one window in memory.
 *
 * Loop thread only. A proc is owned by its sandbox's list; users hold it with proc_ref().
 */
#ifndef DECLAW_PROC_H
#define DECLAW_PROC_H

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "agent/agent.h"
#include "core/fault.h"
#include "core/spool.h"
#include "util/json.h"
#include "util/list.h"

struct sandbox;

enum proc_kind { PROC_FOREGROUND, PROC_BACKGROUND, PROC_STDIO, PROC_PTY };
enum proc_state { PROC_STARTING, PROC_RUNNING, PROC_ENDED };

struct proc_spec {
	enum proc_kind kind;
	const char *cmd;		/* shell text; NULL with a PTY: login shell */
	const char *user, *cwd;		/* NULL: "user", its home */
	json_object *envs;		/* {str: str} or NULL; borrowed */
	uint64_t timeout_usec;		/* 0 = none */
	uint32_t rows, cols;		/* PTY */
};

typedef void (*proc_done_fn)(void *userdata, enum fault fault, const char *detail);

struct proc_reader {
	struct list link;
	struct spool_cursor cursor;
	bool follows;			/* counts for READER_LAG */
	void (*notify)(void *userdata);	/* more output, or the end; from the loop */
	void *userdata;
};

struct stdin_write;

struct proc {
	struct list link;
	struct sandbox *sandbox;	/* NULL once dropped */
	unsigned int refs;
	enum proc_kind kind;
	enum proc_state state;
	enum fault fault;		/* why it ended without an exit status */
	uint64_t token;
	char id[24];			/* cmd- and the token */
	uint32_t pid;
	char *cmd;
	json_object *envs;
	uint64_t started_usec;
	bool killed, timed_out, signalled, keep_files;
	bool recovered, seen;		/* loaded from a record; the guest still has it */
	int exit_code;			/* or signal number */
	struct agent_stream *in, *out, *err;
	uint64_t owed[2];		/* bytes whose credit is held back, per stream */
	bool in_closing, in_closed, in_broken;
	struct proc_streams { uint32_t in, out, err; } resume;	/* ids from the record, until the agent object exists */
	uint64_t deadline_usec;		/* realtime; 0 = none */
	struct list stdin_writes;
	size_t stdin_pending;
	struct spool *spool;
	struct list readers;
	sd_event_source *timeout;
	proc_done_fn start_fn;
	void *start_userdata;
};

/* On FAULT_NONE *ret is a new reference and fn will be called once from the loop. */
enum fault proc_start(struct sandbox *sb, const struct proc_spec *spec, proc_done_fn fn, void *userdata,
		      struct proc **ret, const char **ret_detail);
struct proc *proc_ref(struct proc *p);
struct proc *proc_unref(struct proc *p);
DEFINE_CLEANUP(struct proc *, proc_unref)
/* Nobody waits for the start any more. */
void proc_start_forget(struct proc *p);
/* Running or starting, listed by the API; the newest of that pid. */
struct proc *proc_find_pid(struct sandbox *sb, uint32_t pid);
struct proc *proc_find_id(struct sandbox *sb, const char *id);
bool proc_alive(const struct proc *p);
/* SIGKILL to the group. False: it was over already. */
bool proc_kill(struct proc *p);
/* Exit code as the commands routes show it: 128 + n for signal n. */
int proc_shell_code(const struct proc *p);
/* Takes it out of the sandbox's list and frees its spool when the last reference goes. */
void proc_drop(struct proc *p);

void proc_reader_add(struct proc *p, struct proc_reader *r);
void proc_reader_remove(struct proc *p, struct proc_reader *r);
/* As spool_read(); gives credit back as the reader catches up. */
int proc_read(struct proc *p, struct proc_reader *r, struct spool_entry *e, void *buf);

/* Copies data. fn is called once from the loop when the guest has taken it, or with the fault. */
enum fault proc_stdin(struct proc *p, const void *data, size_t len, proc_done_fn fn, void *userdata);
void proc_stdin_forget(struct proc *p, const void *userdata);
enum fault proc_stdin_close(struct proc *p);

/* --- for the sandbox --- */
void proc_exited(struct sandbox *sb, const struct agent_exit *ex);
/* The sandbox ends: everything ends with that fault. */
void proc_fail_all(struct sandbox *sb, enum fault fault);
/* Takes all out of the list; their spools go with the last reference (unless the daemon is stopping). */
void proc_drop_all(struct sandbox *sb);
/* The same, and none of their files is touched any more: another life of the sandbox has some of the same names. */
void proc_abandon_all(struct sandbox *sb);
/* A new agent answered: the processes of the old one are gone. */
void proc_agent_restarted(struct sandbox *sb);
/* After a daemon restart: spools and records of processes that may still run. */
void proc_recover(struct sandbox *sb);
/* Then, with the agent object: adopt their streams where the spools end. */
void proc_resume_streams(struct sandbox *sb);
/* The agent's list of live processes after a restart: those that nobody knows are killed. */
void proc_reconcile(struct sandbox *sb);
/* While the sandbox is paused no command's time runs. */
void proc_hold_timeouts(struct sandbox *sb);
void proc_release_timeouts(struct sandbox *sb, uint64_t paused_usec);
/* Timeout from deadline_usec; nothing while the sandbox is paused */
int proc_arm_timeout(struct proc *p);

#endif
