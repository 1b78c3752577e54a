/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of http/ share.
 *
 * One MHD daemon per listening socket, in external epoll mode. A request is allocated when MHD has read its request
 * line and has two owners: MHD, until its completion callback, and the handler, until it has answered, ended its
 * stream, or was cancelled. It is freed when both are through with it.
 *
 * Calls of http.h never call back and never run MHD: they note what is wanted (wake the connection, work flags) and the
 * listener's kick does it from the loop. MHD itself calls us (access handler, content reader) from MHD_run() only.
 */
#ifndef DECLAW_HTTP_INTERNAL_H
#define DECLAW_HTTP_INTERNAL_H

#include <microhttpd.h>

#include "http/http.h"
#include "http/router.h"
#include "util/list.h"
#include "util/str.h"

#define HTTP_POOL_SIZE (64 * 1024)	/* MHD's memory of a connection: headers, read buffer, one chunk */
#define HTTP_HEADERS_MAX (32 * 1024)	/* beyond: 431 in our form; beyond the pool MHD refuses by itself */
#define HTTP_JSON_BODY_MAX (10 * 1024 * 1024)
#define HTTP_PENDING_MAX (256 * 1024)
#define HTTP_CONNECTIONS_MAX 1024
#define HTTP_CONNECTIONS_SLACK 64	/* accepted beyond the limit to be told 503; the rest waits in the backlog */
#define HTTP_IDLE_SEC 75
#define HTTP_STALL_SEC 3600		/* a streamed answer whose reader takes nothing; TCP finds dead peers sooner */
/* Unread body worth reading before an early answer: covers JSON bodies that are half too large, so that a client behind a
 * proxy reads its 413 instead of a reset */
#define HTTP_DRAIN_MAX (16 * 1024 * 1024)
#define HTTP_LINGER_MAX (64 * 1024 * 1024)	/* unread body read so that the early answer is not lost to a reset */
#define HTTP_REPLY_HEADERS_MAX 64	/* the proxy passes on what a server in a guest sends */
/* MHD's buffer of a response of known size (chunks use its pool): as much as comes from a guest at once */
#define HTTP_BLOCK_SIZE (128 * 1024)
#define HTTP_BLOCK_SIZE_UNUSED 4096	/* ... of unknown size: only for HTTP/1.0 */
#define HTTP_SPINS 4			/* MHD_run() calls in a row before other event sources get their turn */

struct http_listener {
	struct http_server *server;
	struct MHD_Daemon *mhd;
	sd_event_source *io, *timer;
	uint64_t deadline;	/* of the armed timer; UINT64_MAX: not armed */
	uint16_t port;
	bool kick;		/* MHD_run() is due */
};

struct http_server {
	sd_event *event;
	struct http_server_config config;	/* listen, listen_fds not kept */
	const struct http_route *routes;
	struct http_server_ops ops;
	void *userdata;
	struct http_listener *listeners;
	size_t n_listeners;
	sd_event_source *kick;
	struct list conns, requests;
	struct list work;		/* requests with callbacks due */
	unsigned int n_conns;
};

struct http_conn {
	struct http_listener *listener;
	struct MHD_Connection *mhd;
	struct list link;
	struct http_request *req;	/* the one being served */
	sd_event_source *hup_watch;
	int fd;
	bool over_limit;
	bool left;			/* the peer has closed its side */
	bool timeout_changed;
	uint8_t address[16];
};

enum http_phase {
	HTTP_PHASE_HEAD,	/* request line read; headers still coming */
	HTTP_PHASE_BODY,	/* headers read, body (if any) not complete */
	HTTP_PHASE_FULL,	/* all read; waits for the answer */
	HTTP_PHASE_ANSWER,	/* response handed to MHD */
	HTTP_PHASE_DONE,	/* MHD is through with it; conn is NULL */
};

enum http_work {
	HTTP_WORK_ROOM = 1,	/* room callback */
	HTTP_WORK_LEFT = 2,	/* client left: cancel */
};

struct http_ring {
	char *data;
	size_t size, head, len, max;
};

struct http_stream {
	struct http_stream_ops ops;
	void *userdata;
	struct http_ring pending;
	int64_t size;		/* -1: unknown */
	uint64_t accepted;	/* bytes written so far */
	bool begun, ended, aborted;
	bool want_room;		/* the handler saw less than all the room */
};

struct http_request {
	struct http_server *server;
	struct http_conn *conn;
	struct list link, work_link;
	unsigned int work;
	enum http_phase phase;
	int target_error;		/* of uri_parse() */
	char method[ROUTE_METHOD_MAX];
	struct uri uri;
	struct route_match match;
	char *rest_raw[ROUTE_PARAMS_MAX];	/* NUL terminated copies handed out */
	const void *principal;

