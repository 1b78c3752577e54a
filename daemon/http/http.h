/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HTTP/1.1 on libmicrohttpd in external epoll mode, on the loop thread.
 *
 * A route has a method, a pattern ("/sandboxes/{id}/commands/{pid}"; a last "{rest*}" takes the remaining path), a
 * body mode and a handler. Order of events for a request: route lookup, authorisation (server's hook), body, handler.
 * The handler runs once, on the loop; it may answer at once or keep the request and answer later from any loop callback.
 * Exactly one of http_reply*(), http_stream_begin() ends it. When the client goes away first, the cancel callback is
 * made, and the request must not be touched after it returns.
 *
 * Everything is bounded: header memory, connections, connections per address, body bytes, pending output.
 */
#ifndef DECLAW_HTTP_H
#define DECLAW_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

struct http_server;
struct http_request;

enum http_body {
	HTTP_BODY_NONE,		/* a body is read and thrown away (clients send JSON headers on GET) */
	HTTP_BODY_BUFFER,	/* collected up to the server's json_body_max, else 413 */
	HTTP_BODY_STREAM,	/* handler runs at once and takes the body with http_body_start() */
};

typedef void (*http_handler_fn)(struct http_request *req, void *userdata);

struct http_route {
	const char *method;	/* "*" = any */
	const char *pattern;
	enum http_body body;
	bool open;		/* no authorisation */
	http_handler_fn handler;
};

struct http_server_config {
	const char *const *listen;	/* "127.0.0.1:8080", "[::1]:8080"; NULL terminated */
	const int *listen_fds;		/* sockets from the service manager instead; n_listen_fds */
	size_t n_listen_fds;
	size_t json_body_max;
	unsigned int connections_max, connections_per_address_max;
	unsigned int idle_timeout_sec;
	size_t stream_pending_max;	/* bytes a response stream buffers */
};

struct http_server_ops {
	/* Sets the request's principal (http_request_set_principal) and returns true, or answers 401 itself and returns
	 * false. key: the bearer token or X-API-Key, NULL when neither was sent. */
	bool (*authorise)(void *userdata, struct http_request *req, const char *key);
	/* No route. Must answer. */
	void (*not_found)(void *userdata, struct http_request *req);
	/* The server itself refuses: 400 malformed, 405, 413, 431, 503. Must answer in the error form of the API. */
	void (*refused)(void *userdata, struct http_request *req, int status);
};

/*
 * routes ends with method NULL and must outlive the server. userdata goes to handlers and ops. Zero in config means the
 * built-in limit. listen_fds stay the caller's. A port of 0 is chosen by the kernel.
 */
int http_server_new(sd_event *event, const struct http_server_config *config, const struct http_route *routes,
		    const struct http_server_ops *ops, void *userdata, struct http_server **ret);
/* Cancels all requests, then closes; none may be touched after. Not from inside a handler or a body callback. */
struct http_server *http_server_free(struct http_server *s);
/* TCP port of the i-th listening socket (those of config.listen first), 0 when there is none */
uint16_t http_server_port(const struct http_server *s, size_t i);

/* --- the request; strings are borrowed and live as long as it --- */
const char *http_request_method(const struct http_request *req);
const char *http_request_path(const struct http_request *req);			/* decoded once, no query */
const char *http_request_param(const struct http_request *req, const char *name);	/* {name} of the pattern, decoded */
const char *http_request_raw_param(const struct http_request *req, const char *name);	/* as sent, still escaped */
const char *http_request_raw_query(const struct http_request *req);		/* behind the '?', as sent; NULL without */
const char *http_request_header(const struct http_request *req, const char *name);
/* Every header in the order sent; fn returns false to stop. */
void http_request_each_header(const struct http_request *req,
			      bool (*fn)(void *userdata, const char *name, const char *value), void *userdata);
/* '+' and %20 are spaces; NULL when absent. The n-th of several of that name. */
const char *http_request_query(const struct http_request *req, const char *name, unsigned int n);
const char *http_request_body(const struct http_request *req, size_t *ret_len);	/* BUFFER only; "" when empty */
/* Content-Length, or -1 when chunked */
int64_t http_request_content_length(const struct http_request *req);
/* Calls the route's handler again, which has not answered: for one that waited for something. Not from inside it. */
void http_request_again(struct http_request *req);
void http_request_set_principal(struct http_request *req, const void *principal);
const void *http_request_principal(const struct http_request *req);
/*
 * One slot: called when the client left before the answer was complete (also while streaming). NULL clears. Without a
 * callback the request stays valid until it is answered or its stream ended, and what is sent to it is dropped. Set
 * after the client left, it is called from the loop soon.
 */
void http_request_on_cancel(struct http_request *req, void (*fn)(void *userdata), void *userdata);

/*
 * --- answers ---
 * After http_reply() the request must not be touched, whatever it returned (-ECANCELED: the client has left; any other
 * error: the connection is closed). An answer given before the request's body ended throws the rest of the body away; a
 * streamed answer starts after that.
 */
int http_reply(struct http_request *req, int status, const char *content_type, const void *body, size_t len);
/* Before the answer; e.g. Retry-After, Location. */
int http_reply_header(struct http_request *req, const char *name, const char *value);

/*
 * Streamed answer: headers go out at once. Write at most http_stream_room() bytes; room(userdata) is called when the
 * client took enough for more. size -1 = chunked. End exactly once; http_stream_abort() closes without a clean end.
 * Neither may the request be touched after. Begin fails only when the request was answered before: a client that has
 * left is told by the cancel callback, as later. Write takes all or nothing: -ENOBUFS beyond the room, -EMSGSIZE beyond
 * size, -EPIPE when the client has left.
 */
struct http_stream_ops { void (*room)(void *userdata); };
int http_stream_begin(struct http_request *req, int status, const char *content_type, int64_t size,
		      const struct http_stream_ops *ops, void *userdata);
size_t http_stream_room(const struct http_request *req);
int http_stream_write(struct http_request *req, const void *data, size_t len);
void http_stream_end(struct http_request *req);
void http_stream_abort(struct http_request *req);

/*
 * 101: the connection carries the bytes of another protocol from here on. protocol: the Upgrade header's value; other
 * headers by http_reply_header(). take() is as for streamed bodies, with http_upgrade_continue(); end(): the client sends
 * no more. Write returns how many bytes the socket took (room() follows when that was less than offered), or -EPIPE.
 * End once; or the cancel callback comes. Only for requests without a body.
 */
struct http_upgrade_ops {
	size_t (*take)(void *userdata, const void *data, size_t len);
	void (*end)(void *userdata);
	void (*room)(void *userdata);
};
int http_upgrade(struct http_request *req, const char *protocol, const struct http_upgrade_ops *ops, void *userdata);
ssize_t http_upgrade_write(struct http_request *req, const void *data, size_t len);
void http_upgrade_continue(struct http_request *req);
void http_upgrade_end(struct http_request *req);

/*
 * Streamed body (HTTP_BODY_STREAM): take() returns how many bytes it took (0..len); less pauses the client until
 * http_body_continue(). end(): the body is complete.
 */
struct http_body_ops {
	size_t (*take)(void *userdata, const void *data, size_t len);
	void (*end)(void *userdata);
};
int http_body_start(struct http_request *req, const struct http_body_ops *ops, void *userdata);
void http_body_continue(struct http_request *req);

#endif
