/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The REST skin: parse, call core, render. One file per resource; what they share is here.
 *
 * Handlers get the manager as userdata. Every error leaves through api_fail(), whose table (errors.c) is the only place
 * that knows status codes, machine codes and sentences.
 */
#ifndef DECLAW_API_H
#define DECLAW_API_H

#include "core/manager.h"
#include "core/proc.h"
#include "http/http.h"
#include "util/json.h"

struct egress_change;

extern const struct http_route api_routes[];
extern const struct http_server_ops api_server_ops;

/* errors.c: answers {"message","code"}; detail is put into the sentence where it has a place for one. */
void api_fail(struct http_request *req, enum fault fault, const char *detail);
const char *api_fault_code(enum fault fault);
int api_fault_status(enum fault fault);
/* The same sentence without answering, malloc'ed: for streams and kill-many */
char *api_fault_text(enum fault fault, const char *detail);
/* errno of a file operation in the guest -> fault */
enum fault api_file_fault(int error);

/* What the sentence of that fault is about: the path, the user, or the error itself. Borrowed. */
const char *api_file_detail(int error, const char *path);
/* negative errno of an agent call -> fault */
enum fault api_agent_fault(int error);
/* Checks path and username; answers itself and returns false when they cannot be used. user may be NULL. */
bool api_path_ok(struct http_request *req, const char *path, const char *user);
/* Queues bytes for a process and answers {} when it has taken them. */
void api_stdin(struct http_request *req, struct proc *p, const void *data, size_t len);

/* Answers; o is taken. */
void api_reply(struct http_request *req, int status, json_object *o);
/* Parses the body as an object; answers itself and returns NULL when it is none. An empty body is {}. */
json_object *api_body(struct http_request *req);

/* Caller's name and whether it may see everything */
const char *api_owner(const struct http_request *req);
const char *api_tier(const struct http_request *req);
bool api_is_admin(const struct http_request *req);
/* The sandbox of {id} that the caller may see; answers 404 itself. Borrowed. */
struct sandbox *api_sandbox(struct manager *m, struct http_request *req);
/* The same, and the daemon knows what became of it since the last one. NULL: answered, or waits as below. */
struct sandbox *api_sandbox_recovered(struct manager *m, struct http_request *req);
/*
 * The same, running or paused, and nothing is being done to it. NULL: answered (404; 410 for a killed one; 409 for one
 * that is being created), or the request waits and its handler will be called again. So handlers ask for their sandbox
 * first.
 */
struct sandbox *api_sandbox_live(struct manager *m, struct http_request *req);
/* A paused one at rest is resumed, then the handler is called again. */
void api_sandbox_wake(struct sandbox *sb, struct http_request *req);
/* The gate of the data plane: the sandbox runs. NULL: answered 404, 409, 410, or waiting as above. */
struct sandbox *api_sandbox_running(struct manager *m, struct http_request *req);

/* render.c */
json_object *api_sandbox_object(const struct sandbox *sb);
json_object *api_policy_enforcement(const struct sandbox *sb);

/* options.c: the create body, validated. On a fault *ret_detail is malloc'ed and nothing is kept. */
enum fault api_options_parse(struct manager *m, json_object *body, struct sandbox_options *ret, char **ret_detail);
/* A network object, validated; what is in ret is the caller's. detail as above. */
enum fault api_network_parse(json_object *network, bool inspection, struct egress_change *ret, char **ret_detail);
/* {str: str} within limits; 0, or -EINVAL with a malloc'ed sentence */
int api_string_map(json_object *body, const char *key, unsigned int pairs_max, size_t bytes_max, bool env_names,
		   json_object **ret, char **ret_detail);

/* outjson.c: {"stdout","stderr","exit_code"} of an ended process, streamed when it is large. Takes over req. */
void api_reply_output(struct http_request *req, struct proc *p);

void network_get(struct http_request *req, void *userdata);
void network_patch(struct http_request *req, void *userdata);
void health_get(struct http_request *req, void *userdata);
void sandboxes_create(struct http_request *req, void *userdata);
void sandboxes_list(struct http_request *req, void *userdata);
void sandboxes_get(struct http_request *req, void *userdata);
void sandboxes_delete(struct http_request *req, void *userdata);
void sandboxes_kill_many(struct http_request *req, void *userdata);
void sandboxes_status(struct http_request *req, void *userdata);
void sandboxes_timeout(struct http_request *req, void *userdata);
void audit_get(struct http_request *req, void *userdata);
void metrics_get(struct http_request *req, void *userdata);
void snapshots_make(struct http_request *req, void *userdata);
void snapshots_of(struct http_request *req, void *userdata);
void snapshots_list(struct http_request *req, void *userdata);
void snapshots_restore(struct http_request *req, void *userdata);
void snapshots_delete(struct http_request *req, void *userdata);
void lifecycle_pause(struct http_request *req, void *userdata);
void lifecycle_resume(struct http_request *req, void *userdata);
void commands_run(struct http_request *req, void *userdata);
void commands_list(struct http_request *req, void *userdata);
void commands_kill(struct http_request *req, void *userdata);
void commands_stdin(struct http_request *req, void *userdata);
void commands_wait(struct http_request *req, void *userdata);
void commands_stream(struct http_request *req, void *userdata);
void stdio_start(struct http_request *req, void *userdata);
void stdio_stdin(struct http_request *req, void *userdata);
void stdio_close(struct http_request *req, void *userdata);
void stdio_kill(struct http_request *req, void *userdata);
void stdio_stream(struct http_request *req, void *userdata);
void pty_create(struct http_request *req, void *userdata);
void pty_stdin(struct http_request *req, void *userdata);
void pty_resize(struct http_request *req, void *userdata);
void pty_kill(struct http_request *req, void *userdata);
void pty_stream(struct http_request *req, void *userdata);
void files_read(struct http_request *req, void *userdata);
void files_write(struct http_request *req, void *userdata);
void files_write_raw(struct http_request *req, void *userdata);
/* ANY method; the body streams */
void ports_proxy(struct http_request *req, void *userdata);
void files_batch(struct http_request *req, void *userdata);
void files_list(struct http_request *req, void *userdata);
void files_exists(struct http_request *req, void *userdata);
void files_info(struct http_request *req, void *userdata);
void files_remove(struct http_request *req, void *userdata);
void files_rename(struct http_request *req, void *userdata);
void files_mkdir(struct http_request *req, void *userdata);
void files_watch(struct http_request *req, void *userdata);
void files_watch_check(struct http_request *req, void *userdata);
/* routes that later versions own, and those nobody does */
void route_later(struct http_request *req, void *userdata);

#endif