	bool suspended;		/* in MHD */
	bool parked;		/* suspended before the body, in MHD's first call */
	bool handled;		/* the handler was called */
	bool answered;		/* reply or stream_begin was called */
	bool user_done;		/* no handler or hook has it (yet, or any more) */
	bool gone;		/* close the connection */
	bool cancelling;	/* inside the cancel callback */
	bool raw_sent;		/* answered past MHD; only the unread body keeps the connection */

	void (*cancel)(void *userdata);
	void *cancel_userdata;

	int64_t content_length;	/* -1: chunked */
	uint64_t body_seen, body_dropped;
	bool expect_continue;
	struct buf body;
	struct http_body_ops body_ops;
	void *body_userdata;
	bool body_started, body_paused, body_taking, body_continued, body_ended;

	struct MHD_Response *response;	/* made, not yet queued */
	unsigned int status;
	struct { char *name, *value; } header[HTTP_REPLY_HEADERS_MAX];
	size_t n_headers;
	struct http_stream stream;
	struct http_tunnel *tunnel;	/* NULL: not upgraded */
};

/* listen.c */
int listen_open(const char *text);
int listen_adopt(int fd);
uint16_t listen_port(int fd);

/* server.c */
void listener_kick(struct http_listener *l);

/* upgrade.c */
struct MHD_Response *tunnel_response(struct http_request *req, const char *protocol);
int tunnel_new(struct http_request *req, const struct http_upgrade_ops *ops, void *userdata);
bool tunnel_is_open(const struct http_request *req);
void tunnel_close(struct http_request *req);
void tunnel_free(struct http_request *req);

/* conn.c: MHD's notification, and the watch for peers that leave */
void conn_notify(void *userdata, struct MHD_Connection *mhd, void **socket_context,
		 enum MHD_ConnectionNotificationCode code);
struct http_conn *conn_of(struct MHD_Connection *mhd);
void conn_watch(struct http_conn *c);
void conn_unwatch(struct http_conn *c);
void conn_set_timeout(struct http_conn *c, unsigned int sec);
/* Makes MHD notice at once that a connection it is not suspended on is over. */
void conn_cut(struct http_conn *c);

/* request.c */
void *request_on_uri(void *userdata, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result request_on_access(void *userdata, struct MHD_Connection *mhd, const char *url, const char *method,
				  const char *version, const char *data, size_t *size, void **context);
void request_on_completed(void *userdata, struct MHD_Connection *mhd, void **context,
			  enum MHD_RequestTerminationCode code);
struct http_request *request_free(struct http_request *req);
/* The client left, or the answer cannot be delivered: cancel, once. Loop only, never from a call of http.h. */
void request_gone(struct http_request *req);
/* Closes the connection without telling the handler. */
void request_cut(struct http_request *req);
/* The handler is through with it; frees when MHD is, too. */
void request_finish(struct http_request *req);
void request_suspend(struct http_request *req);
void request_wake(struct http_request *req);
void request_add_work(struct http_request *req, unsigned int work);
void request_run_work(struct http_request *req);
void request_must_be_answered(struct http_request *req);
void request_refuse(struct http_request *req, int status);
void request_not_found(struct http_request *req);
void request_call_handler(struct http_request *req);

/* headers.c: checks before anything is done for a request */
void request_check_head(struct http_request *req, const char *version);

/* reply.c */
enum MHD_Result request_queue_answer(struct http_request *req);

/* body.c */
/* Takes what MHD offers; *size becomes what is left. */
enum MHD_Result body_data(struct http_request *req, const char *data, size_t *size);
/* The body is complete: end callback, once. */
void body_complete(struct http_request *req);
static inline bool request_has_body(const struct http_request *req)
{
	return req->content_length != 0;
}
/* How much of the body may still come: UINT64_MAX when unknown. */
static inline uint64_t request_body_left(const struct http_request *req)
{
	if (req->phase >= HTTP_PHASE_FULL)
		return 0;
	return req->content_length < 0 ? UINT64_MAX : (uint64_t)req->content_length - req->body_seen;
}

/* stream.c */
struct MHD_Response *stream_response(struct http_request *req);
void stream_done(struct http_stream *s);
/* All of a response of known size was written. */
static inline bool stream_is_whole(const struct http_stream *s)
{
	return s->begun && s->size >= 0 && s->accepted == (uint64_t)s->size;
}
/* Nobody will get what the handler still has to say. */
static inline bool request_is_lost(const struct http_request *req)
{
	return req->gone || (!req->conn && !stream_is_whole(&req->stream));
}

#endif
