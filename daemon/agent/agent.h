/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's end of the guest channel of one sandbox.
 *
 * An agent object owns the UNIX socket that QEMU serves for the virtio port, speaks
 * guest/PROTOCOL.md over it, reconnects and resynchronises by itself, and shows its user three
 * things: requests with one reply each, byte streams with credit, and events. It knows processes
 * and files only as operations; it knows no sandbox. The guest is hostile: nothing is allocated by
 * a size read from the wire, every state violation is counted and ends the session (back-off, then
 * `lost` with -EPROTO).
 *
 * Threads: everything here runs on the loop thread. Callbacks are never made from inside a call of
 * this header, always from the loop. After *_free no callback of that object is made.
 */
#ifndef DECLAW_AGENT_H
#define DECLAW_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

struct agent;
struct agent_request;
struct agent_stream;
struct wire_writer;

/* What HELLO_ACK told; strings are owned by the agent and validated. */
struct agent_peer {
	uint64_t agent_id;
	char boot_id[37];
	char version[64];
	bool same_agent; /* false: the agent restarted, its processes and streams are gone; true on
			  * the first contact unless agent_expect() named another one */
};

struct agent_exit {
	uint64_t token;
	uint32_t pid;
	bool signalled;		/* status is a signal number, not an exit code */
	uint32_t status;
};

struct agent_ops {
	/* The session is up (again). Streams and requests of before go on by themselves when
	 * same_agent. */
	void (*up)(void *userdata, const struct agent_peer *peer);
	/* The session is down for good: reason is a negative errno (-ETIMEDOUT no answer to HELLO
	 * or pings, -EPROTO the guest lies, -ECONNRESET QEMU is gone). All streams and requests
	 * have been failed. */
	void (*lost)(void *userdata, int reason);
	/* A process ended and all of its output has been delivered to its streams. May be repeated
	 * after a resync until agent_proc_forget(). */
	void (*proc_exit)(void *userdata, const struct agent_exit *ex);
	void (*oom)(void *userdata);
};

struct agent_config {
	uint64_t connect_timeout_usec; /* from agent_start() to the first HELLO_ACK; covers the boot
					*/
	uint64_t ping_interval_usec;	/* 0 = none */
	unsigned int ping_misses;
};

/* path: the UNIX socket of the virtio port; copied. The agent does nothing before agent_start(). */
int agent_new(sd_event *event, const char *path, const struct agent_config *config,
	      const struct agent_ops *ops, void *userdata, struct agent **ret);
struct agent *agent_free(struct agent *a);
/*
 * The owner gives the guest up: every request and stream fails with reason (negative) and `lost` is
 * called, all before this returns. NULL is allowed. Comes before agent_free() where anybody may
 * still wait.
 */
void agent_abort(struct agent *a, int reason);
/* Connect (retrying while the socket does not exist yet) and say HELLO. */
int agent_start(struct agent *a);
/* Same, over a socket that is already connected (service manager's fd store). Takes the fd. */
int agent_start_fd(struct agent *a, int fd);
/* Borrowed, -EBADF when not connected: for the fd store. */
int agent_fd(const struct agent *a);
bool agent_is_up(const struct agent *a);
/*
 * Stop talking: used before a pause, a save, or the daemon's end. The socket is closed here (a
 * duplicate in the fd store stays open) and the guest is told nothing, so nothing there ends;
 * requests and streams wait, and agent_start*() goes on with them. What is freed while detached is
 * not reset in the guest unless the same object is started again.
 */
void agent_detach(struct agent *a);
/* Its guest is stopped: it is not pinged, and not lost for its silence. */
void agent_hold(struct agent *a, bool held);
/* After a daemon restart, before agent_start*(): the agent that adopted streams belong to. */
void agent_expect(struct agent *a, uint64_t agent_id);

/* What the guest did that an honest one does not, and what was thrown away. */
struct agent_counters {
	uint64_t frames;		/* good frames */
	uint64_t stale;			/* of an older epoch or a finished stream: dropped */
	uint64_t violations;		/* rules broken; each ends the connection */
	uint64_t noise;			/* meaningless but harmless frames */
	uint64_t desyncs;		/* places where the byte stream was not a frame */
	uint64_t connects;		/* connections made */
	uint64_t resyncs;		/* HELLO_ACKs after the first */
	char last_violation[48];	/* which rule; a constant text of ours */
};
void agent_get_counters(const struct agent *a, struct agent_counters *ret);

/*
 * Requests. payload: TLVs only (the op is put in front); NULL = none. error: 0, positive errno from
 * the guest, or negative errno from this side (-ECONNRESET, -ECANCELED). reply: TLVs, valid during
 * the call only.
 */
typedef void (*agent_reply_fn)(void *userdata, int error, const uint8_t *reply, size_t len);
/* -ENOBUFS: too many, or too much, waiting. -E2BIG: above DCLW_REQUEST_MAX. ret may be NULL. */
int agent_request_send(struct agent *a, uint16_t op, const struct wire_writer *payload,
		       agent_reply_fn fn, void *userdata, struct agent_request **ret);
/* In a reply callback with a positive error: the guest's sentence about it, "" when it gave none.
 * Escape before use. */
const char *agent_message(const struct agent *a);
/* Forget the caller: the reply will be swallowed. The request itself may still take effect. The
 * handle is dead after this call, after the reply, and after agent_free(). */
void agent_request_cancel(struct agent_request *r);

/*
 * Streams. The host opens all of them: first the stream object (which has an id), then the request
 * that names the id. Incoming bytes are delivered in order; credit is granted only by
 * agent_stream_consumed().
 *
 * When the request that names a stream fails, its callback is the only news: the stream is over
 * without end(). agent_free() leaves streams to their owners, who free them before or after;
 * nothing else can be done with them then. end() comes once; an OUT stream ends with 0 when all up
 * to its FIN was acknowledged.
 */
struct agent_stream_ops {
	/* len bytes at offset; the callee copies what it wants to keep. */
	void (*data)(void *userdata, uint64_t offset, const uint8_t *data, size_t len);
	/* The guest lost bytes [from, to): only after a resync. */
	void (*gap)(void *userdata, uint64_t from, uint64_t to);
	/* End of incoming bytes (error 0), or the stream was reset (positive errno) or lost
	 * (negative). */
	void (*end)(void *userdata, int error);
	/* Room for outgoing bytes again after agent_stream_write() took less than offered. May be
	 * NULL. */
	void (*writable)(void *userdata);
	/* The guest took everything up to offset (acknowledged); for stdin and uploads. May be
	 * NULL. */
	void (*acked)(void *userdata, uint64_t offset);
};
enum agent_stream_dir { AGENT_STREAM_IN, AGENT_STREAM_OUT };	/* seen from the host */

/* window: receive credit kept open for the guest (IN), bytes buffered for replay (OUT). */
int agent_stream_open(struct agent *a, enum agent_stream_dir dir, uint32_t window,
		      const struct agent_stream_ops *ops, void *userdata,
		      struct agent_stream **ret);
/* Re-attach after a daemon restart to a stream the guest still has: next byte wanted is offset. */
int agent_stream_adopt(struct agent *a, uint32_t id, enum agent_stream_dir dir, uint64_t offset,
		       uint32_t window, const struct agent_stream_ops *ops, void *userdata,
		       struct agent_stream **ret);
uint32_t agent_stream_id(const struct agent_stream *s);
/* Returns bytes taken (0..len), or negative errno. */
ssize_t agent_stream_write(struct agent_stream *s, const void *data, size_t len);
int agent_stream_finish(struct agent_stream *s);	/* FIN after what was written */
/* OUT: the offset behind the last byte written, as acked() counts. Of an adopted one only once it
 * took a byte. */
uint64_t agent_stream_offset(const struct agent_stream *s);
void agent_stream_consumed(struct agent_stream *s, size_t n);
/* Tells the guest that the stream is over, with a positive errno; no callback is made any more. */
void agent_stream_reset(struct agent_stream *s, int error);
/* Resets the stream if it is not over. */
struct agent_stream *agent_stream_free(struct agent_stream *s);

/* --- typed operations (daemon/agent/ops.c), thin builders over agent_request_send() --- */

struct agent_proc_spec {
	uint64_t token;			/* random, never 0 */
	const char *const *argv;	/* NULL terminated */
	const char *const *env;		/* NULL terminated NAME=value; may be NULL */
	const char *user;		/* NULL = root */
	const char *cwd;		/* NULL = home of the user */
	struct agent_stream *in, *out, *err;	/* NULL = /dev/null; err NULL with a PTY */
	uint32_t rows, cols;		/* both non-zero: a PTY */
};
/* -E2BIG: argv and env are more than DCLW_REQUEST_MAX together. The guest's kernel takes at most
 * 128 KiB in one string; more is E2BIG in the callback. */
typedef void (*agent_pid_fn)(void *userdata, int error, uint32_t pid);
int agent_proc_start(struct agent *a, const struct agent_proc_spec *spec, agent_pid_fn fn,
		     void *userdata);
typedef void (*agent_done_fn)(void *userdata, int error);
int agent_proc_signal(struct agent *a, uint32_t pid, int signal, bool group, agent_done_fn fn,
		      void *userdata);
int agent_proc_forget(struct agent *a, uint32_t pid);
/* What the guest still has, for recovery: called once per process, then once with proc NULL and the
 * error. */
struct agent_proc {
	uint64_t token;
	uint32_t pid;
	uint32_t in, out, err;	/* stream ids, 0 = none */
	bool exited, signalled;
	uint32_t status;
};
typedef void (*agent_proc_fn)(void *userdata, int error, const struct agent_proc *proc);
int agent_proc_list(struct agent *a, agent_proc_fn fn, void *userdata);
int agent_pty_resize(struct agent *a, uint32_t pid, uint32_t rows, uint32_t cols, agent_done_fn fn,
		     void *userdata);

/* As on the wire (enum dclw_ftype, enum dclw_change) */
enum agent_file_type { AGENT_FILE, AGENT_FILE_DIR, AGENT_FILE_OTHER };
enum agent_file_change {
	AGENT_CHANGE_CREATE = 1,
	AGENT_CHANGE_MODIFY,
	AGENT_CHANGE_DELETE,
	AGENT_CHANGE_OVERFLOW
};

struct agent_file_info {
	char *path;		/* borrowed, valid during the call */
	uint32_t type;		/* enum agent_file_type, of the target for symlinks */
	uint32_t mode, uid, gid;
	uint64_t size;
	uint64_t mtime_nsec;
	bool created;		/* mkdir: the directory did not exist */
	uint32_t change;	/* watch: enum agent_file_change */
};
/* info is NULL when error != 0 */
typedef void (*agent_file_fn)(void *userdata, int error, const struct agent_file_info *info);
/* Content arrives on `in`, ended by end(0); the reply (with size) comes before the first byte. */
int agent_file_read(struct agent *a, const char *path, const char *user, struct agent_stream *in,
		    agent_file_fn fn, void *userdata);
/* Content is written to `out` and finished; the reply comes after the atomic rename. */
int agent_file_write(struct agent *a, const char *path, const char *user, uint32_t mode,
		     struct agent_stream *out, agent_file_fn fn, void *userdata);
int agent_file_stat(struct agent *a, const char *path, agent_file_fn fn, void *userdata);
/*
 * Entries arrive on `in` as TLV entries (so do those of a watch). agent_file_entry_next() walks a
 * buffer of them: 1 and an entry (pos and len behind it), 0 at the end, -EBADMSG or -ENAMETOOLONG.
 * An entry cut by the end of the buffer is -EBADMSG too: agent_file_entry_size() tells first, for
 * who parses while it streams.
 */
int agent_file_list(struct agent *a, const char *path, uint32_t depth, struct agent_stream *in,
		    agent_done_fn fn, void *userdata);
int agent_file_entry_next(const uint8_t **pos, size_t *len, struct agent_file_info *ret,
			  char *path_buf, size_t path_size);
/* Bytes of the entry at data, 0 when more than len are needed to know or to have it. -EBADMSG: can
 * be none. */
ssize_t agent_file_entry_size(const uint8_t *data, size_t len);
int agent_file_mkdir(struct agent *a, const char *path, const char *user, agent_file_fn fn,
		     void *userdata);
int agent_file_rename(struct agent *a, const char *from, const char *to, const char *user,
		      agent_file_fn fn, void *userdata);
int agent_file_remove(struct agent *a, const char *path, agent_done_fn fn, void *userdata);
int agent_file_watch(struct agent *a, const char *path, bool recursive, struct agent_stream *in,
		     agent_done_fn fn, void *userdata);
/* TCP to 127.0.0.1:port inside the guest */
int agent_connect_port(struct agent *a, uint16_t port, struct agent_stream *in,
		       struct agent_stream *out, agent_done_fn fn, void *userdata);

struct agent_identity {
	const char *hostname, *machine_id;	/* machine_id: 32 hex */
	const char *address, *gateway, *gateway_mac, *dns, *mac;	/* NULL = leave */
	const void *entropy;
	size_t entropy_len;
	uint64_t time_nsec;			/* CLOCK_REALTIME to set; 0 = leave */
};
int agent_set_identity(struct agent *a, const struct agent_identity *id, agent_done_fn fn,
		       void *userdata);
int agent_set_time(struct agent *a, uint64_t time_nsec, agent_done_fn fn, void *userdata);
int agent_fs_freeze(struct agent *a, agent_done_fn fn, void *userdata);
int agent_fs_thaw(struct agent *a, agent_done_fn fn, void *userdata);

int agent_shutdown(struct agent *a, agent_done_fn fn, void *userdata);

struct agent_stats { uint64_t mem_total, mem_available, disk_used, disk_total, cpu_usec; };
typedef void (*agent_stats_fn)(void *userdata, int error, const struct agent_stats *st);
int agent_get_stats(struct agent *a, agent_stats_fn fn, void *userdata);

#endif
